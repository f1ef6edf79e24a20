"""Cases for matchers of whole cost matrices: costs as a table, with targets to match, to ignore and to pad with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from matchers.assignments.assignment import Assignment, Plan
from matchers.pairs.pairs import Pairs
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged import RaggedBatch
from ragged.testing import assert_no_host_sync, filler_value


@dataclass(frozen=True)
class Case:
    """Costs ``(N, G, P)`` of N images, NaN in rows that must not be looked at, and flags ``(N, G)``."""

    costs: Tensor
    sizes: Tensor
    ignore: Tensor
    batch_shape: tuple[int, ...]
    filler: float = 0.0

    def cost(self, pairs: Pairs) -> Tensor:
        return self.costs.to(pairs.sample.device)[pairs.sample, pairs.target]

    @property
    def predictions(self) -> Predictions:
        return Predictions(logits=torch.zeros(*self.batch_shape, self.costs.shape[2], 1))

    @property
    def targets(self) -> Targets:
        sizes = self.sizes.reshape(self.batch_shape)
        boxes = torch.tensor([1.0, 1.0, 5.0, 9.0]).expand(*self.costs.shape[:2], 4)
        boxes = torch.where((torch.arange(boxes.shape[1]) < self.sizes[:, None])[..., None], boxes, self.filler)
        fields = (boxes, torch.zeros(self.costs.shape[:2], dtype=torch.int64), self.ignore)
        parts = [RaggedBatch(part.reshape(*self.batch_shape, *part.shape[1:]), sample_sizes=sizes) for part in fields]
        return Targets(parts[0], parts[1], ignore=parts[2])

    def match(self, kind: Any, **options: Any) -> Any:
        return kind(cost=self.cost, **options)(self.predictions, self.targets)

    def tables(self) -> list[list[list[float]]]:
        """For each image, costs of the targets that are to be matched."""
        width = self.costs.shape[1]
        return [
            [row.double().tolist() for g, row in enumerate(costs) if g < size and not flags[g]]
            for costs, size, flags in zip(self.costs, self.sizes.tolist(), self.ignore.tolist(), strict=True)
            if width >= 0
        ]

    def take(self, index: Sequence[int]) -> Case:
        where = torch.tensor(list(index), dtype=torch.int64)
        parts = (self.costs[where], self.sizes[where], self.ignore[where])
        return Case(*parts, (len(where),), self.filler)

    def padded(self, slack: int, filler: float) -> Case:
        count, _, width = self.costs.shape
        costs = torch.cat([self.costs, torch.full((count, slack, width), filler)], 1)
        ignore = torch.cat([self.ignore, torch.zeros(count, slack, dtype=torch.bool)], 1)
        return replace(self, costs=costs, ignore=ignore, filler=filler)


def make_case(
    sizes: Sequence[int],
    num_predictions: int,
    seed: int = 0,
    *,
    steps: int | None = None,
    bad: float = 0.0,
    ignored: float = 0.0,
    low: float = 0.0,
    batch_shape: tuple[int, ...] | None = None,
) -> Case:
    """Random costs from ``low`` to 2; ``steps`` makes ties; parts of the costs are bad, of the targets ignored."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(list(sizes), dtype=torch.int64)
    width = max(sizes, default=0)
    costs = torch.rand(len(counts), width, num_predictions, generator=generator)
    costs = (costs if steps is None else (costs * steps).round() / steps) * (2 - low) + low
    kinds = torch.tensor([math.nan, math.inf, -math.inf])
    spoiled = kinds[torch.randint(3, costs.shape, generator=generator)]
    costs = torch.where(torch.rand(costs.shape, generator=generator) < bad, spoiled, costs)
    ignore = torch.rand(len(counts), width, generator=generator) < ignored
    dead = ignore | (torch.arange(width) >= counts[:, None])
    return Case(costs.masked_fill(dead.unsqueeze(-1), math.nan), counts, ignore, batch_shape or (len(counts),))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    number = st.one_of(st.sampled_from([0, 1]), st.integers(0, 12))
    case = make_case(
        draw(st.lists(number, min_size=1, max_size=4)),
        draw(st.integers(0, 12)),
        draw(st.integers(0, 10_000)),
        steps=draw(st.sampled_from([None, 1, 3])),
        bad=draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])),
        ignored=draw(st.sampled_from([0.0, 0.3, 1.0])),
        low=draw(st.sampled_from([0.0, 0.0, -2.0])),
    )
    filler = filler_value(draw(st.sampled_from(["zeros", "garbage", "nan", "inf"])), torch.float32)
    return case.padded(draw(st.integers(0, 2)), float(filler))


def dense(result: Plan | Assignment) -> tuple[Tensor, Tensor]:
    """Weights (N, G, P) and background (N, P), batch dimensions flattened; filler must be 0."""
    plan = result.plan() if isinstance(result, Assignment) else result
    weights, background = plan.weights.tensor, plan.background
    return weights.flatten(0, -3).mT, background.flatten(0, -2)


def assert_agrees(
    case: Case, result: Plan | Assignment, expected: Sequence[tuple[list[list[float]], list[float]]], tolerance: float
) -> None:
    """Compare with the weights and the background of each image, and look at all the other rows."""
    weights, background = dense(result)
    width = weights.shape[2]
    for n, (rows, rest) in enumerate(expected):
        live = [g for g in range(int(case.sizes[n])) if not case.ignore[n, g]]
        dead = [g for g in range(weights.shape[1]) if g not in live]
        wanted = torch.tensor(rows, dtype=torch.float64).reshape(len(live), width)
        torch.testing.assert_close(weights[n][live].double(), wanted, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(
            background[n].double(), torch.tensor(rest, dtype=torch.float64), atol=tolerance, rtol=tolerance
        )
        assert not weights[n][dead].any(), f"mass in filler or ignored targets of image {n}"
    bad = [sum(not math.isfinite(cost) for row in rows for cost in row) for rows in case.tables()]
    assert result.num_invalid.reshape(-1).tolist() == bad


def assert_same(first: Plan | Assignment, second: Plan | Assignment, tolerance: float = 1e-4) -> None:
    """The same weights, whatever the padding."""
    (mine, rest), (theirs, others) = dense(first), dense(second)
    width = min(mine.shape[1], theirs.shape[1])
    assert not mine[:, width:].any() and not theirs[:, width:].any()
    torch.testing.assert_close(mine[:, :width], theirs[:, :width], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(rest, others, atol=tolerance, rtol=tolerance)


def check_independence(case: Case, kind: Any, **options: Any) -> None:
    """An image's result depends on nothing but the image."""
    result = case.match(kind, **options)
    count = len(case.sizes)
    order = list(reversed(range(count)))
    turned = case.take(order).match(kind, **options)
    assert_same(case.padded(3, math.nan).match(kind, **options), result)
    for name in (0, 1):
        torch.testing.assert_close(dense(turned)[name][order], dense(result)[name], atol=1e-4, rtol=1e-4)
    for n in range(count):
        alone = case.take([n]).match(kind, **options)
        torch.testing.assert_close(dense(alone)[0][0], dense(result)[0][n], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(dense(alone)[1][0], dense(result)[1][n], atol=1e-4, rtol=1e-4)


def check_compiled(case: Case, kind: Any, **options: Any) -> None:
    """Traces to one graph, with the same result, and never waits for a device."""
    matcher = kind(cost=case.cost, **options)
    predictions, targets = case.predictions, case.targets
    result = matcher(predictions, targets)
    torch._dynamo.reset()
    compiled = torch.compile(matcher, fullgraph=True, backend="eager")(predictions, targets)
    assert_same(compiled, result)
    assert compiled.num_invalid.tolist() == result.num_invalid.tolist()
    if getattr(result, "residual", None) is not None:
        torch.testing.assert_close(compiled.residual, result.residual, atol=1e-3, rtol=1e-3)
    costs = case.costs
    assert_no_host_sync(
        lambda a, b, c: kind(cost=replace(case, costs=c).cost, **options)(a, b), predictions, targets, costs
    )
