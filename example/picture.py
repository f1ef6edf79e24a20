"""A picture of scenes: beside what was found and what is there, who learns it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from example.data import Samples, make_loader, to_targets
from example.detector import Detector
from example.evaluate import Evaluation, Objects
from matchers.plots.match import plot_match

TRUTH, FOUND = "#4cd964", "#ffa726"
"""Colours of ground truth and of detections, told apart on dark and on bright images."""
SCORE = 0.3
"""Smallest score of a detection that is drawn."""


def new_figure(width: float, height: float) -> Figure:
    """A figure that is written to a file, without a window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend_of_objects(crowds: bool) -> list[Any]:
    """What the legend says about `draw_objects`."""
    handles: list[Any] = [
        Line2D([], [], color=TRUTH, ls=(0, (2, 1.2)), lw=2, label="ground truth"),
        Line2D([], [], color=FOUND, lw=1.5, label=f"detection with class and score (from {SCORE})"),
    ]
    return handles + [Patch(fill=False, ec=TRUTH, hatch="////", label="crowd, ignored")] * crowds


def draw_objects(axes: Axes, image: Tensor, target: Objects, found: Objects, names: Sequence[str]) -> None:
    """Draw an image with its targets and detections."""
    show(axes, image)
    ignored = target.get("ignore", torch.zeros(len(target["boxes"]), dtype=torch.bool))
    for box, crowd in zip(target["boxes"], ignored.tolist(), strict=True):
        _outline(axes, box, TRUTH, hatch="////" if crowd else None, ls=(0, (2, 1.2)), lw=1.8)
    for box, label, score in zip(found["boxes"], found["labels"].tolist(), found["scores"].tolist(), strict=True):
        if score >= SCORE:
            _outline(axes, box, FOUND, lw=1.2)
            halo = [withStroke(linewidth=1.8, foreground="black")]
            x, y = float(box[0]), max(float(box[1]), 0.07 * image.shape[-2])
            text = f"{names[label]} .{min(round(100 * score), 99):02d}"
            axes.text(x, y, text, color=FOUND, fontsize=7.5, va="bottom", clip_on=True, path_effects=halo)


def show(axes: Axes, image: Tensor) -> None:
    """An image (1 or 3, H, W) with edges of pixels at whole numbers, as boxes have them."""
    height, width = image.shape[-2:]
    axes.imshow(pixels(image), cmap="gray", vmin=0.0, vmax=1.0, extent=(0, width, height, 0))
    axes.set_axis_off()


def pixels(image: Tensor) -> np.ndarray:
    """The image as matplotlib takes it, (H, W) or (H, W, 3)."""
    return image.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()


def _outline(axes: Axes, box: Tensor, color: str, **style: Any) -> None:
    x1, y1, x2, y2 = box.tolist()
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=color, **style))


@torch.no_grad()
def draw_scenes(
    detector: Detector,
    samples: Samples,
    found: Evaluation,
    path: Path,
    *,
    count: int = 8,
    device: torch.device | str = "cpu",
) -> Path:
    """Draw the first scenes that have several objects, each twice: what was found, and what is matched.

    Args:
        detector: Trained.
        samples: The scenes.
        found: What came out for them.
        path: File to write.
        count: Of scenes, at most.
        device: Where to run the detector.

    Returns:
        The path.
    """
    counts = [len(target["labels"]) for target in found.targets]
    chosen = sorted(range(len(counts)), key=lambda index: -min(counts[index], 2))[:count]
    images, batch = next(iter(make_loader(_Chosen(samples, chosen), batch_size=len(chosen))))
    targets, criterion = to_targets(batch, samples.task).to(device), detector.make_criterion("sample").to(device).eval()
    output = detector.model.to(device).eval()(images.to(device))
    match, centers = detector.match(output, targets, criterion).to("cpu"), detector.centers(output).cpu()
    targets = targets.to("cpu")
    grid, figure = _pairs_of_axes(len(chosen))
    for place, (index, (left, right)) in enumerate(zip(chosen, grid, strict=False)):
        draw_objects(left, images[place], found.targets[index], found.detections[index], samples.task.class_names)
        left.set_title(f"{samples.name(index)}: found", fontsize=9)
        show(right, images[place])
        style: dict[str, Any] = {"prior_format": "points", "text": False, "legend": False}
        plot_match(match, None, targets, place, priors=centers, ax=right, **style)
        right.set_axis_off()
        right.set_title("matched: which cells learn it", fontsize=9)
    crowds = any(bool(found.targets[index]["ignore"].any()) for index in chosen if "ignore" in found.targets[index])
    style = {"color": "#56b4e9", "lw": 1.4, "marker": "o", "ms": 3.5}
    lines = Line2D([], [], label="an object (one colour each) and its cells", **style)
    figure.legend(handles=[*legend_of_objects(crowds), lines], loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)
    return path


def _pairs_of_axes(count: int) -> tuple[list[tuple[Axes, Axes]], Figure]:
    """Two pairs of axes in a row, with a gap between them."""
    rows = -(-count // 2)
    figure = new_figure(12.8, 3.1 * rows + 0.7)
    grid = figure.subplots(rows, 5, squeeze=False, width_ratios=[1, 1, 0.1, 1, 1])
    for axes in grid.flat:
        axes.set_axis_off()
    return [(row[at], row[at + 1]) for row in grid for at in (0, 3)], figure


class _Chosen:
    """Some of the samples."""

    def __init__(self, samples: Samples, chosen: Sequence[int]) -> None:
        self.task, self._samples, self._chosen = samples.task, samples, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self._samples[self._chosen[index]]

    def name(self, index: int) -> str:
        return self._samples.name(self._chosen[index])
