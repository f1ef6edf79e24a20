"""docs/first-errors.md says, word by word, what newcomers read."""

from __future__ import annotations

import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

import ragged
from matchers import Targets

PAGE = Path(__file__).parent.parent / "docs" / "first-errors.md"
TEXT = PAGE.read_text()
MISTAKES = re.findall(r"```python error\n(.*?)```\n\n```text error\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the code of the page finds: what stands in its first block, and what mistakes leave behind."""
    found: dict[str, Any] = {}
    (start,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(compile(start, str(PAGE), "exec"), found)
    return found


@pytest.mark.parametrize(("code", "said"), MISTAKES, ids=[code.splitlines()[-1] for code, _ in MISTAKES])
def test_a_mistake_ends_in_the_message_that_the_page_shows(names: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises((TypeError, ValueError, LookupError, AttributeError)) as caught:
        exec(compile(code, str(PAGE), "exec"), dict(names))
    shown = traceback.format_exception_only(caught.value)[-1]
    assert shown.split() == said.split()


def test_the_page_has_the_mistakes_that_are_made_most() -> None:
    assert len(MISTAKES) >= 40
    assert TEXT.count("```") == 2 + 2 + 4 * len(MISTAKES)  # the names, and the file that hides a package
    assert len(re.findall(r"^### ", TEXT, flags=re.MULTILINE)) >= 35


def test_a_file_that_hides_a_package_ends_in_the_message_that_the_page_shows(tmp_path: Path) -> None:
    (said,) = re.findall(r"^ImportError: .*$", TEXT, flags=re.MULTILINE)
    (tmp_path / "losses.py").touch()
    (tmp_path / "script.py").write_text("from losses import RTMDetCriterion\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("ImportError")]
    # Newer versions of Python advise in brackets to rename the file.
    assert message.startswith(said.replace("/home/you/project", str(tmp_path)).removesuffix(")"))


def test_what_nothing_can_tell_is_accepted(names: dict[str, Any]) -> None:
    """Else it belongs among the mistakes that are told."""
    box, label, truth = names["box"], names["label"], names["truth"]
    rtmdet, maps = names["rtmdet"], [names["scores"], names["distances"]]
    tiny = Targets.of([{"boxes": box / 64, "labels": label}, truth[1]])
    assert rtmdet(maps, tiny)["loss_bbox"] == 0 and rtmdet.assign(maps, tiny).num_positives.tolist() == [0, 0]
    centres = Targets.of([{"boxes": box / 64, "labels": label}], box_format="cxcywh", normalized=True)
    assert centres.num_targets.tolist() == [1]
    exchanged = Targets.of([{"boxes": box, "labels": label}], canvas_size=(48, 36)).boxes_as("xyxy", normalized=True)
    assert exchanged.max() > 1
    unmasked = {name: ragged.combine_data([each[name] for each in truth]).tensor for name in ("boxes", "labels")}
    assert Targets.of(unmasked).num_targets.tolist() == [1, 1]
