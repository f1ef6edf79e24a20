"""The reference has the rooms of the code: a page documents names of one room, and each room has a page."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGES = sorted(
    path for path in (Path(__file__).parent.parent / "docs" / "reference").glob("*.md") if path.stem != "index"
)
TABLE = re.compile(r"```\{public-names\} ([\w.]+)\n(.*?)```", re.DOTALL)
# A function and its module stand side by side.
TOGETHER = {"losses.functional": "losses.modules"}
# Rooms whose names are all for the code itself.
INTERNAL = {"ragged.values"}


def room_of(module: str) -> str:
    package, *rooms = module.split(".")[:-1]
    if rooms and rooms[0] == "testing":
        rooms = rooms[:1]
    return ".".join((package, *rooms))


def names_on(page: Path) -> Iterator[tuple[str, str]]:
    """The names of a page, and their rooms; constants do not know where they are from."""
    for package, body in TABLE.findall(page.read_text()):
        for name in body.split():
            module = getattr(getattr(importlib.import_module(package), name), "__module__", None)
            if module is not None and module.partition(".")[0] in ("ragged", "matchers", "losses"):
                yield name, room_of(module)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_documents_one_room(page: Path) -> None:
    rooms = {TOGETHER.get(room, room): name for name, room in names_on(page)}
    assert len(rooms) == 1, f"{page.name} has names of several rooms: {rooms}"


def test_each_room_has_a_page() -> None:
    documented = {room for page in PAGES for _, room in names_on(page)}
    root = Path(__file__).parent.parent
    files = (
        path.relative_to(root)
        for package in ("ragged", "matchers", "losses")
        for path in root.glob(f"{package}/*/**/[a-z]*.py")
    )
    assert {room_of(".".join(path.with_suffix("").parts)) for path in files} - documented == INTERNAL
