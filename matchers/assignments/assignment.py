"""The results of matchers: a hard ``Assignment`` or a soft ``Plan``. Both have static shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.assignments import explanation, joining, notebook
from matchers.assignments.building import index_of_pairs, parts_of_index
from matchers.assignments.checks import check_parts, check_parts_of_plan
from matchers.assignments.forms import counts_of_targets, gathered, heaviest, pairs_of_index
from matchers.assignments.parts import BACKGROUND, IGNORED
from ragged import RaggedBatch
from ragged.interop.registration import register_dataclass
from ragged.values.checks import check_number
from ragged.values.sizes import prefix_mask


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which target each prediction has, if any.

    Args:
        target_index: ``(*batch, P)``, int64: the target, or ``BACKGROUND`` (-1), or ``IGNORED`` (-2).
        quality: ``(*batch, P)``, float32: how well a positive prediction fits its target, as the matcher says (IoU,
            alignment; 1 for matchers without such a measure); 0 for all others.
        num_targets: Number of targets of each sample, ``(*batch,)``, int64, including ignored ones.
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
        per_target: int | None = None,
    ) -> Assignment:
        """Wrap an assignment that was made elsewhere.

        Args:
            target_index: ``(*batch, P)``, as above.
            num_targets: ``(*batch,)``, or its last dimensions if predictions have more than targets.
            quality: ``(*batch, P)``, from 0 to 1; 1 for positives if not given.
            max_num_targets: G; the largest of ``num_targets`` if not given, which synchronises on an accelerator.
            per_target: How many predictions a target has at most, 1 if the assignment is one-to-one: ``pairs``, and
                losses in static shapes, are then of ``min(P, per_target * G)`` slots. None: of P.

        Raises:
            ValueError: Shapes do not fit, an index is neither a target of its sample nor -1 or -2, a target has more
                predictions than ``per_target``, or a quality is not from 0 to 1. The message names the sample.
        """
        return cls(*parts_of_index(target_index, num_targets, quality, max_num_targets, per_target))

    @classmethod
    def from_pairs(
        cls,
        matched_gt_indices: RaggedBatch,
        matched_pred_indices: RaggedBatch,
        *,
        num_predictions: int,
        num_targets: Tensor,
        max_num_targets: int | None = None,
        per_target: int | None = None,
    ) -> Assignment:
        """The inverse of ``pairs``: entry k of the one index batch belongs to entry k of the other.

        Args:
            matched_gt_indices, matched_pred_indices: ``(*batch, M)``, ragged.
            num_predictions: P.
            num_targets, max_num_targets, per_target: As for ``from_index``.

        Raises:
            IndexError: An index is out of range.
            ValueError: The index batches differ in size, or a prediction occurs twice in a sample.
        """
        index = index_of_pairs(matched_gt_indices, matched_pred_indices, num_predictions, num_targets)
        return cls(*parts_of_index(index, num_targets, None, max_num_targets, per_target))

    stack = staticmethod(joining.stack)
    unstack = joining.unstack
    cat = staticmethod(joining.cat)
    split = joining.split

    # --- what it says ----------------------------------------------------------------------------------------------

    @property
    def is_positive(self) -> Tensor:
        """``(*batch, P)``, bool: has a target."""
        return self.target_index >= 0

    @property
    def is_background(self) -> Tensor:
        """``(*batch, P)``, bool: must find nothing."""
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
        return self._over_targets(counts_of_targets(self.target_index, self.max_num_targets), 0)

    def gather(self, values: RaggedBatch, fill: float | int | bool = 0) -> Tensor:
        """The value of each prediction's target: values ``(*batch, G, …)`` give ``(*batch, P, …)``.

        Args:
            values: Ragged along the targets. Leading dimensions that only the predictions have may be missing.
            fill: Value for predictions without a target.

        >>> assignment = Assignment.from_index(torch.tensor([[1, -1, 0]]), num_targets=torch.tensor([2]))
        >>> assignment.gather(combine_data([[5, 7]]), fill=-1)
        tensor([[ 7, -1,  5]])
        """
        if isinstance(values, RaggedBatch) and values.num_batch_dims < self.target_index.dim() - 1:
            values = values.broadcast_batch_dims_to_shape(tuple(self.target_index.shape[:-1]))
        return gathered(values, self.target_index, self._over_targets(self.num_targets, 0), fill)

    # --- other forms -----------------------------------------------------------------------------------------------

    def pairs(self) -> tuple[RaggedBatch, RaggedBatch]:
        """The matched pairs: ``(matched_gt_indices, matched_pred_indices)``, each ``(*batch, M)``, ragged, int64.

        Entry k of the one belongs to entry k of the other, ordered by target. ``Pairs`` are candidates, not matched.
        """
        return pairs_of_index(self.target_index, self.max_num_targets, self.max_pairs)

    def plan(self) -> Plan:
        """The dense form: weight 1 for each pair, background 1 for each prediction that must find nothing."""
        targets = torch.arange(self.max_num_targets, device=self.target_index.device)
        weights = (self.target_index.unsqueeze(-1) == targets).float()
        return Plan(self._over_targets(weights, 1), self.is_background.float(), self.num_invalid)

    def to(self, device: torch.device | str) -> Assignment:
        """On another device."""
        return pytree.tree_map(lambda tensor: tensor.to(device), self)

    # --- for people ------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return notebook.shown_assignment(self).text()

    def _repr_html_(self) -> str:
        return notebook.shown_assignment(self).html()

    def describe(self) -> str:
        """One line per image: its targets, positives, background, ignored, and unmatched targets. Synchronises."""
        return explanation.describe(self)

    def explain(self, *sample: int, costs: Mapping[str, Tensor] | None = None) -> str:
        """The predictions of each target of one image, with their costs, in words.

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
    """The share of each prediction that goes to each target and to the background.

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
        index, quality = heaviest(self.weights, self.background, threshold)
        return Assignment(
            index,
            quality,
            self.num_targets,
            self.num_invalid,
            self.weights.tensor.shape[-1],
            self.background.shape[-1],
        )

    def to(self, device: torch.device | str) -> Plan:
        """On another device."""
        return pytree.tree_map(lambda tensor: tensor.to(device), self)

    # --- for people ------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return notebook.shown_plan(self).text()

    def _repr_html_(self) -> str:
        return notebook.shown_plan(self).html()

    def explain(self, *sample: int, smallest_weight: float = 0.01) -> str:
        """The predictions of each target of one image in words, heaviest first, down to ``smallest_weight``."""
        return explanation.explain_plan(self, sample, smallest_weight)


register_dataclass(Assignment, constants=("max_num_targets", "max_pairs"))
register_dataclass(Plan)
