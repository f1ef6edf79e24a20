"""Predictions that a matcher leaves as they are: filler, and those whose target is known before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.pairs.padded import padded
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged import RaggedBatch
from ragged.values.checks import check_is_tensor, check_same_device, check_values, sample_name


@dataclass(frozen=True, eq=False)
class Settled:
    """Which predictions of N images are to be matched, and what the others have.

    Args:
        free: (N, P), bool, true for those to be matched.
        target_index: Of the others, (N, P), or ``IGNORED`` for all of them.
        quality: Of the others, (N, P), or 0 for all of them.
        taken: (N, G), bool, targets that one of the others has; None if there are none.
        max_pairs: An upper bound of how many of the others of an image have a target.
    """

    free: Tensor
    target_index: Tensor | int = IGNORED
    quality: Tensor | float = 0.0
    taken: Tensor | None = None
    max_pairs: int = 0

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        targets: Targets,
        given: Assignment | None = None,
        free: RaggedBatch | Tensor | None = None,
    ) -> Settled | None:
        """Those of a call, batch dimensions merged; None if all predictions are to be matched.

        Args:
            predictions: Whose filler is ignored.
            targets: Of ``given``.
            given: What is known. What is background there is free.
            free: bool ``(*batch, P)``: which of these are free; the others stay background.

        Raises:
            TypeError, ValueError: ``given`` is of other predictions or targets, or has a target for filler; ``free`` is
                no mask of the predictions.
        """
        present, batch = predictions.mask, len(predictions.batch_shape)
        if given is None and free is None:
            return None if present is None else cls(present.flatten(0, batch - 1))
        shape = (*predictions.batch_shape, predictions.num_predictions)
        if given is None:
            index: Any = torch.full(shape, BACKGROUND, device=predictions.device)
            quality, taken, max_pairs = torch.zeros_like(index, dtype=torch.float32), None, 0
        else:
            _check_given(given, predictions, targets, shape)
            index, max_pairs = _without_ignored_targets(given, targets).expand(shape), given.max_pairs
            quality = given.quality.float().expand(shape)
            taken = _taken(index, given.max_num_targets).flatten(0, batch - 1)
        is_free = index == BACKGROUND
        if free is not None:
            is_free = is_free & _checked_free(free, predictions, shape)
        if present is not None:
            _check_filler(index, present)
            is_free, index = is_free & present, index.masked_fill(~present, IGNORED)
        is_free, index, quality = (each.flatten(0, batch - 1) for each in (is_free, index, quality))
        return cls(is_free, index, quality, taken, max_pairs)

    def put_into(self, target_index: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Target index and quality (N, P) of all predictions, of those that a matcher found for the free ones."""
        return torch.where(self.free, target_index, self.target_index), torch.where(self.free, quality, self.quality)

    def put_into_plan(self, weights: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (N, P, G) and background (N, P) of all predictions, of those that a matcher found for free ones."""
        own, free = self.target_index, self.free.unsqueeze(-1)
        if not isinstance(own, Tensor):
            return weights.masked_fill(~free, 0), background.masked_fill(~self.free, 0)
        targets = torch.arange(weights.shape[-1], device=weights.device)
        given = (own.unsqueeze(-1) == targets).to(weights.dtype)
        alone = (own == BACKGROUND).to(background.dtype)
        return torch.where(free, weights, given), torch.where(self.free, background, alone)

    def of_images(self, images: Tensor) -> Settled:
        """Those of some images (n,)."""

        def of(part: Any) -> Any:
            return part.index_select(0, images) if isinstance(part, Tensor) else part

        return Settled(of(self.free), of(self.target_index), of(self.quality), of(self.taken), self.max_pairs)


def _check_given(given: Any, predictions: Predictions, targets: Targets, shape: tuple[int, ...]) -> None:
    """Raise unless this is an assignment of these predictions to these targets."""
    if not isinstance(given, Assignment):
        raise TypeError(f"given must be an Assignment, got {type(given).__name__}")
    own = tuple(given.target_index.shape)
    if shape[len(shape) - len(own) :] != own:
        raise ValueError(f"given is an assignment of predictions of shape {own}, but the predictions have {shape}")
    check_same_device(given.target_index.device, predictions.device, name="given", reference="predictions")
    batch, sizes = own[:-1], targets.num_targets
    if len(batch) < sizes.dim() or batch[len(batch) - sizes.dim() :] != tuple(sizes.shape):
        raise ValueError(f"the batch shape {batch} of given must end with that of the targets, {tuple(sizes.shape)}")
    if given.max_num_targets != targets.max_num_targets:
        raise ValueError(
            f"given is an assignment to {given.max_num_targets} targets at most, there are {targets.max_num_targets}"
        )
    sizes = sizes.expand(batch)
    check_values(
        given.num_targets == sizes,
        lambda at: (
            f"given is an assignment to {int(given.num_targets[at])} targets in {sample_name(at)}, which has "
            f"{int(sizes[at])}"
        ),
        summary="given is an assignment to other numbers of targets",
    )


def _check_filler(index: Tensor, present: Tensor) -> None:
    check_values(
        present | (index < 0),
        lambda at: (
            f"given has target {int(index[at])} for prediction {at[-1]} of {sample_name(at[:-1])}, which has "
            f"{int(present[at[:-1]].sum())} predictions"
        ),
        summary="given has a target for filler of the predictions",
    )


def _checked_free(free: Any, predictions: Predictions, shape: tuple[int, ...]) -> Tensor:
    """The mask of predictions that take part."""
    if isinstance(free, RaggedBatch):
        free = padded({"free": free})[0]["free"]
    check_is_tensor(free, "free")
    if free.dtype != torch.bool:
        raise TypeError(f"free must be a boolean mask of the predictions, got {free.dtype}")
    own = tuple(free.shape)
    if not own or shape[len(shape) - len(own) :] != own:
        raise ValueError(f"free is a mask of predictions of shape {own}, but the predictions have {shape}")
    check_same_device(free.device, predictions.device, name="free", reference="predictions")
    return free


def _without_ignored_targets(given: Assignment, targets: Targets) -> Tensor:
    """The target index, where a target that is ignored makes its prediction ignored, too."""
    index = given.target_index
    if targets.ignore is None or not targets.max_num_targets:
        return index
    ignored = targets.ignored.expand(*index.shape[:-1], -1).gather(-1, index.clamp(min=0))
    return index.masked_fill(ignored & (index >= 0), IGNORED)


def _taken(index: Tensor, max_num_targets: int) -> Tensor:
    """``(*batch, G)``, which targets have a prediction."""
    slot = torch.where(index >= 0, index, max_num_targets)
    none = torch.zeros(*index.shape[:-1], max_num_targets + 1, dtype=torch.bool, device=index.device)
    return none.scatter(-1, slot, True)[..., :-1]
