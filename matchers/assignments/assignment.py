"""What matchers return: a hard ``Assignment`` or a soft ``Plan``. Both have static shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.assignments import explanation, notebook
from matchers.assignments.checks import check_num_targets, check_parts, check_parts_of_plan, check_quality
from matchers.assignments.selection import largest
from ragged import RaggedBatch, batched_indexing_write
from ragged.batch.ragged_batch import check_is_batch
from ragged.interop.registration import register_dataclass
from ragged.ops.indices import as_indices, check_range
from ragged.values.checks import (
    all_equal,
    check_count,
    check_is_sequence,
    check_is_tensor,
    check_number,
    check_same_device,
    check_shares,
    check_values,
    sample_name,
)
from ragged.values.filler import check_fits_dtype
from ragged.values.sizes import check_same_sizes, largest_size, prefix_mask

BACKGROUND = -1
"""Target index of a prediction that shall find nothing."""
IGNORED = -2
"""Target index of a prediction that is neither positive nor negative."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which target each prediction has, if any.

    Args:
        target_index: ``(*batch, P)``, int64: the target, or ``BACKGROUND`` (-1), or ``IGNORED`` (-2).
        quality: ``(*batch, P)``, float32: how well a positive prediction fits its target, as the matcher says (IoU,
            alignment; 1 for matchers without such a measure); 0 for all others.
        num_targets: ``(*batch,)``, int64, ignored ones included.
        num_invalid: ``(*batch,)``, int64: costs of targets that were not finite, and hence avoided.
        max_num_targets: G, the padded number of targets.
        max_pairs: An upper bound of the positive predictions of an image: P, or less if a target cannot have as many:
            min(P, G) if one-to-one.

    >>> assignment = Assignment.from_index(torch.tensor([[1, -1, 0, 1]]), num_targets=torch.tensor([2]))
    >>> assignment.num_positives
    tensor([3])
    """

    target_index: Tensor
    quality: Tensor
    num_targets: Tensor
    num_invalid: Tensor
    max_num_targets: int
    max_pairs: int

    def __post_init__(self) -> None:
        check_parts(self)

    @classmethod
    def from_index(
        cls,
        target_index: Tensor,
        *,
        num_targets: Tensor,
        quality: Tensor | None = None,
        max_num_targets: int | None = None,
    ) -> Assignment:
        """Wrap an assignment that was made elsewhere.

        Args:
            target_index: ``(*batch, P)``, as above.
            num_targets: ``(*batch,)``, or its last dimensions if predictions have more than targets.
            quality: ``(*batch, P)``, from 0 to 1; 1 for positives if not given.
            max_num_targets: G; the largest of ``num_targets`` if not given, which synchronises on an accelerator.

        Raises:
            ValueError: Shapes do not fit, an index is neither a target of its sample nor -1 or -2, or a quality is not
                from 0 to 1. The message names the sample.
        """
        if not isinstance(target_index, Tensor) or target_index.dtype != torch.int64:
            got = target_index.dtype if isinstance(target_index, Tensor) else type(target_index).__name__
            raise TypeError(f"target_index must be an int64 tensor, got {got}")
        check_is_tensor(target_index, "target_index")
        if target_index.dim() == 0:
            raise ValueError("target_index must have shape (*batch, P), got ()")
        check_num_targets(num_targets)
        batch_shape = target_index.shape[:-1]
        if num_targets.shape != batch_shape[max(len(batch_shape) - num_targets.dim(), 0) :]:
            raise ValueError(f"num_targets must have the shape {tuple(batch_shape)}, got {tuple(num_targets.shape)}")
        num_targets = num_targets.expand(batch_shape)
        check_same_device(num_targets.device, target_index.device, name="num_targets", reference="target_index")
        check_values(
            (target_index >= IGNORED) & (target_index < num_targets.unsqueeze(-1)),
            lambda at: (
                f"target_index must be a target, -1 or -2; got {int(target_index[at])} for prediction {at[-1]} of "
                f"{sample_name(at[:-1])}, which has {int(num_targets[at[:-1]])} targets"
            ),
            summary="Assignment: an index is out of range",
        )
        if max_num_targets is None:
            max_num_targets = largest_size(num_targets)
        check_count(max_num_targets, "max_num_targets")
        check_values(
            num_targets <= max_num_targets,
            lambda at: (
                f"max_num_targets is {max_num_targets}, but {sample_name(at)} has {int(num_targets[at])} targets"
            ),
            summary="Assignment: a sample has more than max_num_targets targets",
        )
        if quality is None:
            quality = torch.ones_like(target_index, dtype=torch.float32)
        else:
            check_quality(quality, target_index)
            check_shares(quality, "quality", counts=target_index >= 0)
        return cls(
            target_index,
            torch.where(target_index >= 0, quality, 0).float(),
            num_targets.to(torch.int64),
            torch.zeros_like(num_targets, dtype=torch.int64),
            max_num_targets,
            target_index.shape[-1],
        )

    @classmethod
    def from_pairs(
        cls,
        matched_gt_indices: RaggedBatch,
        matched_pred_indices: RaggedBatch,
        *,
        num_predictions: int,
        num_targets: Tensor,
        max_num_targets: int | None = None,
    ) -> Assignment:
        """The inverse of ``pairs``: entry k of the one index batch belongs to entry k of the other.

        Raises:
            IndexError: An index is out of range.
            ValueError: The index batches differ in size, or a prediction occurs twice in a sample.
        """
        check_count(num_predictions, "num_predictions")
        check_num_targets(num_targets)
        none = torch.full((*num_targets.shape, num_predictions), BACKGROUND, device=num_targets.device)
        gt_indices = as_indices(matched_gt_indices)
        if gt_indices.batch_shape != num_targets.shape:
            raise ValueError(
                f"num_targets must have the batch shape of the indices, {tuple(gt_indices.batch_shape)}, "
                f"got {tuple(num_targets.shape)}"
            )
        check_same_device(num_targets.device, gt_indices.device, name="num_targets", reference="the indices")
        check_range(gt_indices, num_targets.unsqueeze(-1), what="matched_gt_indices")
        index = batched_indexing_write(gt_indices, matched_pred_indices, none, check_duplicates=True)
        return cls.from_index(index, num_targets=num_targets, max_num_targets=max_num_targets)

    @classmethod
    def stack(cls, assignments: Sequence[Assignment]) -> Assignment:
        """One assignment with a first batch dimension more: of the layers of a decoder, for example.

        Raises:
            TypeError: Something is no ``Assignment``.
            ValueError: There is none, or shapes differ.

        >>> one = Assignment.from_index(torch.tensor([[0, -1]]), num_targets=torch.tensor([1]))
        >>> Assignment.stack([one, one, one]).target_index.shape
        torch.Size([3, 1, 2])
        """
        check_is_sequence(assignments, "assignments", "Assignments")
        wrong = [type(each).__name__ for each in assignments if not isinstance(each, Assignment)]
        if wrong:
            raise TypeError(f"expected an Assignment, or a sequence of them, got {wrong[0]}")
        if not assignments:
            raise ValueError("expected the assignments of one layer at least, got none")
        shapes = [tuple(each.target_index.shape) for each in assignments]
        if not all_equal(shapes):
            raise ValueError(
                f"the assignments of all layers must have the same shape, got {list(dict.fromkeys(shapes))}"
            )

        def stacked(name: str) -> Tensor:
            return torch.stack([getattr(each, name) for each in assignments])

        return cls(
            stacked("target_index"),
            stacked("quality"),
            stacked("num_targets"),
            stacked("num_invalid"),
            max(each.max_num_targets for each in assignments),
            max(each.max_pairs for each in assignments),
        )

    def unstack(self) -> list[Assignment]:
        """The inverse of ``stack``."""
        parts = (part.unbind(0) for part in (self.target_index, self.quality, self.num_targets, self.num_invalid))
        return [
            Assignment(index, quality, targets, invalid, self.max_num_targets, self.max_pairs)
            for index, quality, targets, invalid in zip(*parts, strict=True)
        ]

    # --- what it says ----------------------------------------------------------------------------------------------

    @property
    def is_positive(self) -> Tensor:
        """``(*batch, P)``, bool: has a target."""
        return self.target_index >= 0

    @property
    def is_background(self) -> Tensor:
        """``(*batch, P)``, bool: shall find nothing."""
        return self.target_index == BACKGROUND

    @property
    def is_ignored(self) -> Tensor:
        """``(*batch, P)``, bool: does not count."""
        return self.target_index == IGNORED

    @property
    def num_positives(self) -> Tensor:
        """``(*batch,)``."""
        return self.is_positive.sum(-1)

    def predictions_per_target(self) -> RaggedBatch:
        """Number of predictions that each target got, ``(*batch, G)``, ragged."""
        slot = torch.where(self.is_positive, self.target_index, self.max_num_targets)
        counts = slot.new_zeros(*slot.shape[:-1], self.max_num_targets + 1)
        counts = counts.scatter_add(-1, slot, torch.ones_like(slot))[..., :-1].contiguous()
        return self._over_targets(counts, 0)

    def gather(self, values: RaggedBatch, fill: float | int | bool = 0) -> Tensor:
        """What each prediction's target has: values ``(*batch, G, …)`` give ``(*batch, P, …)``.

        Args:
            values: Ragged along the targets. Leading dimensions that only the predictions have may be missing.
            fill: For predictions without a target.

        >>> assignment = Assignment.from_index(torch.tensor([[1, -1, 0]]), num_targets=torch.tensor([2]))
        >>> assignment.gather(combine_data([[5, 7]]), fill=-1)
        tensor([[ 7, -1,  5]])
        """
        check_is_batch(values, "values")
        check_fits_dtype(fill, values.dtype)
        shape = self.target_index.shape
        if values.num_batch_dims < len(shape) - 1:
            values = values.broadcast_batch_dims_to_shape(tuple(shape[:-1]))
        if values.ragged_axis != 0:
            raise ValueError(
                f"values must have shape (*batch, G, …), ragged along G, got {tuple(values.shape)} with "
                f"non_uniform_dim={values.non_uniform_dim}"
            )
        check_same_sizes(values, self._over_targets(self.num_targets, 0), what="values and targets of the assignment")
        if values.max_sample_size == 0:
            values = values.with_max_sample_size(1)  # there has to be something to read, if only filler
        rest = values.tensor.shape[len(shape) :]
        aligned = (*shape, *(1,) * len(rest))
        index = self.target_index.clamp(min=0).view(aligned).expand(*shape, *rest)
        return values.tensor.gather(len(shape) - 1, index).masked_fill(~self.is_positive.view(aligned), fill)

    # --- other forms -----------------------------------------------------------------------------------------------

    def pairs(self) -> tuple[RaggedBatch, RaggedBatch]:
        """``(matched_gt_indices, matched_pred_indices)``, each ``(*batch, M)``, ragged, int64.

        Entry k of the one belongs to entry k of the other; pairs are ordered by target, then by prediction.
        """
        positive = self.is_positive
        order = torch.where(positive, self.target_index, self.max_num_targets).argsort(dim=-1, stable=True)
        order = order[..., : self.max_pairs].contiguous()
        sizes = positive.sum(-1)
        mask = prefix_mask(sizes, order.shape[-1])
        pred = order.masked_fill(~mask, 0)
        gt = self.target_index.gather(-1, order).masked_fill(~mask, 0)
        return RaggedBatch._unchecked(gt, mask, sizes, 0), RaggedBatch._unchecked(pred, mask, sizes, 0)

    def plan(self) -> Plan:
        """The dense form: weight 1 for each pair, background 1 for each prediction that shall find nothing."""
        targets = torch.arange(self.max_num_targets, device=self.target_index.device)
        weights = (self.target_index.unsqueeze(-1) == targets).float()
        return Plan(self._over_targets(weights, 1), self.is_background.float(), self.num_invalid)

    def to(self, device: torch.device | str) -> Assignment:
        """On another device."""
        return pytree.tree_map(lambda tensor: tensor.to(device), self)

    # --- for people ------------------------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        return notebook.assignment_as_html(self)

    def describe(self) -> str:
        """One line per image, read by the host: targets, positives, background, ignored, and targets left over."""
        return explanation.describe(self)

    def explain(self, *sample: int, costs: Mapping[str, Tensor] | None = None) -> str:
        """What each target of one image got, and at which costs.

        Args:
            sample: Index of the image in each batch dimension.
            costs: Cost terms by name, each ``(*batch, G, P)``, as a matcher's ``costs`` gives them.

        >>> assignment = Assignment.from_index(torch.tensor([[0, -1]]), num_targets=torch.tensor([2]))
        >>> print(assignment.explain(0))
        sample 0: 2 targets, 1 positive, 1 background, 0 ignored; 1 target without a prediction
          target 0: prediction 0 (quality 1)
          target 1: none
        """
        return explanation.explain_assignment(self, sample, {} if costs is None else costs)

    def _over_targets(self, tensor: Tensor, ragged_axis: int) -> RaggedBatch:
        return RaggedBatch._unchecked(
            tensor, prefix_mask(self.num_targets, self.max_num_targets), self.num_targets, ragged_axis
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """How much of each prediction goes to each target and to the background.

    Args:
        weights: ``(*batch, P, G)``, float, ragged along G (``non_uniform_dim`` is the last).
        background: ``(*batch, P)``, float. Ignored predictions have no mass at all.
        num_invalid: As in ``Assignment``.
        residual: ``(*batch,)``: how far the marginals of a transport plan are from what was asked for (the largest
            error of a prediction's or a target's total, where each prediction has 1 to give); None if they are not an
            aim of the matcher.

    >>> weights = RaggedBatch(torch.tensor([[[0.75], [0.25]]]), sample_sizes=[1], non_uniform_dim=2)
    >>> plan = Plan(weights, torch.tensor([[0.25, 0.75]]), torch.tensor([0]))
    >>> plan.num_targets, plan.assignment().target_index
    (tensor([1]), tensor([[ 0, -1]]))
    """

    weights: RaggedBatch
    background: Tensor
    num_invalid: Tensor
    residual: Tensor | None = None

    def __post_init__(self) -> None:
        check_parts_of_plan(self)

    @property
    def num_targets(self) -> Tensor:
        """``(*batch,)``."""
        return self.weights.sample_sizes

    def assignment(self, *, threshold: float | None = None) -> Assignment:
        """The hard form: each prediction goes to its heaviest target, or to the background if that weighs as much.

        Args:
            threshold: If given, a prediction is positive where its heaviest weight is at least this, whatever the
                background weighs.

        >>> weights = RaggedBatch(torch.tensor([[[0.7, 0.1], [0.2, 0.3]]]), sample_sizes=[2], non_uniform_dim=2)
        >>> Plan(weights, torch.tensor([[0.2, 0.5]]), torch.tensor([0])).assignment().target_index
        tensor([[ 0, -1]])
        """
        if threshold is not None:
            check_number(threshold, "threshold", low=None)
        weights = self.weights.with_padded_set_to(-1.0).tensor
        nothing = self.background == 0
        if weights.shape[-1] == 0:
            best, index = torch.full_like(self.background, -1.0), torch.zeros_like(self.background, dtype=torch.int64)
        else:
            best, index = (found.squeeze(-1) for found in largest(weights, 1))
        positive = best >= threshold if threshold is not None else (best > self.background) & (best > 0)
        # Neither a target nor the background wants it.
        other = torch.where(nothing & (best <= 0), IGNORED, BACKGROUND)
        return Assignment(
            torch.where(positive, index, other),
            torch.where(positive, best, 0).float(),
            self.num_targets,
            self.num_invalid,
            self.weights.tensor.shape[-1],
            self.background.shape[-1],
        )

    def to(self, device: torch.device | str) -> Plan:
        """On another device."""
        return pytree.tree_map(lambda tensor: tensor.to(device), self)

    def explain(self, *sample: int, smallest_weight: float = 0.01) -> str:
        """What each target of one image got, heaviest first, down to ``smallest_weight``."""
        return explanation.explain_plan(self, sample, smallest_weight)


register_dataclass(Assignment, constants=("max_num_targets", "max_pairs"))
register_dataclass(Plan)
