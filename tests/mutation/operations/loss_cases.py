"""Operations of ``losses`` that bugs are planted into, and what they are checked with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from losses import l1_loss
from losses.core.positives import Positives
from losses.functional.elementwise import entropy
from matchers import Assignment
from ragged import RaggedBatch
from tests.mutation.operations import relations
from tests.mutation.planting import Case

MINING, SUMS, SOFTMAX, EXPECTED = (
    "losses.functional.mining",
    "losses.modules.closed_forms",
    "losses.functional.softmax",
    "losses.functional.expected",
)
HARD, NORMALIZER, MASS = "losses.functional.hard_mining", "losses.core.normalizer", "losses.modules.of_mass:_weighted"
PER_SAMPLE, OF_TARGETS = (
    "losses.core.positives:Positives.per_sample_of_each",
    "losses.core.positives:Positives.of_targets",
)
SIZES = [3, 0, 1, 2]


def mined(code: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda loss, positive: code(MINING).hard_negative_mining(loss, positive, ratio=2)


def losses_and_positives() -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(5, 8), torch.rand(5, 8) < torch.tensor([0.1, 0.3, 0.5, 0, 0.2]).view(-1, 1))]


def mined_in_sample(loss: Tensor, positive: Tensor) -> Tensor:
    taken, negatives = torch.zeros_like(positive), (~positive).nonzero().squeeze(-1).tolist()
    negatives.sort(key=lambda place: -float(loss.detach()[place]))
    taken[negatives[: 2 * int(positive.sum())]] = True
    return taken


def summed(code: Callable[[str], Any]) -> Callable[..., Any]:
    def op(logits: Tensor, labels: Tensor) -> Any:
        def own(logits: Tensor, scores: Tensor | None) -> Tensor:
            return entropy(logits, scores)

        return code(SUMS).summed_over_classes(logits, labels, None, own=own, exponent=2, scale=0.75)

    return op


def logits_and_labels() -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(3, 4, 5), torch.tensor([[0, -1, 2, 4], [-1, -1, -1, -1], [3, 3, 1, -1]]))]


def cross_entropy(code: Callable[[str], Any]) -> Callable[..., Any]:
    def op(logits: RaggedBatch, labels: RaggedBatch) -> Any:
        given = labels.with_padded_set_to(-1).tensor
        return code(SOFTMAX).cross_entropy(logits.tensor, given, ignored_label=-1).sum(-1)

    return op


def ragged_logits() -> list[tuple[RaggedBatch, RaggedBatch]]:
    logits = RaggedBatch(torch.randn(4, 4, 5), sample_sizes=SIZES)
    return [(logits, logits.create_with_sample_sizes_like_self(torch.randint(5, (4, 4))))]


def cross_entropy_of_sample(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels, reduction="sum")


def expected(code: Callable[[str], Any]) -> Callable[..., Any]:
    def op(inputs: Tensor, targets: RaggedBatch, mass: RaggedBatch) -> Any:
        given = (targets.with_padded_set_to(0).tensor, mass.with_padded_set_to(0).tensor)
        return code(EXPECTED).expected_loss(lambda *pair: l1_loss(*pair).square().sum(-1), inputs, *given)

    return op


def plans() -> list[tuple[Tensor, RaggedBatch, RaggedBatch]]:
    targets = RaggedBatch(torch.randn(4, 4, 3), sample_sizes=SIZES)
    return [(torch.randn(4, 5, 3), targets, targets.create_with_sample_sizes_like_self(torch.rand(4, 5, 4), 2))]


def hard_mining(code: Callable[[str], Any]) -> Callable[..., Any]:
    return code(HARD).HardMiningCrossEntropyLoss(1.0)


def maps() -> list[tuple[Tensor, Tensor]]:
    labels = torch.randint(0, 3, (4, 7)) * (torch.rand(4, 7) < 0.5)
    labels[1], labels[2, 0] = 0, -1
    return [(torch.randn(4, 3, 7), labels)]


def hard_mining_of_sample(logits: Tensor, labels: Tensor) -> Tensor:
    values = functional.cross_entropy(logits.T, labels.clamp(min=0), reduction="none")
    negative = values[labels == 0].sort(descending=True).values[: int((labels > 0).sum())]
    return values[labels > 0].sum() + negative.sum()


def weighted_mining(code: Callable[[str], Any]) -> Callable[..., Any]:
    def op(logits: Tensor, labels: Tensor, weights: Tensor) -> Any:
        levels = [logits.unsqueeze(1)]
        mined = code(HARD).mined_cross_entropy
        return mined(levels, labels, weights, background=0, ratio=1, negatives_without_positives=0).sum(-1)

    return op


def weighted_maps() -> list[tuple[Tensor, Tensor, Tensor]]:
    labels = torch.tensor([[0, 1, -1, -1, -1, -1, -1], [-1] * 7, [1, -1, -2, -1, -1, -1, -1], [0] * 7])
    return [(torch.randn(4, 3, 7), labels, torch.where(labels < 0, torch.rand(4, 7), 1.0))]


def weighted_mining_of_sample(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    values = weights * functional.cross_entropy(logits.T, (labels + 1).clamp(min=0), reduction="none")
    negative = values[labels == -1].sort(descending=True).values[: int((labels >= 0).sum())]
    return values[labels >= 0].sum() + negative.sum()


def normalized(code: Callable[[str], Any]) -> Callable[..., Any]:
    def op(data: RaggedBatch) -> Any:
        divisor = code(NORMALIZER).Normalizer()(data.sample_sizes)
        return data.with_padded_set_to(0).tensor.square().sum(1) / divisor

    return op


def weighted(code: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda values, mass: code(MASS)(values, mass.clamp(min=0))


def values_and_mass() -> list[tuple[Tensor, Tensor]]:
    mass = torch.tensor([[[0.0, 0.5], [1, 1]], [[2, 0], [0, 0]], [[1, 0.5], [0, 1]]])
    return [(torch.randn(3, 2, 2).masked_fill(mass == 0, torch.inf), mass)]


def weighted_in_sample(values: Tensor, mass: Tensor) -> Tensor:
    rows = zip(values, mass, strict=True)
    return torch.stack([(value[each > 0] * each[each > 0]).sum() for value, each in rows])


def rows_of(index: Tensor, count: int) -> Positives:
    return Positives.of(
        Assignment.from_index(index, num_targets=index.new_full(index.shape[:1], count), max_num_targets=count)
    )


def sums(code: Callable[[str], Any]) -> Callable[..., Any]:
    def op(values: Tensor, index: Tensor) -> Any:
        rows = rows_of(index, 9)
        return code(PER_SAMPLE)(rows, [rows.of_predictions(values)])[0]

    return op


def looked_up(code: Callable[[str], Any]) -> Callable[..., Any]:
    def op(values: RaggedBatch, index: Tensor) -> Any:
        rows = rows_of(index, 9)
        return rows.per_prediction(code(OF_TARGETS)(rows, values.with_padded_set_to(0).tensor))

    return op


TARGET_INDEX = torch.tensor([[2, -1, 0, 2, -2], [-1, -1, -1, -2, -1], [-1, 0, -1, 0, -1], [1, -1, 1, 0, -1]])
NO_GRADIENT = frozenset({"gradients"})

CASES = {
    "mining": Case(
        mined,
        losses_and_positives,
        mined_in_sample,
        relations=(
            relations.no_positive_is_mined,
            relations.losses_of_positives_do_not_count,
            relations.twice_as_many_are_mined,
        ),
    ),
    "sums over classes": Case(summed, logits_and_labels),
    "cross entropy": Case(
        cross_entropy, ragged_logits, cross_entropy_of_sample, relations=(relations.certainty_costs_nothing,)
    ),
    "expected loss": Case(expected, plans, without=NO_GRADIENT),
    "hard mining": Case(hard_mining, maps, hard_mining_of_sample, relations=(relations.certainty_costs_nothing,)),
    "weighted hard mining": Case(
        weighted_mining,
        weighted_maps,
        weighted_mining_of_sample,
        without=NO_GRADIENT,
        relations=(relations.weight_0_is_not_there,),
    ),
    "normalizer": Case(
        normalized,
        lambda: [(RaggedBatch(torch.randn(4, 4), sample_sizes=SIZES),)],
        lambda sample: sample.square().sum() / max(len(sample), 1),
        relations=(relations.nothing_is_0,),
    ),
    "mass of classes": Case(
        weighted,
        values_and_mass,
        weighted_in_sample,
        without=NO_GRADIENT,
        relations=(relations.no_mass_does_not_count,),
    ),
    "sums of rows": Case(sums, lambda: [(torch.randn(4, 5), TARGET_INDEX)]),
    "values of targets": Case(
        looked_up, lambda: [(RaggedBatch(torch.randn(4, 4), sample_sizes=SIZES), TARGET_INDEX)], without=NO_GRADIENT
    ),
}
