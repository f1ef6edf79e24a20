"""Padding: three images with three, no and one object."""

from __future__ import annotations

from docs.pictures.style import Canvas, Theme

SAMPLES = (("a", "b", "c"), (), ("d",))


def padding(theme: Theme) -> Canvas:
    """Lists of objects become a padded tensor, a mask and sizes."""
    canvas = Canvas.of(theme, 19.4, 5.9)
    canvas.title(0, 0.35, "ground truth", "lists, one per image")
    canvas.title(7.4, 0.35, "tensor", "(3 images, 3 slots, …)")
    canvas.title(12.3, 0.35, "mask", "(3, 3)")
    canvas.title(16.6, 0.35, "sample_sizes", "(3,)")
    for row, objects in enumerate(SAMPLES):
        y, hue = 1.3 + 1.3 * row, theme.hues[row]
        canvas.text(0, y + 0.5, f"image {row}", ha="left", color=hue, weight="bold", size=9)
        for place in range(3):
            if place < len(objects):
                canvas.cell(1.9 + place, y, objects[place], hue=hue)
                canvas.cell(7.4 + place, y, objects[place], hue=hue)
            else:
                canvas.filler(7.4 + place, y)
            mark(canvas, 12.3 + place, y, place < len(objects))
        if not objects:
            canvas.text(
                2, y + 0.5, "no object", ha="left", color=theme.muted, size=9, style="italic"
            )
        canvas.cell(17.2, y, str(len(objects)), hue=hue)
    canvas.arrow((5.3, 3.1), (7, 3.1))
    canvas.text(6.1, 2.65, "combine_data", color=theme.muted, size=8, family="monospace")
    canvas.filler(7.4, 5.25, size=0.55)
    canvas.text(
        8.2,
        5.53,
        "filler: whatever it holds, it changes no value and gets no gradient",
        ha="left",
        size=8.5,
    )
    return canvas


def mark(canvas: Canvas, x: float, y: float, valid: bool) -> None:
    """A cell of a mask."""
    theme = canvas.theme
    fill = theme.tint(theme.ink, 0.75) if valid else "none"
    canvas.box(x, y, 1, 1, edge=theme.muted, fill=fill, gap=0.2, radius=0.06)
