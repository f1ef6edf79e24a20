"""The pictures of the tutorial, saved by its own code: ``python -m docs.pictures.tutorial``."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from docs.pictures.gallery import keep

PAGE = Path(__file__).parent.parent / "tutorial.md"
FOLDER = Path(__file__).parent.parent / "_static" / "tutorial"


def draw(folder: Path) -> list[Path]:
    """Run the code of the page in an empty place, and bring what it saves into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    before, files = Path.cwd(), []
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})
        finally:
            os.chdir(before)
        for path in sorted(Path(place).glob("*.png")):
            keep(path, colours=128)
            files.append(Path(shutil.copy(path, folder)))
    return files


if __name__ == "__main__":
    print("\n".join(map(str, draw(FOLDER))))
