"""Execute the cells of ``docs/notebook.md``: ``python -m docs.pictures.notebook``.

Below each cell stands the value of its last expression: a table, or a plot.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

PAGE = Path(__file__).parent.parent / "notebook.md"
FOLDER = Path(__file__).parent.parent / "_static" / "notebook"
_CELL = re.compile(
    r'```python\n(.*?)```\n(?:\n<div class="output">\n.*?\n</div>\n|\n!\[.*?\]\(.*?\)\n)?',
    re.DOTALL,
)


def updated(text: str, folder: Path) -> str:
    """The page with outputs as they are now; plots are written into a folder."""
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "page"}
    number = iter(range(1, 100))

    def cell(match: re.Match[str]) -> str:
        value = value_of(match.group(1), names)
        return f"```python\n{match.group(1)}```\n{output(value, folder, lambda: next(number))}"

    return _CELL.sub(cell, text)


def value_of(code: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last expression, None if it ends with something else."""
    *statements, last = ast.parse(code).body
    if not isinstance(last, ast.Expr) or code.lstrip().startswith("print("):
        statements.append(last)
    exec(compile(ast.Module(statements, []), str(PAGE), "exec"), names)
    if last in statements:
        return None
    return eval(compile(ast.Expression(last.value), str(PAGE), "eval"), names)


def output(value: Any, folder: Path, number: Callable[[], int]) -> str:
    """What stands below a cell."""
    if value is None:
        return ""
    if hasattr(value, "_repr_html_"):
        return f'\n<div class="output">\n{value._repr_html_()}\n</div>\n'
    axes = value[0] if isinstance(value, list) else value
    folder.mkdir(parents=True, exist_ok=True)
    name = f"plot-{number()}.png"
    axes.figure.savefig(folder / name, dpi=90)
    matplotlib.pyplot.close(axes.figure)
    return f"\n![{axes.get_figure().get_suptitle() or 'The match'}](_static/notebook/{name})\n"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(), FOLDER))
