"""The parts of both SSD losses: predictions over default boxes, their matching, and boxes of positives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from losses.coders.boxes import BoxCoder
from losses.core.assigned import AssignedTargets
from losses.core.looking_up import checked_assignment
from losses.functional.numerics import check_floating
from losses.heads.anchors import in_unit_of_priors
from losses.heads.class_masks import checked_class_mask, with_background, with_labels, without_classes
from losses.heads.levels import Maps, flatten_levels
from losses.modules.base import BoxLoss
from losses.modules.boxes import box_values
from matchers.assignments.assignment import Assignment
from matchers.dense.max_iou import MaxIoU
from matchers.geometry.boxes import check_boxes, convert
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.interop.registration import register_dataclass
from ragged.values.checks import check_same_device
from ragged.values.once import of_constant
from ragged.values.precision import wide


@dataclass(frozen=True, eq=False)
class SSDPredictions:
    """The predictions of an SSD head for B images at P default boxes, those of a cell next to each other.

    Args:
        scores: Of each level (B, A, C, n), logits of A boxes in each of n cells; C counts the background.
        deltas: (B, P, 4).
        priors: (P, 4) or (B, P, 4).
        class_mask: (B, C - 1), which classes count in which images, without the background; None for all.

    Raises:
        ValueError: Numbers of images or of boxes, or devices, differ.
    """

    scores: tuple[Tensor, ...]
    deltas: Tensor
    priors: Tensor
    class_mask: Tensor | None = None

    def __post_init__(self) -> None:
        for name, tensor in (("boxes", self.deltas), ("anchors", self.priors)):
            check_boxes(tensor, name)
        images, count = self.scores[0].shape[0], sum(level.shape[1] * level.shape[3] for level in self.scores)
        if tuple(self.deltas.shape[:2]) != (images, count):
            raise ValueError(f"class scores are for (B, P) = {(images, count)}, boxes for {(*self.deltas.shape[:2],)}")
        if tuple(self.priors.shape) not in ((count, 4), (images, count, 4)):
            expected = f"{(count, 4)} or {(images, count, 4)}"
            raise ValueError(f"anchors must have the shape {expected} for these scores, got {tuple(self.priors.shape)}")
        for name, tensor in (("boxes", self.deltas), ("anchors", self.priors)):
            check_same_device(tensor.device, self.scores[0].device, name=name, reference="class scores")

    @property
    def num_channels(self) -> int:
        """C."""
        return self.scores[0].shape[2]

    def check_num_channels(self, channels: int) -> None:
        """Raise ``ValueError`` unless there are so many classes, the background included."""
        if self.num_channels != channels:
            raise ValueError(
                f"class scores must have {channels} classes, the background included, got {self.num_channels}"
            )

    def with_class_mask(self, mask: Tensor) -> SSDPredictions:
        """The same predictions; ``mask`` (B, C - 1), booleans, says which classes count, the background apart."""
        shape = (self.deltas.shape[0], self.num_channels - 1)
        return replace(self, class_mask=checked_class_mask(mask, shape, self.deltas.device, only_flags=True))

    def scores_of(self, labels: Tensor, background: int) -> tuple[Tensor, ...]:
        """The scores, of which those of classes that do not count cannot be seen; labels (B, P) of an image count."""
        if self.class_mask is None:
            return self.scores
        flags = with_background(with_labels(self.class_mask, labels), background)[:, None, :, None]
        return tuple(without_classes(level, flags) for level in self.scores)

    def class_logits(self, background: int) -> Tensor:
        """(B, P, C - 1), without the background, in one tensor."""
        logits = torch.cat([level.permute(0, 3, 1, 2).flatten(1, 2) for level in self.scores], 1)
        return logits[..., 1:] if background == 0 else logits[..., :-1]


def level_scores(maps: Maps, channels: int) -> tuple[Tensor, ...]:
    """Scores (B, A, C, n) of each level, from maps (B, A C, h, w) or from (B, P, C). Nothing is copied.

    Raises:
        TypeError: A map is no floating tensor.
        ValueError: A map has another number of dimensions or images, or channels that are no multiple of C.
    """
    if isinstance(maps, Tensor):
        return (flatten_levels(maps, channels=channels, name="class scores").mT.unsqueeze(1),)
    if not isinstance(maps, Sequence) or not maps:
        raise ValueError(f"class scores must be maps, one for each level, or (B, P, C), got {type(maps).__name__}")
    for level, each in enumerate(maps):
        check_floating(each, f"class scores of level {level}")
        check_same_device(each.device, maps[0].device, name=f"class scores of level {level}", reference="level 0")
        images = maps[0].shape[0] if maps[0].dim() else "B"
        if each.dim() != 4 or each.shape[1] % channels or each.shape[0] != images:
            raise ValueError(
                f"class scores of level {level} must have shape ({images}, A * {channels}, h, w), "
                f"got {tuple(each.shape)}"
            )
    return tuple(each.unflatten(1, (-1, channels)).flatten(3) for each in maps)


def assign_priors(
    matcher: Callable[..., Assignment],
    predictions: SSDPredictions,
    targets: Targets,
    coder: BoxCoder,
    *,
    background: int,
    box_format: str,
    normalized: bool,
) -> Assignment:
    """Match default boxes, of the format and unit of the coder, with targets of any."""
    targets.check_labels(predictions.num_channels - 1)
    targets = in_unit_of_priors(targets, normalized=normalized)
    if isinstance(matcher, MaxIoU):
        # For their shape; boxes would be read.
        found = Predictions(predictions.deltas[..., :1].expand(-1, -1, predictions.num_channels - 1))
    else:
        boxes = coder.decode(predictions.priors, wide(predictions.deltas))
        logits = predictions.class_logits(background)
        found = Predictions(logits, boxes, box_format=box_format, normalized=normalized)
    priors = predictions.priors
    priors = of_constant(priors, f"xyxy of {box_format}", lambda: convert(priors, box_format, "xyxy"))
    assignment = matcher(found, targets, priors)
    return checked_assignment(assignment, matcher, "a loss of SSD")


def positive_box_loss(
    predictions: SSDPredictions, assigned: AssignedTargets, coder: BoxCoder, loss: BoxLoss, *, decoded: bool
) -> Tensor:
    """The box loss of the positives (R,), weighted; of boxes, or of what the coder makes of them."""
    rows = assigned.positives
    deltas, priors = wide(rows.of_predictions(predictions.deltas)), rows.of_priors(predictions.priors)
    if decoded:
        values = box_values(loss, coder.decode(priors, deltas), assigned.boxes)
    else:
        values = box_values(loss, deltas, coder.encode(priors, assigned.boxes))
    return assigned.counted_rows(values)


register_dataclass(SSDPredictions)
