"""A picture of scenes with their targets and detections."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from example.data import DigitScenes
from example.evaluate import Objects

_TRUTH, _FOUND = "lime", "orange"


def _outline(axes: Axes, box: Tensor, colour: str, style: str) -> None:
    x1, y1, x2, y2 = box.tolist()
    # Image rows and columns are drawn centred on whole numbers, while a box's edges lie between pixels.
    corner = (x1 - 0.5, y1 - 0.5)
    axes.add_patch(Rectangle(corner, x2 - x1, y2 - y1, fill=False, edgecolor=colour, linestyle=style, linewidth=1.2))


def _draw_scene(axes: Axes, image: Tensor, target: Objects, found: Objects, threshold: float) -> None:
    axes.imshow(image[0].numpy(), cmap="gray", vmin=0.0, vmax=1.0)
    axes.set_axis_off()
    for box in target["boxes"]:
        _outline(axes, box, _TRUTH, ":")
    for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True):
        if score < threshold:
            continue
        _outline(axes, box, _FOUND, "-")
        text = f"{int(label)} {float(score):.2f}"
        x, y = float(box[0]), max(float(box[1]) - 1.5, 4.0)
        axes.text(x, y, text, color=_FOUND, fontsize=6, clip_on=True)


def draw_scenes(
    scenes: DigitScenes,
    detections: list[Objects],
    path: Path,
    *,
    rows: int = 3,
    columns: int = 5,
    threshold: float = 0.4,
) -> Path:
    """Draw the first scenes in a grid: targets dotted, detections solid with class and score.

    Args:
        scenes: The scenes.
        detections: Detections for each of the scenes, see `example.evaluate.to_detections`.
        path: File to write; its folder is created.
        rows: Rows of the grid.
        columns: Columns of the grid.
        threshold: Smallest score of a detection that is drawn.

    Returns:
        The path.
    """
    figure = Figure(figsize=(2.4 * columns, 2.5 * rows), layout="tight")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, axes in zip(range(len(scenes)), grid.flat, strict=False):
        image, target = scenes[index]
        _draw_scene(axes, image, target, detections[index], threshold)
    figure.suptitle("dotted: ground truth, solid: detections with class and score", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
