"""The pages in docs/: code runs and prints what they say, nothing public is missing, pictures are those of the script."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import hypothesis
import matplotlib
import pytest
from cases import EVERY_CRITERION

from docs import check_site
from docs.pictures import gallery, notebook
from docs.pictures.__main__ import FOLDER, PICTURES, draw_all

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
WITH_CODE = [page for page in PAGES if "```python" in page.read_text()]
PACKAGES = ("ragged", "matchers", "losses", "ragged.testing", "matchers.testing", "losses.testing")


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
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(DOCS)))
def test_code_prints_what_the_page_says(
    page: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment after ``print(…)`` is its line; a block of text is what is printed besides, up to "…"."""
    monkeypatch.chdir(tmp_path)  # where a page may save pictures
    names: dict[str, object] = {"__name__": "page"}
    unsaid = ""
    for language, block in re.findall(r"```(python|text)\n(.*?)```", page.read_text(), flags=re.DOTALL):
        if language == "text":
            said, has_more, _ = block.strip().partition("…")
            assert said, "an empty block"
            assert unsaid.startswith(said) if has_more else unsaid.strip() == said, f"{unsaid!r} was printed"
            unsaid = ""
            continue
        assert not unsaid, f"the page does not say that {unsaid!r} is printed"
        exec(compile(block, str(page), "exec"), names)
        printed = capsys.readouterr().out.splitlines(keepends=True)
        comments = re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE)
        assert [line.rstrip("\n") for line in printed[: len(comments)]] == comments
        unsaid = "".join(printed[len(comments) :])
    assert not unsaid, f"the page does not say that {unsaid!r} is printed"


def test_files_that_are_named_exist() -> None:
    for page in (*PAGES, DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"):
        for name in re.findall(
            r"`((?:ragged|matchers|losses|tests|example|benchmarks)/[\w/]*\w\.py)`", page.read_text()
        ):
            assert (DOCS.parent / name).is_file(), f"{page.name} names {name}"


@pytest.mark.parametrize("name", ["detr", "yolox"])
def test_calls_go_through_the_files_in_the_order_that_the_page_says(name: str) -> None:
    case = EVERY_CRITERION[name]
    criterion, predictions = case.make(), case.predictions([2, 0, 3])
    targets = case.targets([2, 0, 3]).to_dicts()
    seen: dict[str, None] = {}

    def note(frame: Any, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(DOCS.parent):
            seen.setdefault(path.relative_to(DOCS.parent).as_posix())

    sys.setprofile(note)
    try:
        criterion(predictions, targets)
    finally:
        sys.setprofile(None)
    section = (DOCS / "inside.md").read_text().split("\n## ")[1 + ["detr", "yolox"].index(name)]
    said = re.findall(r"^\| \d \| `(.*?)`", section, flags=re.MULTILINE)
    assert said and said == [file for file in seen if file in said]


def test_there_are_no_dead_links() -> None:
    assert WITH_CODE
    for page in (*PAGES, DOCS.parent / "README.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {DOCS / "index.md"}
    for page in PAGES:
        for entries in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), flags=re.DOTALL):
            lines = [line for line in entries.splitlines() if line and not line.startswith(":")]
            names = [line.rpartition("<")[2].removesuffix(">") for line in lines]
            listed |= {page.parent / f"{name}.md" for name in names}
    assert listed == set(PAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_reference_has_every_public_name_once(package: str) -> None:
    found: list[str] = []
    for page in PAGES:
        for owner, block in re.findall(r"```\{public-names\} (\S+)\n(.*?)```", page.read_text(), flags=re.DOTALL):
            found += block.split() if owner == package else []
    assert sorted(found) == sorted(importlib.import_module(package).__all__)


def test_pictures_are_those_of_the_script(tmp_path: Path) -> None:
    drawn = {path.name: path for path in draw_all(tmp_path)}
    assert len(drawn) == 2 * len(PICTURES)
    assert drawn.keys() == {path.name for path in FOLDER.iterdir()}
    for name, path in drawn.items():
        committed = (FOLDER / name).read_text()
        if f"Matplotlib v{matplotlib.__version__}," in committed:  # others may draw letters otherwise
            assert path.read_text() == committed, f"{name} is old: python -m docs.pictures"


def test_pictures_are_shown() -> None:
    text = "".join(page.read_text() for page in PAGES)
    shown = re.findall(r"```\{picture\} (\S+)", text)
    assert set(shown) == PICTURES.keys()


def test_check_of_the_site_finds_what_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    links = (
        '<a href="other.html#there">1</a><a href="other.html#gone">2</a><img src="gone.svg"><a href="https://x.y">3</a>'
    )
    (tmp_path / "one.html").write_text(links)
    (tmp_path / "other.html").write_text('<p id="there"></p><p id="ragged.combine_data"></p>')
    assert check_site.main(tmp_path) == 1
    found = capsys.readouterr().out.splitlines()
    assert found[1:3] == ["one.html: other.html#gone leads nowhere", "one.html: gone.svg leads nowhere"]
    assert "ragged.RaggedBatch is not in the reference" in found
    assert "ragged.combine_data is not in the reference" not in found
    assert found[-1] == "there is no index of the search"


def test_check_of_the_site_asks_the_search(tmp_path: Path) -> None:
    terms = {"gradient": 0, "accumul": [0, 1], "mix": 0, "precis": 0, "nan": [0], "empti": 0, "imag": 0, "ignor": 0}
    terms |= {"class": 0, "weight": 0, "multi": 0, "gpu": 0, "custom": [0, 1], "loss": 1}
    content = {"docnames": ["training", "reference/losses"], "titleterms": terms}
    (tmp_path / "searchindex.js").write_text(f"Search.setIndex({json.dumps(content)})")
    assert check_site.unfound(tmp_path) == ["the search does not find 'custom loss'"]


def test_an_executed_page_shows_what_its_cells_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = notebook.PAGE.read_text()
    assert notebook.updated(text, tmp_path) == text, "old: python -m docs.pictures.notebook"
    assert "class -1.237" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in notebook.FOLDER.iterdir()}


@pytest.mark.parametrize("page", ["tutorial", "gallery", "notebook"])
def test_every_picture_of_a_page_is_shown(page: str) -> None:
    shown = re.findall(rf"\]\(_static/{page}/(.*?)\)", (DOCS / f"{page}.md").read_text())
    assert sorted(shown) == sorted(path.name for path in (DOCS / "_static" / page).iterdir())


def test_the_gallery_is_drawn_by_its_script(tmp_path: Path) -> None:
    scores = gallery.draw("yolox", tmp_path, epochs=1, scenes=7)
    assert scores.keys() == {"mAP@0.5", "mAP@[.5:.95]"}
    assert {path.name for path in tmp_path.iterdir()} == {"yolox.png", "losses.png", "hardest.png"}
    assert {f"{name}.png" for name in gallery.FAMILIES} <= {path.name for path in gallery.FOLDER.iterdir()}
