"""Pictures of the match of one image and of its costs. They need matplotlib; no matcher imports this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment, Plan
from matchers.assignments.checks import position_in
from matchers.geometry.boxes import check_boxes, convert
from matchers.pairs.predictions import Predictions
from matchers.pairs.problem import AnyPredictions
from matchers.plots.costs import plot_cost
from matchers.plots.picture import (
    SMALLEST_WEIGHT,
    Unit,
    check_result,
    import_pyplot,
    name_of_target,
    own_position,
    picture_of,
    strengths_of,
)
from matchers.targets.targets import Targets
from ragged.values.checks import (
    check_flag,
    check_has_values,
    check_is_sequence,
    check_is_tensor,
    check_number,
    sample_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_cost", "plot_match"]

# Told apart by people who do not see red and green as different, too.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f5fbf")
_GREY = "#707070"
# More numbers than these are not legible.
_MOST_INDICES = 12


def plot_match(
    result: Assignment | Plan,
    predictions: AnyPredictions | None,
    targets: Any,
    sample: int | Sequence[int],
    *,
    image: Any = None,
    priors: Tensor | None = None,
    prior_format: str = "xyxy",
    class_names: Sequence[str] | None = None,
    text: bool = True,
    legend: bool = True,
    smallest_weight: float = SMALLEST_WEIGHT,
    ax: Axes | None = None,
) -> Axes:
    """Draw which predictions each target of one image got.

    Each target has a colour; its predictions have the same colour, and a line from centre to centre. With a
    ``Plan``, the heavier the weight, the stronger the line. Targets without a prediction are dashed, ignored ones
    hatched; the centres of ignored predictions are crosses. Predictions of the background are left out.

    Args:
        result: What the matcher returned.
        predictions: The predictions that the matcher got; anything that ``Predictions.of`` reads. None if you pass
            priors.
        targets: Anything that ``Targets.of`` reads.
        sample: Index of the image; one for each batch dimension of the result if it has several.
        image: ``(H, W)``, ``(H, W, 3)`` or ``(3, H, W)``, tensor or array; other ranges are rescaled to [0, 1].
            Boxes are scaled to its size if they are fractions, or if the targets know their canvas size.
        priors: ``(P, 4)`` or ``(*batch, P, 4)`` in the unit of the targets: drawn instead of the predicted boxes.
        prior_format: ``"xyxy"``, ``"cxcywh"``, ``"xywh"``, or ``"points"`` for rows that begin with x and y, as those
            of ``grid_points`` do.
        class_names: Names of the labels, which stand beside the targets: ``target 0 (cat)``.
        text: Whether targets have their index and class beside them, and a few predictions their index.
        legend: Whether there is a legend, above the axes. Its title counts targets and matched predictions.
        smallest_weight: Draw only pairs of a plan whose weight is at least this fraction of the image's largest.
        ax: Where to draw; by default in a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        IndexError: ``sample`` does not fit the batch dimensions.
        ValueError: There are no boxes to draw, numbers of predictions or targets differ, a unit cannot be converted,
            or the image has another shape.

    >>> from matplotlib.figure import Figure
    >>> targets = Targets.of([{"boxes": torch.tensor([[1.0, 1.0, 5.0, 5.0]]), "labels": torch.tensor([2])}])
    >>> match = Assignment.from_index(torch.tensor([[-1, 0]]), num_targets=targets.num_targets)
    >>> boxes = torch.tensor([[[6.0, 6.0, 9.0, 8.0], [0.0, 1.0, 4.0, 5.0]]])
    >>> axes = plot_match(match, {"pred_boxes": boxes}, targets, 0, ax=Figure().subplots())
    >>> len(axes.patches), len(axes.lines)
    (2, 1)
    """
    pyplot = import_pyplot()
    check_result(result)
    check_number(smallest_weight, "smallest_weight", low=None)
    check_flag(text, "text")
    check_flag(legend, "legend")
    at, targets = position_in(sample, result.num_targets.shape), Targets.of(targets)
    if class_names is not None:
        check_is_sequence(class_names, "class_names", "names")
    picture = None if image is None else picture_of(image)
    unit = Unit.of(targets, at, None if picture is None else picture.shape[:2])
    if priors is None:
        shapes = _prediction_shapes(predictions, targets, at, unit)
    else:
        shapes = _prior_shapes(priors, prior_format, targets, at, unit)
    scene = _scene(result, targets, at, shapes, unit, smallest_weight)
    if ax is None:
        ax = pyplot.subplots(layout="constrained")[1]
    if picture is not None:
        ax.imshow(picture.numpy(), extent=(0, picture.shape[1], picture.shape[0], 0), cmap="gray", zorder=0)
    handles = _draw_predictions(ax, scene, text) | _draw_targets(ax, scene, text, class_names)
    _frame(ax, scene, unit)
    title = _title(at, scene)
    if legend and handles:
        where: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        look: dict[str, Any] = {"ncols": 3, "frameon": False, "fontsize": 8, "title_fontsize": 9}
        ax.legend(handles.values(), handles, title=title, alignment="left", **look, **where)
    else:
        ax.set_title(title, fontsize=9)
    return ax


@dataclass(frozen=True)
class _Scene:
    """One image: boxes (n, 4) of targets, boxes (P, 4) or points (P, 2) of predictions, and what belongs together."""

    boxes: Tensor
    labels: Tensor | None
    """(n,) or (n, C), if targets have any"""
    ignored: list[bool]
    shapes: Tensor
    ignored_predictions: Tensor
    pairs: list[tuple[int, int, float]]
    """Target, prediction, and strength in (0, 1], the weakest first."""


def _scene(
    result: Assignment | Plan,
    targets: Targets,
    at: tuple[int, ...],
    shapes: Tensor,
    unit: Unit,
    smallest_weight: float,
) -> _Scene:
    own, strengths = own_position(at, targets), strengths_of(result, at)
    count = int(targets.num_targets[own])
    if strengths.shape != (len(shapes), count):
        raise ValueError(
            f"the result is for {strengths.shape[0]} predictions and {strengths.shape[1]} targets, "
            f"got {len(shapes)} predictions and {count} targets"
        )
    kept = (strengths >= smallest_weight) & (strengths > 0) & shapes.isfinite().all(-1, keepdim=True)
    found = kept.nonzero().tolist()
    pairs = [(target, prediction, float(strengths[prediction, target])) for prediction, target in found]
    if isinstance(result, Assignment):
        ignored = result.is_ignored[at].cpu()
    else:
        ignored = (result.background[at].cpu() == 0) & (strengths.sum(-1) == 0)
    return _Scene(
        unit.scaled(targets.boxes_as("xyxy")[own][:count], targets.normalized),
        None if targets.labels is None else targets.labels.tensor[own][:count].cpu(),
        (~targets.matchable[own][:count]).tolist(),
        shapes,
        ignored,
        sorted(pairs, key=lambda pair: pair[2]),
    )


def _prediction_shapes(predictions: AnyPredictions | None, targets: Targets, at: tuple[int, ...], unit: Unit) -> Tensor:
    read = None if predictions is None else Predictions.of(predictions)
    if read is None or read.boxes is None:
        raise ValueError("a picture needs predicted boxes or priors, got neither")
    check_has_values(read.boxes, "a picture")
    position_in(at, read.batch_shape)
    boxes = convert(read.boxes[at], read.box_format or targets.box_format, "xyxy")
    return unit.scaled(boxes, targets.normalized if read.normalized is None else read.normalized)


def _prior_shapes(priors: Tensor, prior_format: str, targets: Targets, at: tuple[int, ...], unit: Unit) -> Tensor:
    check_is_tensor(priors, "priors")
    check_has_values(priors, "a picture")
    if priors.dim() < 2 or priors.shape[-1] not in (2, 4) or priors.dim() - 2 > len(at):
        raise ValueError(f"priors must have shape (P, 4) or (*batch, P, 4), got {tuple(priors.shape)}")
    if prior_format != "points":
        check_boxes(priors, "priors")
    own = priors[at[len(at) - priors.dim() + 2 :]] if priors.dim() > 2 else priors
    return unit.scaled(
        own[:, :2] if prior_format == "points" else convert(own, prior_format, "xyxy"), targets.normalized
    )


def _draw_targets(ax: Axes, scene: _Scene, text: bool, class_names: Sequence[str] | None) -> dict[str, Any]:
    """Draw the targets; return what the legend explains."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch, Rectangle

    matched, handles = {target for target, _, _ in scene.pairs}, {}
    styles: dict[str, dict[str, Any]] = {
        "target": {"lw": 2.2},
        "target without a prediction": {"lw": 2.2, "ls": (0, (4, 2))},
        "ignored target": {"lw": 1, "hatch": "////", "alpha": 0.7},
    }
    for target, (x1, y1, x2, y2) in enumerate(scene.boxes.tolist()):
        kind = list(styles)[2 if scene.ignored[target] else int(target not in matched)]
        line = {name: value for name, value in styles[kind].items() if name != "hatch"}
        has_hatch = len(line) < len(styles[kind])
        handles[kind] = (
            Patch(fill=False, ec=_GREY, **styles[kind]) if has_hatch else Line2D([], [], color=_GREY, **line)
        )
        color = _GREY if scene.ignored[target] else _COLORS[target % len(_COLORS)]
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=color, zorder=3, **styles[kind]))
        if text:
            box = {"boxstyle": "square,pad=0.15", "fc": color, "ec": "none", "alpha": 0.85}
            where: dict[str, Any] = {"ha": "left", "va": "bottom", "clip_on": True, "zorder": 6, "bbox": box}
            said = name_of_target(target, scene.labels, class_names)
            ax.text(x1, y1, f"target {said}", color="white", fontsize=7.5, **where)
    return {kind: handles[kind] for kind in styles if kind in handles}


def _draw_predictions(ax: Axes, scene: _Scene, text: bool) -> dict[str, Any]:
    """Draw the matched and the ignored predictions; return what the legend explains."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    handles: dict[str, Any] = {}
    centers = scene.shapes.unflatten(1, (-1, 2)).mean(1)
    middle = scene.boxes.unflatten(1, (2, 2)).mean(1)
    for target, prediction, strength in scene.pairs:
        style: dict[str, Any] = {"color": _COLORS[target % len(_COLORS)], "alpha": 0.25 + 0.7 * strength}
        (x, y), (gt_x, gt_y) = centers[prediction].tolist(), middle[target].tolist()
        ax.plot([gt_x, x], [gt_y, y], lw=0.4 + strength, marker="o", ms=3.5, markevery=[1], zorder=4, **style)
        if scene.shapes.shape[1] == 4:
            x1, y1, x2, y2 = scene.shapes[prediction].tolist()
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=1, zorder=2, **style))
        if text and len(scene.pairs) <= _MOST_INDICES:
            note: dict[str, Any] = {"textcoords": "offset points", "va": "top", "fontsize": 7, "zorder": 5}
            halo = [withStroke(linewidth=2, foreground="white")]
            ax.annotate(str(prediction), (x, y), (3, -3), annotation_clip=True, path_effects=halo, **note)
        handles["matched prediction"] = Line2D([], [], color=_GREY, lw=1, marker="o", ms=3.5)
    ignored = centers[scene.ignored_predictions & scene.shapes.isfinite().all(-1)]
    if len(ignored):
        style = {"color": _GREY, "marker": "x", "ls": "none", "ms": 4, "mew": 0.8}
        ax.plot(ignored[:, 0].numpy(), ignored[:, 1].numpy(), zorder=1, **style)
        handles["ignored prediction"] = Line2D([], [], **style)
    return handles


def _title(at: tuple[int, ...], scene: _Scene) -> str:
    """``sample 0: 3 targets, 2 of them matched; 5 matched predictions``"""
    targets, matched = len(scene.boxes), len({target for target, _, _ in scene.pairs})
    found = len({prediction for _, prediction, _ in scene.pairs})
    counts = f"{targets} target{'s' * (targets != 1)}, {matched} of them matched"
    return f"{sample_name(at)}: {counts}; {found} matched prediction{'s' * (found != 1)}"


def _frame(ax: Axes, scene: _Scene, unit: Unit) -> None:
    ax.set_aspect("equal")
    if unit.shown is not None or unit.normalized:
        height, width = (1.0, 1.0) if unit.shown is None else unit.shown.tolist()
        low, high = [0.0, 0.0], [width, height]
    else:
        matched = scene.shapes[sorted({prediction for _, prediction, _ in scene.pairs})]
        corners = torch.cat([scene.boxes.reshape(-1, 2), matched.reshape(-1, 2), torch.zeros(1, 2)])
        low, high = corners.amin(0).tolist(), (corners.amax(0) * 1.05).clamp(min=1).tolist()
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(high[1], low[1])
    shows_pixels = unit.shown is not None or not unit.normalized
    ax.set_xlabel("x, in pixels" if shows_pixels else "x, in fractions of the image", fontsize=8)
    ax.set_ylabel("y, in pixels" if shows_pixels else "y, in fractions of the image", fontsize=8)
    ax.tick_params(labelsize=7)
