"""Operations of ``matchers`` that bugs are planted into, and what they are checked with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from matchers import Assignment
from matchers.geometry.boxes import coordinates
from ragged import RaggedBatch
from tests.mutation.operations import relations
from tests.mutation.planting import Case

BOXES, KEYPOINTS = "matchers.geometry.overlaps", "matchers.geometry.keypoints"
GATHER, PER_TARGET = "matchers.assignments.forms:gathered", "matchers.assignments.forms:counts_of_targets"
STACK = "matchers.assignments.joining:stack"


def assignment_of(values: RaggedBatch) -> Assignment:
    index = torch.tensor([[2, -1, 0, 2, -2], [-1, -1, -1, -2, -1], [-1, 0, -1, 0, -1], [1, -1, 1, 0, -1]])
    return Assignment.from_index(index, num_targets=values.sample_sizes, max_num_targets=values.max_sample_size)


def gathered() -> list[tuple[Assignment, RaggedBatch]]:
    values = RaggedBatch(torch.randn(4, 4, 2), sample_sizes=[3, 0, 1, 2])
    return [(assignment_of(values), values)]


def counted() -> list[tuple[Tensor, RaggedBatch]]:
    (assignment, values), *_ = gathered()
    return [(assignment.target_index, values)]


def gathers(code: Callable[[str], Any]) -> Callable[..., Any]:
    function = code(GATHER)
    return lambda assignment, values: function(values, assignment.target_index, values, 0)


def counts(code: Callable[[str], Any]) -> Callable[..., Any]:
    function = code(PER_TARGET)

    def op(index: Tensor, values: RaggedBatch) -> Any:
        return values.create_with_sample_sizes_like_self(function(index, values.max_sample_size))

    return op


def counts_of_sample(index: Tensor, values: Tensor) -> Tensor:
    return (index.unsqueeze(-1) == torch.arange(len(values))).sum(0)


def number_of_pairs(assignment: Assignment) -> Tensor:
    """(B,): of those that there is room for."""
    return assignment.pairs()[0].mask.sum(-1)


def stacked_pairs(code: Callable[[str], Any]) -> Callable[..., Any]:
    """Of a layer with one prediction for each target, and one with many."""
    stack = code(STACK)

    def op(index: Tensor, values: RaggedBatch) -> Any:
        width = values.max_sample_size
        many = Assignment.from_index(index, num_targets=values.sample_sizes, max_num_targets=width)
        few = replace(many, target_index=index.new_full(index.shape, -1), max_pairs=min(index.shape[-1], width))
        return tuple(number_of_pairs(layer) for layer in stack([few, many]).unstack())

    return op


def index_with_many() -> list[tuple[Tensor, RaggedBatch]]:
    index = torch.tensor([[2, 1, 0, 2, -2], [-1] * 5, [0, 0, 0, 0, 0], [1, -1, 1, 0, -1]])
    return [(index, RaggedBatch(torch.randn(4, 3), sample_sizes=[3, 0, 1, 2]))]


def boxes() -> list[tuple[RaggedBatch, RaggedBatch]]:
    corner = torch.rand(4, 5, 2)
    first = RaggedBatch(torch.cat([corner, corner + torch.rand(4, 5, 2) + 0.1], -1), sample_sizes=[4, 0, 1, 3])
    return [(first, first.apply(lambda tensor: tensor + torch.randn(4, 5, 4) * 0.2))]


def measure(name: str, **options: Any) -> Callable[[Any], Any]:
    def operation(code: Callable[[str], Any]) -> Callable[..., Any]:
        function = getattr(code(BOXES), name)

        def op(first: RaggedBatch, second: RaggedBatch) -> Any:
            values = function(*(each.with_padded_set_to(0.5).tensor for each in (first, second)), **options)
            return first.create_with_sample_sizes_like_self(values)

        return op

    return operation


def shares(whole: str) -> Callable[[Tensor, Tensor], Tensor]:
    """IoU or IoF, written down once more."""

    def share(first: Tensor, second: Tensor) -> Tensor:
        low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
        common = (high - low).clamp(min=0).prod(-1)
        areas = [coordinates(each).area for each in (first, second)]
        return common / (areas[0] if whole == "first" else areas[0] + areas[1] - common)

    return share


def similarity(code: Callable[[str], Any]) -> Callable[..., Any]:
    function = code(KEYPOINTS).oks
    return lambda found, gt, area: function(found, gt, area, sigmas=(0.3, 0.4, 0.5))


def posed() -> list[tuple[RaggedBatch, RaggedBatch, RaggedBatch]]:
    """Keypoints, one in three of which is not visible, and areas."""
    found = RaggedBatch(torch.rand(4, 5, 3, 2), sample_sizes=[4, 0, 1, 3])
    visible = torch.tensor([2.0, -1.0, 1.0]).view(3, 1).expand(4, 5, 3, 1)
    parts = torch.cat([torch.rand(4, 5, 3, 2), visible], -1), torch.rand(4, 5) + 0.2
    gt, area = map(found.create_with_sample_sizes_like_self, parts)
    return [(found, gt, area)]


CASES = {
    # An assignment of targets that are not there any more is an error.
    "gather": Case(gathers, gathered, without=frozenset({"gradients"})),
    "counts": Case(counts, counted, counts_of_sample, relations=(relations.counts_add_up,)),
    "stacked pairs": Case(stacked_pairs, index_with_many),
    "iou": Case(measure("iou"), boxes, shares("union"), relations=(relations.far_apart_is_0,)),
    "iof": Case(measure("iof"), boxes, shares("first"), relations=(relations.inside_of_a_larger_box,)),
    "oks": Case(similarity, posed),
    "ciou": Case(measure("ciou", detach_trade_off=False), boxes),
}
