"""Several assignments as one, and one as several: of layers, or of predictions that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from matchers.assignments.parts import IGNORED, AssignmentParts
from ragged import RaggedBatch, cat_targets
from ragged.values.checks import (
    INTEGER_DTYPES,
    all_equal,
    check_count,
    check_is_sequence,
    check_is_tensor,
    check_same_device,
    check_values,
    sample_name,
)
from ragged.values.readable import values_are_readable
from ragged.values.sizes import largest_size, prefix_mask

AnyAssignment = TypeVar("AnyAssignment", bound=AssignmentParts)

_TENSORS = ("target_index", "quality", "num_targets", "num_invalid")


def _check_are_assignments(assignments: Sequence[AssignmentParts], wanted: str) -> None:
    """Raise unless these are some assignments; ``wanted`` says of what, for the message."""
    check_is_sequence(assignments, "assignments", "Assignments")
    wrong = [type(each).__name__ for each in assignments if not hasattr(each, "target_index")]
    if wrong:
        raise TypeError(f"expected an Assignment, or a sequence of them, got {wrong[0]}")
    if not assignments:
        raise ValueError(f"expected the assignments of {wanted} at least, got none")


def stack(assignments: Sequence[AnyAssignment]) -> AnyAssignment:
    """Stack assignments along a new first batch dimension, for example decoder layers.

    Raises:
        TypeError: An entry is not an ``Assignment``.
        ValueError: The list is empty, or shapes differ.

    >>> one = Assignment.from_index(torch.tensor([[0, -1]]), num_targets=torch.tensor([1]))
    >>> Assignment.stack([one, one, one]).target_index.shape
    torch.Size([3, 1, 2])
    """
    _check_are_assignments(assignments, "one layer")
    shapes = [tuple(each.target_index.shape) for each in assignments]
    if not all_equal(shapes):
        raise ValueError(f"the assignments of all layers must have the same shape, got {list(dict.fromkeys(shapes))}")
    tensors = {name: torch.stack([getattr(each, name) for each in assignments]) for name in _TENSORS}
    return _with(
        assignments[0],
        **tensors,
        max_num_targets=max(each.max_num_targets for each in assignments),
        max_pairs=max(each.max_pairs for each in assignments),
    )


def unstack(assignment: AnyAssignment) -> list[AnyAssignment]:
    """The inverse of ``stack``: a list of assignments, one for each index of the first batch dimension."""
    columns = zip(*(getattr(assignment, name).unbind(0) for name in _TENSORS), strict=True)
    return [_with(assignment, **dict(zip(_TENSORS, column, strict=True))) for column in columns]


def cat(assignments: Sequence[AnyAssignment], *, sizes: Sequence[Tensor | None] | None = None) -> AnyAssignment:
    """Concatenate assignments along the predictions; all must have the same targets.

    Args:
        assignments: Each ``(*batch, P_k)``.
        sizes: Where predictions are ragged, how many each image has of each part, ``(*batch,)``; None for a part of
            which all images have P_k. The gaps are closed then, as ``ragged.cat_targets`` does with the predictions
            themselves: the result is as wide as what it gives, and what follows the predictions of an image is
            ``IGNORED``.

    Returns:
        An assignment. ``num_invalid`` is the sum over the parts.

    Raises:
        TypeError: An entry is not an ``Assignment``, or sizes are no integers.
        ValueError: The list is empty, batch shapes or targets differ, or a size is larger than its part.

    >>> tracks = Assignment.from_index(torch.tensor([[1, -1]]), num_targets=torch.tensor([2]))
    >>> queries = Assignment.from_index(torch.tensor([[-1, 0, -1]]), num_targets=torch.tensor([2]))
    >>> Assignment.cat([tracks, queries]).target_index
    tensor([[ 1, -1, -1,  0, -1]])
    """
    _check_are_assignments(assignments, "one part")
    _check_same_targets(assignments)
    indices, qualities = [each.target_index for each in assignments], [each.quality for each in assignments]
    if sizes is None:
        index, quality = torch.cat(indices, -1), torch.cat(qualities, -1)
    else:
        batches = _ragged_parts(indices, sizes)
        joined = cat_targets(batches)
        index = joined.with_padded_set_to(IGNORED).tensor
        own = [batch.create_with_sample_sizes_like_self(each) for batch, each in zip(batches, qualities, strict=True)]
        quality = cat_targets(own).with_padded_set_to(0).tensor
    return _with(
        assignments[0],
        target_index=index,
        quality=quality,
        num_invalid=torch.stack([each.num_invalid for each in assignments]).sum(0),
        max_pairs=min(sum(each.max_pairs for each in assignments), index.shape[-1]),
    )


def split(assignment: AnyAssignment, sizes: Sequence[int | Tensor]) -> list[AnyAssignment]:
    """The inverse of ``cat``: assignments of consecutive predictions.

    Args:
        assignment: ``(*batch, P)``.
        sizes: How many predictions each part has: a number, or ``(*batch,)`` where images differ. A ragged part is as
            wide as the largest of its sizes where the host can read them at no cost, and elsewhere P; what follows the
            predictions of an image is ``IGNORED``.

    Returns:
        An assignment for each part. The first part keeps ``num_invalid``.

    Raises:
        TypeError: A size is neither a number nor a tensor of integers.
        ValueError: There is none, a size is negative, or an image has another number of predictions. After ragged
            parts, predictions may be left over: filler.

    >>> both = Assignment.from_index(torch.tensor([[1, -1, -1, 0, -1]]), num_targets=torch.tensor([2]))
    >>> [part.target_index for part in both.split([2, 3])]
    [tensor([[ 1, -1]]), tensor([[-1,  0, -1]])]
    """
    check_is_sequence(sizes, "sizes", "numbers of predictions")
    if not sizes:
        raise ValueError("split needs the number of predictions of one part at least, got none")
    total = assignment.target_index.shape[-1]
    whole = [size for size in sizes if not isinstance(size, Tensor)]
    for size in whole:
        check_count(size, "each of sizes")
    if len(whole) == len(sizes):
        if sum(whole) != total:
            raise ValueError(f"sizes must add up to the {total} predictions of the assignment, got {list(sizes)}")
        parts = zip(assignment.target_index.split(whole, -1), assignment.quality.split(whole, -1), strict=True)
    else:
        parts = zip(*_ragged_runs(assignment, sizes), strict=True)
    nothing = torch.zeros_like(assignment.num_invalid)
    return [
        _with(
            assignment,
            target_index=index,
            quality=quality,
            num_invalid=nothing if number else assignment.num_invalid,
            max_pairs=min(assignment.max_pairs, index.shape[-1]),
        )
        for number, (index, quality) in enumerate(parts)
    ]


def _with(assignment: AnyAssignment, **parts: Any) -> AnyAssignment:
    return replace(assignment, **parts)  # type: ignore[type-var]


def _check_same_targets(assignments: Sequence[AssignmentParts]) -> None:
    """Raise unless all are of the same images and targets."""
    first = assignments[0]
    for number, each in enumerate(assignments[1:], 1):
        own, other = each.num_targets, first.num_targets
        if own.shape != other.shape or each.max_num_targets != first.max_num_targets:
            raise ValueError(
                f"assignments of the same targets are joined, but the first has batch shape {tuple(other.shape)} and "
                f"{first.max_num_targets} targets at most, number {number} has {tuple(own.shape)} and "
                f"{each.max_num_targets}"
            )
        check_same_device(own.device, other.device, name=f"assignment {number}", reference="the first")
        _check_same_sizes(own, other, number)


def _check_same_sizes(own: Tensor, other: Tensor, number: int) -> None:
    check_values(
        own == other,
        lambda at: (
            f"assignments of the same targets are joined, but the first has {int(other[at])} targets in "
            f"{sample_name(at)}, number {number} has {int(own[at])}"
        ),
        summary="Assignment.cat: numbers of targets differ",
    )


def _ragged_parts(indices: Sequence[Tensor], sizes: Any) -> list[RaggedBatch]:
    """The target indices of each part, ragged along the predictions."""
    check_is_sequence(sizes, "sizes", "numbers of predictions, (*batch,), or None")
    if len(sizes) != len(indices):
        raise ValueError(f"sizes must have one entry for each of {len(indices)} assignments, got {len(sizes)}")
    batches = []
    for index, own in zip(indices, sizes, strict=True):
        if own is None:
            batches.append(RaggedBatch.from_full_tensor(index, num_batch_dims=index.dim() - 1))
        else:
            _check_sizes(own, index)
            batches.append(RaggedBatch(index, sample_sizes=own))
    return batches


def _ragged_runs(assignment: AssignmentParts, sizes: Sequence[int | Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Target index and quality of each run of predictions."""
    index, total = assignment.target_index, assignment.target_index.shape[-1]
    counts = []
    for size in sizes:
        if isinstance(size, Tensor):
            _check_sizes(size, index)
            counts.append(size.to(torch.int64))
        else:
            counts.append(torch.full(index.shape[:-1], size, device=index.device))
    ends = torch.stack(counts).cumsum(0)
    check_values(
        (ends[-1] <= total) & (torch.stack(counts) >= 0).all(0),
        lambda at: (
            f"sizes must not be negative, and add up to the {total} predictions at most, got "
            f"{[int(count[at]) for count in counts]} for {sample_name(at)}"
        ),
        summary="Assignment.split: sizes are negative, or more than the predictions",
    )
    indices, qualities = [], []
    for size, count, end in zip(sizes, counts, ends, strict=True):
        width = size if not isinstance(size, Tensor) else largest_size(count) if values_are_readable(count) else total
        mask = prefix_mask(count, width)
        place = (torch.arange(width, device=index.device) + (end - count).unsqueeze(-1)).masked_fill(~mask, 0)
        if not total:  # there has to be something to read
            place, mask = place[..., :0], mask[..., :0]
        indices.append(torch.where(mask, index.gather(-1, place), IGNORED))
        qualities.append(torch.where(mask, assignment.quality.gather(-1, place), 0))
    return indices, qualities


def _check_sizes(sizes: Any, index: Tensor) -> None:
    """Raise unless these are integers, one for each image."""
    check_is_tensor(sizes, "each of sizes")
    if sizes.dtype not in INTEGER_DTYPES:
        raise TypeError(f"sizes must be integers, got {sizes.dtype}")
    if sizes.shape != index.shape[:-1]:
        raise ValueError(
            f"each of sizes must have the batch shape of the assignments, {tuple(index.shape[:-1])}, got "
            f"{tuple(sizes.shape)}"
        )
    check_same_device(sizes.device, index.device, name="sizes", reference="the assignments")
