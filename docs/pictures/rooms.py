"""The rooms of the three packages, in the order in which they may import each other."""

from __future__ import annotations

from docs.pictures.flow import frame
from docs.pictures.style import Canvas, Theme

# (package, what it is about, the rooms of each column)
PACKAGES = (
    (
        "losses",
        "terms and gradients",
        (
            ("functional",),
            ("modules", "coders", "core"),
            ("heads",),
            ("criteria",),
            ("criteria.query", "criteria.dense", "criteria.two_stage"),
            ("drop_in",),
        ),
    ),
    (
        "matchers",
        "boxes and assignments",
        (
            ("geometry",),
            ("targets",),
            ("assignments",),
            ("pairs", "solver"),
            ("costs",),
            ("dense", "by_cost"),
            ("transport",),
            ("plots",),
        ),
    ),
    ("ragged", "batches", (("values",), ("batch",), ("ops",), ("interop",))),
)


def rooms(theme: Theme) -> Canvas:
    """A frame for each package; a room imports from the left, and from the packages below."""
    canvas = Canvas.of(theme, 24, 15.4)
    for place, (package, note, lines) in enumerate(PACKAGES):
        top, hue = 0.1 + 5.2 * place, theme.hues[place]
        frame(canvas, 0.1, top, 23.8, 4.8, package, note)
        width = 23.0 / len(lines)
        for number, line in enumerate(lines):
            for row, room in enumerate(line):
                x = 0.5 + number * width
                y = top + 1.3 + 1.1 * row + 0.55 * (3 - len(line))
                canvas.box(x + 0.1, y, width - 0.3, 0.9, edge=hue, fill=theme.tint(hue, 0.14))
                canvas.code(x + width / 2 - 0.05, y + 0.45, room, size=6.8)
    return canvas
