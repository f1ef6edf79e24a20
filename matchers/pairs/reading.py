"""Reads the arguments of a matcher into a ``Problem``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.geometry.boxes import check_boxes, convert, in_unit, stacked_coordinates
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.checks import check_positive, check_same_device, check_values
from ragged.values.once import of_constant
from ragged.values.precision import wide
from ragged.values.readable import known_finite, values_are_readable


def in_place_of_predictions(priors: Tensor | None, targets: Targets) -> Predictions:
    """Predictions that say nothing of classes, whose boxes are the priors."""
    if priors is None:
        raise ValueError("there are neither predictions nor priors")
    check_boxes(priors, "priors")
    shape = priors.shape if priors.dim() > 2 else (*targets.batch_shape, *priors.shape)
    return Predictions(boxes=priors.expand(shape), box_format="xyxy")


def merged_predictions(predictions: Predictions) -> Predictions:
    """Their batch dimensions merged into one, without gradient."""
    count = len(predictions.batch_shape)
    return pytree.tree_map(lambda value: value.detach().flatten(0, count - 1), predictions)


def merged_targets(targets: Targets, batch_shape: tuple[int, ...], normalized: bool | None) -> dict[str, Any]:
    """What a ``Problem`` holds of targets, for all images of ``batch_shape``, which ends with the targets' own."""
    own = len(targets.batch_shape)

    def merged(tensor: Tensor) -> Tensor:
        rest = tensor.shape[own:]
        return tensor.expand(*batch_shape, *rest).reshape(math.prod(batch_shape), *rest)

    return {
        "gt_boxes": if_any(targets.boxes, lambda _: merged(targets.boxes_as("xyxy", normalized=normalized).detach())),
        "labels": if_any(targets.labels, lambda _: merged(targets.padded_labels())),
        "matchable": merged(targets.matchable),
        "ignored": None if targets.ignore is None else merged(targets.ignored),
        "num_targets": merged(targets.num_targets),
        "known_sizes": _sizes_of_host(targets, math.prod(batch_shape)),
        "fields": {name: merged(each.detach().with_padded_set_to(0).tensor) for name, each in targets.fields.items()},
    }


def _sizes_of_host(targets: Targets, count: int) -> tuple[int, ...] | None:
    """How many targets ``count`` images and layers of them have, if the host knows that of tensors it cannot read."""
    sizes = None if values_are_readable(targets.mask) else targets.known_sizes
    return sizes * (count // len(sizes)) if sizes else None


def merged_boxes(predictions: Predictions, targets: Targets, normalized: bool | None) -> Tensor | None:
    """Predicted boxes (N, P, 4) as xyxy, in the unit that is asked for; NaN where one is not finite."""
    if predictions.boxes is None:
        return None
    boxes = wide(predictions.boxes.detach())
    boxes = convert(boxes, predictions.box_format or targets.box_format, "xyxy")
    is_normalized = targets.normalized if predictions.normalized is None else predictions.normalized
    unit = targets.normalized if normalized is None else normalized
    boxes = in_unit(boxes, is_normalized, unit, targets.canvas_size)
    # A prediction that is partly unusable is so as a whole: all its costs are NaN, and so avoided and counted.
    if not known_finite(boxes):
        boxes = boxes + (boxes - boxes).sum(-1, keepdim=True)  # 0, or NaN if one of them is not finite
    return boxes.flatten(0, -3)


def merged_priors(priors: Tensor | None, predictions: Predictions) -> Tensor | None:
    """Priors (P, 4) that all images share, or (N, P, 4)."""
    if priors is None:
        return None
    check_boxes(priors, "priors")
    check_same_device(priors.device, predictions.device, name="priors", reference="predictions")
    if not known_finite(priors):
        of_constant(priors, "finite", lambda: _check_finite(priors))
    count = predictions.num_predictions
    if priors.shape[:-1] == (count,):
        return priors.detach() if priors.requires_grad else priors  # the same, of which there is more that is known
    shape = (*predictions.batch_shape, count)
    if priors.dim() < 3 or priors.shape[-2] != count or shape[len(shape) - priors.dim() + 1 :] != priors.shape[:-1]:
        raise ValueError(f"priors must have shape ({count}, 4) or {(*shape, 4)}, got {tuple(priors.shape)}")
    return priors.detach().expand(*shape, 4).flatten(0, -3)


def _check_finite(priors: Tensor) -> None:
    check_values(
        (priors.abs() < math.inf).all(-1),
        lambda at: f"priors must be finite, got {priors[at].tolist()} at position {at[-1]}",
        summary="priors must be finite",
    )


def stacked_prior_boxes(priors: Tensor) -> Tensor:
    """Coordinates of xyxy boxes (P, 4) or (N, P, 4), stacked, (5, 1, P) or (5, N, P); a ``ValueError`` of others."""
    return of_constant(priors, "boxes", lambda: _stacked(priors))


def _stacked(priors: Tensor) -> Tensor:
    check_values(
        (priors[..., 2:] >= priors[..., :2]).all(-1),
        lambda at: f"priors must be xyxy boxes, got {priors[at].tolist()}; are these grid points?",
        summary="priors must be xyxy boxes",
    )
    return stacked_coordinates(priors if priors.dim() == 3 else priors.unsqueeze(0))


def only_known(parts: dict[str, Tensor | None]) -> dict[str, Tensor]:
    """Parts by name, without those that there are not."""
    return {name: value for name, value in parts.items() if value is not None}


def needed(known: dict[str, Tensor], name: str, who: str, of: str) -> Tensor:
    """What is known by this name; or a ``ValueError`` that says who needs it, and what there is."""
    if name not in known:
        raise ValueError(f"{who} needs {name!r} of the {of}, which have {', '.join(known)}")
    return known[name]


def if_any(value: Any, make: Callable[[Any], Tensor]) -> Any:
    """What is made of a value, None of None."""
    return None if value is None else make(value)


def checked_points(points: Tensor, who: str) -> Tensor:
    """Grid points (P, 4) with strides above 0; or a ``ValueError`` that says who needs them."""
    if points.dim() != 2:
        raise ValueError(f"{who} needs the same grid points (P, 4) for all images, got {tuple(points.shape)}")
    of_constant(points, "strides", lambda: _check_strides(points, who))
    return points


def _check_strides(points: Tensor, who: str) -> None:
    check_values(
        (points[:, 2:] > 0).all(-1),
        lambda at: f"{who} needs grid points x, y, stride, stride with strides above 0, got {points[at].tolist()}",
        summary="grid points must have strides above 0",
    )


def check_budget(max_pairwise_bytes: int | None) -> None:
    """Raise unless this is None or a number of bytes."""
    if max_pairwise_bytes is not None:
        check_positive(max_pairwise_bytes, "max_pairwise_bytes")


def with_one_label(labels: Tensor) -> Tensor:
    """The labels (R,) of targets; or a ``ValueError`` if they are multi-hot."""
    if labels.dim() > 1:
        raise ValueError(
            "this matcher or cost reads the one class of each target, but labels are multi-hot, (*batch, G, C): "
            "match by detr_costs or by a cost with sum_over_labels, or give one label of each target, (*batch, G)"
        )
    return labels
