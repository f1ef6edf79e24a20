"""The course of the loss terms, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from example.logs import STEPS, by_name, read_table
from example.picture import new_figure

_MOST_IN_A_ROW = 4
_NOT_TERMS = ("step", "epoch", "learning_rate", "total")


def draw_curves(folder: Path) -> Path:
    """Draw what `example.logs.Log` wrote into a folder: a panel for the sum and for each term.

    Returns:
        The path of ``losses.png`` in the same folder.
    """
    table = read_table(folder / STEPS)
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    terms = [by_name({name: row[name] for name in row if name not in _NOT_TERMS}) for row in rows]
    curves = {"total": table["total"], **{name: [each[name] for each in terms] for name in terms[0]}}
    at = np.array(table["step"]) * len(set(table["epoch"])) / len(rows)
    columns = len(curves) if len(curves) <= _MOST_IN_A_ROW else -(-len(curves) // 2)
    grid_rows = -(-len(curves) // columns)
    figure = new_figure(3.4 * columns, 2.8 * grid_rows + 0.3)
    has_layers = len(table) - len(_NOT_TERMS) + 1 > len(curves)
    figure.suptitle("loss terms; those of all decoder layers added up" if has_layers else "loss terms", fontsize=11)
    grid = figure.subplots(grid_rows, columns, squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    for axes, (name, values) in zip(grid.flat, curves.items(), strict=False):
        axes.plot(at, values, color="#9ecae1", lw=0.8, label="each step")
        axes.plot(at, smoothed(values), color="#08519c", lw=1.8, label="mean of the last steps")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylim(0, 1.1 * float(np.quantile(values, 0.99)) or 1.0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.axes[0].legend(frameon=False, fontsize=8)
    path = folder / "losses.png"
    figure.savefig(path, dpi=110)
    return path


def smoothed(values: list[float], keep: float = 0.95) -> list[float]:
    """The running mean, in which a value counts ``keep`` times as much as the one after it.

    >>> smoothed([4.0, 4.0, 4.0])
    [4.0, 4.0, 4.0]
    """
    found, top, weight = [], 0.0, 0.0
    for value in values:
        top, weight = keep * top + value, keep * weight + 1
        found.append(top / weight)
    return found
