"""The code of every page in docs/ runs as printed, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import hypothesis
import pytest

PAGES = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
WITH_CODE = [page for page in PAGES if "```python" in page.read_text()]


@pytest.fixture
def _few_examples():
    """A page shows how a property test is written; ten examples show that it runs."""
    hypothesis.settings.register_profile("docs", hypothesis.settings.default, max_examples=10)
    before = hypothesis.settings.default
    hypothesis.settings.load_profile("docs")
    yield
    hypothesis.settings.register_profile("before docs", before)
    hypothesis.settings.load_profile("before docs")


@pytest.mark.usefixtures("_few_examples")
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_prints_what_the_page_says(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text()
    names: dict[str, object] = {}
    blocks = re.findall(r"```(python|text)\n(.*?)```", text, flags=re.DOTALL)
    printed = ""
    for language, block in blocks:
        if language == "text":
            said = block.strip().partition("…")[0]
            assert printed.startswith(said) and said, f"{printed!r} was printed"
            continue
        exec(compile(block, str(page), "exec"), names)
        printed = capsys.readouterr().out
        comments = re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE)
        for output, comment in zip(printed.splitlines(), comments, strict=False):
            assert output == comment


def test_there_are_no_dead_links() -> None:
    assert WITH_CODE
    for page in (*PAGES, Path(__file__).parent.parent / "README.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
