"""The base class of matchers of dense heads: call, checks of parameters, ignored regions, costs, compiled graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.costs.terms import PairCost, padded_costs
from matchers.dense import as_operation
from matchers.dense.as_operation import Choice
from matchers.pairs.ignored import (
    PairTest,
    in_ignored_region,
    mark_ignored,
    point_in_region,
    predicted_box_in_region,
    prior_box_in_region,
)
from matchers.pairs.problem import AnyPredictions, Problem
from matchers.pairs.reading import check_budget


class Rule:
    """A rule that gives each prediction of a dense head a target, or none.

    Derive your own: a frozen dataclass, whose parameters are keywords. Define ``choose`` and, if needed, ``check``,
    ``most_per_target``, ``region_test`` and ``cost_terms``. NumPy numbers become Python numbers. Rules can be pickled
    and copied.

    A compiled graph on CPU has your rule as one operation, so ``choose`` can read values. Rules with equal
    parameters are interchangeable, so parameters must not change. If a parameter is not a number, a string, None or a
    tuple of these, the graph traces ``choose`` instead.

    Attributes:
        max_pairwise_bytes: How much memory may be taken for pairs at once; None for a usual amount. Declare it as the
            last field of your dataclass to make it a parameter. A graph that is compiled for an accelerator keeps to
            it if it is given; otherwise the compiler decides.
        ignore_iof: Fraction of a prediction's area inside an ignored target from which it is ignored. Declare it in
            the same way.
        normalized: The unit of boxes that ``choose`` gets: False for pixels, True for fractions of the image, None for
            that of the targets.
        of_points: Whether priors are grid points (P, 4): x, y and strides. They are xyxy boxes otherwise.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class MostOverlapping(Rule):
    ...     above: float = 0.5
    ...     def choose(self, problem):
    ...         overlap = pairwise(iou, problem.gt_boxes, problem.need_boxes("MostOverlapping"))
    ...         overlap = overlap * problem.matchable.unsqueeze(-1)
    ...         background = torch.nn.functional.pad(overlap, (0, 0, 1, 0), value=self.above)
    ...         quality, target = background.max(1)
    ...         return target - 1, quality, None
    >>> predictions = {"pred_boxes": torch.tensor([[[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0]]])}
    >>> target = {"boxes": torch.tensor([[1.0, 0.0, 5.0, 4.0]]), "labels": torch.tensor([0])}
    >>> MostOverlapping(above=0.4)(predictions, [target]).target_index
    tensor([[ 0, -1]])
    """

    max_pairwise_bytes: int | None = None
    ignore_iof: float = 0.5
    normalized: ClassVar[bool | None] = False
    of_points: ClassVar[bool] = False
    _handle: ClassVar[str | None] = None  # an object has its own

    def choose(self, problem: Problem) -> Choice:
        """Which target each prediction gets; a hook that you write.

        A rule that needs ``level_sizes``, as ``ATSS`` does, takes them here, in ``most_per_target`` and in its call.

        Args:
            problem: What the rule was called with: N images of P predictions, boxes as xyxy.

        Returns:
            The index (N, P), int64, of the target in its image, -1 for background, -2 for ignored; the quality (N, P)
            of the pair, read where there is a target; and how many costs of an image are not finite, (N,), int64, or
            None if none is. You can disregard ignored regions.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it chooses")

    def check(self) -> None:
        """Raise unless all parameters are right; a hook."""

    def most_per_target(self) -> int | None:
        """A hook: the largest number of predictions of a target, which bounds the work of losses. None if unknown."""
        return None

    def region_test(self, problem: Problem) -> PairTest:
        """A hook: which predictions without a target lie in an ignored region.

        Returns:
            A function of ``Pairs`` of ignored targets, that gives (R, P), bool. By default, whether the region holds
            the point, or at least ``ignore_iof`` of the prior's area; of the predicted box's if there are no priors.
        """
        if problem.priors is None:
            return predicted_box_in_region(self.ignore_iof)
        return point_in_region(problem.priors[..., :2]) if self.of_points else prior_box_in_region(self.ignore_iof)

    def cost_terms(self, problem: Problem) -> Mapping[str, PairCost]:
        """A hook: the terms of ``costs`` by name, functions of ``Pairs`` that return (R, P)."""
        raise NotImplementedError(f"{type(self).__name__} does not define its costs")

    def __call__(self, predictions: Any, targets: Any, priors: Tensor | None = None) -> Assignment:
        """Assign a batch.

        Args:
            predictions: Anything that ``Predictions.of`` reads; None if priors are all that the rule looks at.
            targets: Anything that ``Targets.of`` reads.
            priors: (P, 4) or (*batch, P, 4); None for rules without them.
        """
        return self._assignment(predictions, targets, priors)

    @torch.no_grad()
    def costs(
        self, predictions: AnyPredictions | None, targets: Any, priors: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The cost terms ``(*batch, G, P)`` by name, for ``Assignment.explain`` and plots."""
        problem = Problem.of(predictions, targets, priors, normalized=self.normalized)
        return padded_costs(self.cost_terms(problem), problem)

    def decide(self, problem: Problem, level_sizes: Sequence[int] | None = None) -> Choice:
        """The result of ``choose``, with predictions in ignored regions marked."""
        options = {} if level_sizes is None else {"level_sizes": level_sizes}
        target_index, quality, num_invalid = self.choose(problem, **options)
        region = in_ignored_region(problem, self.region_test(problem))
        return mark_ignored(target_index, region), quality, num_invalid

    def _assignment(
        self, predictions: Any, targets: Any, priors: Tensor | None, level_sizes: Sequence[int] | None = None
    ) -> Assignment:
        options = {} if level_sizes is None else {"level_sizes": level_sizes}
        with torch.no_grad():  # not as a decorator, which the compiler cannot trace of a rule that is made in the graph
            problem = Problem.of(
                predictions, targets, priors, normalized=self.normalized, max_pairwise_bytes=self.max_pairwise_bytes
            )
            if problem.free is not None:
                raise ValueError(
                    f"{type(self).__name__} needs as many predictions in each image, got ragged "
                    "predictions; matchers by cost take them"
                )
            handle = self._handle
            if handle is not None and as_operation.can_be_used(problem):
                target_index, quality, num_invalid = as_operation.decide(handle, problem, level_sizes)
            else:
                target_index, quality, num_invalid = self.decide(problem, level_sizes)
            return problem.assignment(
                target_index, quality=quality, num_invalid=num_invalid, per_target=self.most_per_target(**options)
            )

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            plain = _plain(value)
            if plain is not value:
                object.__setattr__(self, each.name, plain)
        check_budget(self.max_pairwise_bytes)
        self.check()
        self._let_be_found()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_handle"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._let_be_found()

    def _let_be_found(self) -> None:
        if not torch.compiler.is_compiling():  # a rule that is made in a graph is traced
            object.__setattr__(self, "_handle", as_operation.handle_of(self))


def _plain(value: Any) -> Any:
    """The parameter of a rule as its words and numbers of Python."""
    if isinstance(value, np.generic):
        return value.item()
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
