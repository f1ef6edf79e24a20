"""A criterion: the steps from predictions and targets to terms, and how values become terms."""

from __future__ import annotations

from docs.pictures.style import Canvas, Theme


def flow(theme: Theme) -> Canvas:
    """Two steps, ``assign`` and ``loss``."""
    canvas = Canvas.of(theme, 20, 10.6)
    blue, orange, green, purple = theme.hues

    def node(
        x: float,
        y: float,
        width: float,
        name: str,
        note: str,
        hue: str | None = None,
        code: bool = True,
    ) -> None:
        edge, fill = (hue, theme.tint(hue, 0.14)) if hue else (theme.line, theme.panel)
        canvas.box(x, y, width, 1.5, edge=edge, fill=fill)
        family = {"family": "monospace"} if code else {}
        canvas.text(x + width / 2, y + 0.52, name, weight="bold", size=8.8, **family)
        canvas.text(x + width / 2, y + 1.02, note, color=theme.muted, size=7.6)

    frame(canvas, 7.0, 0.1, 12.9, 4.4, "assign()", "no gradient")
    frame(canvas, 7.0, 4.9, 12.9, 5.6, "loss()", "differentiable")
    node(0.1, 6.0, 5.4, "head output", "maps of levels, or queries", blue, code=False)
    node(0.1, 1.9, 5.4, "ground truth", "any layout, raw or Targets", orange, code=False)
    node(7.5, 1.9, 5.2, "matcher", "costs (G, P), then a choice", purple)
    node(14.2, 1.9, 5.2, "Assignment", "target_index (B, P)")
    node(7.5, 6.0, 5.2, "AssignedTargets", "targets beside predictions")
    node(14.2, 6.0, 5.2, "losses", "one value per prediction", green)
    node(14.2, 8.6, 5.2, "Normalizer", "counts of all ranks")
    node(7.5, 8.6, 5.2, "terms", "sum / count, times weight", green)
    node(0.1, 8.6, 5.4, "{'loss_cls': …}", "what backward() is called on", green)
    canvas.arrow((5.5, 2.65), (7.5, 2.65), color=orange)
    canvas.text(6.25, 2.3, "Targets", color=orange, size=7.5)
    canvas.arrow((2.8, 6.0), (8.4, 3.4), color=blue, bend=0.0)
    canvas.text(4.3, 4.75, "detached", color=blue, size=7.5, ha="right")
    canvas.arrow((12.7, 2.65), (14.2, 2.65))
    canvas.arrow((16.8, 3.4), (12.2, 6.0))
    canvas.arrow((5.5, 6.75), (7.5, 6.75), color=blue)
    canvas.text(6.25, 6.4, "read()", color=blue, size=7.5)
    canvas.arrow((12.7, 6.75), (14.2, 6.75))
    canvas.arrow((16.8, 7.5), (16.8, 8.6))
    canvas.arrow((14.2, 9.35), (12.7, 9.35))
    canvas.arrow((7.5, 9.35), (5.5, 9.35), color=green)
    return canvas


def frame(
    canvas: Canvas, x: float, y: float, width: float, height: float, name: str, note: str
) -> None:
    """What belongs to one step."""
    theme = canvas.theme
    canvas.box(
        x,
        y,
        width,
        height,
        edge=theme.line,
        fill="none",
        linestyle=(0, (3, 3)),
        linewidth=1,
        zorder=0,
    )
    canvas.code(x + 0.5, y + 0.7, name, ha="left", weight="bold", size=10)
    canvas.text(x + width - 0.5, y + 0.7, note, ha="right", color=theme.muted, size=8)


def reductions(theme: Theme) -> Canvas:
    """The same values with each ``reduction``."""
    rows = ((0.6, 0.0, 0.2, 0.0), (0.0, 1.0, 0.0, 0.0))
    counts = tuple(sum(value > 0 for value in row) for row in rows)
    canvas = Canvas.of(theme, 19, 4.1)
    for x, name, note in (
        (1.9, '"none"', "(B, P)"),
        (7.3, '"sum"', "()"),
        (10.6, '"sample"', "(B,): sum / own count"),
        (15.4, '"mean"', "(): sum / count of all"),
    ):
        canvas.code(x, 0.4, name, ha="left", weight="bold")
        canvas.text(x, 0.9, note, ha="left", color=theme.muted, size=8)
    total, count = sum(map(sum, rows)), sum(counts)
    for number, row in enumerate(rows):
        y, hue = 1.5 + 1.2 * number, theme.hues[number]
        canvas.text(
            0, y + 0.5, f"image {number}", ha="left", color=hue, weight="bold", size=8.5
        )
        for place, value in enumerate(row):
            canvas.cell(
                1.9 + place,
                y,
                f"{value:.1f}",
                hue=hue if value else None,
                strength=0.22 if value else 0.06,
                size=9,
            )
        canvas.cell(10.6, y, f"{sum(row) / counts[number]:.1f}", hue=hue, size=9)
        canvas.text(
            11.9,
            y + 0.5,
            f"{sum(row):.1f} / {counts[number]}",
            ha="left",
            color=theme.muted,
            size=8.5,
        )
    canvas.cell(7.3, 2.1, f"{total:.1f}", hue=theme.hues[2], size=9)
    canvas.cell(15.4, 2.1, f"{total / count:.1f}", hue=theme.hues[2], size=9)
    canvas.text(16.7, 2.6, f"{total:.1f} / {count}", ha="left", color=theme.muted, size=8.5)
    return canvas
