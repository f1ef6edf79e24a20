"""Draw all pictures into ``docs/_static/pictures``, or into a folder that is named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from docs.pictures.flow import flow, reductions
from docs.pictures.indexing import indexing_access, indexing_mapping, indexing_write
from docs.pictures.matching import ignoring, kinds, matching
from docs.pictures.padding import padding
from docs.pictures.rooms import rooms
from docs.pictures.style import THEMES, Canvas, Theme, save

FOLDER = Path(__file__).parent.parent / "_static" / "pictures"
PICTURES: dict[str, Callable[[Theme], Canvas]] = {
    "padding": padding,
    "indexing-access": indexing_access,
    "indexing-write": indexing_write,
    "indexing-mapping": indexing_mapping,
    "matching": matching,
    "kinds": kinds,
    "ignoring": ignoring,
    "flow": flow,
    "reductions": reductions,
    "rooms": rooms,
}


def draw_all(folder: Path) -> list[Path]:
    """Each picture in each theme; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, picture in PICTURES.items():
        for theme in THEMES:
            files.append(folder / f"{name}-{theme.name}.svg")
            save(picture(theme), files[-1])
    return files


if __name__ == "__main__":
    print("\n".join(map(str, draw_all(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))))
