"""The README says what is true: its code runs as printed, and its commands are those that CI runs."""

from __future__ import annotations

import re
from pathlib import Path

import losses
import matchers
import ragged

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_code_prints_what_its_comments_say(capsys) -> None:
    code = "\n".join(_blocks("python"))
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    said = [line.partition("# ")[2].strip() for line in code.splitlines() if line.startswith("print(")]
    assert len(printed) == len(said) > 0
    for output, comment in zip(printed, said, strict=True):
        assert comment.startswith(output)


def test_is_short_and_begins_with_code() -> None:
    lines = README.splitlines()
    assert len(lines) < 156
    assert lines.index("```python") < 12


def test_names_in_the_tables_exist() -> None:
    table = README.partition("## Criteria and matchers")[2].partition("## Guarantees")[0]
    names = set(re.findall(r"`([A-Z]\w+)`", table))
    assert len(names) > 20
    assert names <= {*ragged.__all__, *matchers.__all__, *losses.__all__}


def test_tests_that_prove_the_guarantees_exist() -> None:
    table = README.partition("## Guarantees")[2].partition("## Speed")[0]
    found = {path.name for path in (ROOT / "tests").rglob("*")}
    names = set(re.findall(r"`(?:[\w/]*/)?(test_\w+\.py)`", table))
    folders = set(re.findall(r"`tests/(\w+)/`", table))
    assert len(names) >= 6 and len(folders) >= 3
    assert names | folders <= found


def test_commands_install_the_pinned_versions() -> None:
    commands = _blocks("bash")
    assert len(commands) == 2
    assert all("-c constraints.txt" in command for command in commands)
