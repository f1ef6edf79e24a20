"""Indexing: what is read from where, and written to where, for two samples side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from docs.pictures.style import Canvas, Theme

LEFT, APART = 4.6, 7.4


@dataclass(frozen=True)
class Row:
    """The cells of one sample, from left to right; None is filler."""

    canvas: Canvas
    x: float
    y: float
    cells: Sequence[str | None]
    hue: str | None

    def draw(self, *, quiet: Sequence[int] = (), numbers: float | None = None) -> Row:
        """The cells; ``quiet`` ones are grey; positions stand beside them at a distance."""
        for place, text in enumerate(self.cells):
            if text is None:
                self.canvas.filler(self.x + place, self.y)
            else:
                self.canvas.cell(
                    self.x + place, self.y, text, hue=None if place in quiet else self.hue
                )
            if numbers is not None:
                at = self.x + place + 0.5, self.y + 0.5 + numbers
                self.canvas.text(*at, str(place), color=self.canvas.theme.muted, size=7)
        return self

    def middle(self, place: int, down: float) -> tuple[float, float]:
        """A point above or below a cell."""
        return self.x + place + 0.5, self.y + 0.5 + down


def indexing_access(theme: Theme) -> Canvas:
    """``result[i, j] = data[i, indices[i, j]]``."""
    canvas = Canvas.of(theme, 18.6, 6.5)
    labels(
        canvas,
        (0.6, "input_data", "(2, 4)"),
        (3.5, "input_indices", "2 and 1 of 2"),
        (5.1, "result", "as the indices"),
    )
    for sample, (cells, indices) in enumerate(
        ((("a", "b", "c", "d"), (2, 0)), (("e", "f", "g", "h"), (1,)))
    ):
        x, hue = start(canvas, sample)
        data = Row(canvas, x, 0.6, cells, hue).draw(
            quiet=[n for n in range(4) if n not in indices], numbers=-0.72
        )
        rest = [None] * (2 - len(indices))
        index = Row(canvas, x + 1, 3.5, [*map(str, indices), *rest], None).draw()
        Row(canvas, x + 1, 5.1, [*(cells[n] for n in indices), *rest], hue).draw()
        for place, found in enumerate(indices):
            canvas.arrow(data.middle(found, 0.5), index.middle(place, -0.5), color=hue)
            canvas.arrow(index.middle(place, 0.5), index.middle(place, 1.1), color=hue)
    return canvas


def indexing_write(theme: Theme) -> Canvas:
    """``result[i, indices[i, j]] = to_write[i, j]``."""
    canvas = Canvas.of(theme, 18.6, 6.6)
    labels(
        canvas,
        (0.1, "to_write", "2 and 1 of 2"),
        (1.7, "output_indices", ""),
        (4.9, "result", "(2, 4), else as before"),
    )
    for sample, (cells, indices) in enumerate(((("x", "y"), (2, 0)), (("z",), (1,)))):
        x, hue = start(canvas, sample)
        rest = [None] * (2 - len(indices))
        source = Row(canvas, x + 1, 0.1, [*cells, *rest], hue).draw()
        index = Row(canvas, x + 1, 1.7, [*map(str, indices), *rest], None).draw()
        into = result(canvas, sample, 4.9, dict(zip(indices, cells, strict=True)))
        for place, found in enumerate(indices):
            canvas.arrow(source.middle(place, 0.5), source.middle(place, 1.1), color=hue)
            canvas.arrow(index.middle(place, 0.5), into.middle(found, -0.5), color=hue)
    return canvas


def indexing_mapping(theme: Theme) -> Canvas:
    """``result[i, target_indices[i, j]] = source[i, source_indices[i, j]]``."""
    canvas = Canvas.of(theme, 18.6, 7.2)
    labels(
        canvas,
        (0.6, "source_data", "(2, 4)"),
        (2.75, "source_indices", ""),
        (3.75, "target_indices", ""),
        (5.5, "result", "(2, 4), else target_data"),
    )
    for sample, (cells, pairs) in enumerate(
        ((("a", "b", "c", "d"), ((1, 3), (2, 0))), (("e", "f", "g", "h"), ((3, 2),)))
    ):
        x, hue = start(canvas, sample)
        sources, goals = [one for one, _ in pairs], [other for _, other in pairs]
        rest = [None] * (2 - len(pairs))
        source = Row(canvas, x, 0.6, cells, hue).draw(
            quiet=[n for n in range(4) if n not in sources], numbers=-0.72
        )
        first = Row(canvas, x + 1, 2.75, [*map(str, sources), *rest], None).draw()
        second = Row(canvas, x + 1, 3.75, [*map(str, goals), *rest], None).draw()
        into = result(canvas, sample, 5.5, {goal: cells[n] for n, goal in pairs})
        for place, (one, other) in enumerate(pairs):
            canvas.arrow(source.middle(one, 0.5), first.middle(place, -0.5), color=hue)
            canvas.arrow(second.middle(place, 0.5), into.middle(other, -0.5), color=hue)
    return canvas


def result(canvas: Canvas, sample: int, y: float, written: dict[int, str]) -> Row:
    """What is written, and what was there before."""
    x, hue = start(canvas, sample)
    cells = [
        written.get(place, before) for place, before in enumerate("tuvw" if sample else "pqrs")
    ]
    return Row(canvas, x, y, cells, hue).draw(
        quiet=[n for n in range(4) if n not in written], numbers=0.72
    )


def start(canvas: Canvas, sample: int) -> tuple[float, str]:
    """Where a sample is, and its colour."""
    hue = canvas.theme.hues[sample]
    return LEFT + APART * sample, hue


def labels(canvas: Canvas, *rows: tuple[float, str, str]) -> None:
    """What the rows are called."""
    for y, name, note in rows:
        canvas.code(0, y + (0.5 if not note else 0.3), name, ha="left", weight="bold")
        canvas.text(0, y + 0.78, note, ha="left", color=canvas.theme.muted, size=8)
    for sample in (0, 1):
        x, hue = start(canvas, sample)
        canvas.text(
            x + 5.05, rows[0][0] + 0.5, f"sample {sample}", color=hue, size=8.5, weight="bold"
        )
