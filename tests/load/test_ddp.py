"""DistributedDataParallel on four ranks, one without targets and one without positives: the step of one large batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION
from cases.common import cast
from distributed_worker import launch
from heads import Head
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from losses import Normalizer, total
from losses.testing import CriterionCase, take, take_targets
from matchers import Assignment, Plan, Targets

RANKS = 4
SIZES = [3, 0, 2, 1, 6, 0, 1, 4]  # of all images; rank r has every fourth one, from the r-th on
EMPTY, FRUITLESS = 1, 2
# They match each target with a prediction, wherever it is.
ONE_TO_ONE = ("detr", "dfine", "deim", "detection", "detection soft")
WITH_DENOISING = ("detr", "dfine")

Gradients = dict[str, Tensor]


def images_of(rank: int) -> list[int]:
    return list(range(rank, len(SIZES), RANKS))


def batch(name: str) -> tuple[Any, Targets]:
    """All images; those of one rank have targets that nothing is positive for."""
    case = EVERY_CRITERION[name]
    targets = case.targets(SIZES).to(torch.float64)
    fruitless = torch.zeros(len(SIZES), 1, dtype=torch.bool)
    fruitless[images_of(FRUITLESS)] = True
    boxes, labels = targets.boxes, targets.labels
    if name in ONE_TO_ONE:
        flags = fruitless.expand(labels.tensor.shape).clone()
        targets = replace(targets, ignore=labels.create_with_sample_sizes_like_self(flags))
    elif case.normalized:
        without_area = torch.cat([boxes.tensor[..., :2], torch.zeros_like(boxes.tensor[..., 2:])], -1)
        targets = with_boxes(targets, torch.where(fruitless.unsqueeze(-1), without_area, boxes.tensor))
    else:
        targets = with_boxes(targets, boxes.tensor + 1000.0 * fruitless.unsqueeze(-1))
    return cast(case.predictions(SIZES), torch.float64), targets


def with_boxes(targets: Targets, boxes: Tensor) -> Targets:
    return replace(targets, boxes=targets.boxes.create_with_sample_sizes_like_self(boxes))


def trainable(predictions: Any, images: list[int]) -> Any:
    return cast(take(predictions, images), torch.float64)


def gradients(
    case: CriterionCase, head: torch.nn.Module, predictions: Any, targets: Targets, **options: Any
) -> Gradients:
    normalizer = options.pop("normalizer", None)
    total(case.losses(case.make(normalizer=normalizer), head(predictions), targets, **options)).backward()
    return {name.removeprefix("module."): each.grad for name, each in head.named_parameters()}


def without_denoising(predictions: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in predictions.items() if not key.startswith("dn_")}


def on_rank(rank: int, num_ranks: int) -> dict[str, Gradients]:
    """The gradients of every criterion; and with a decoder that makes no denoising queries where there is no target."""
    assert num_ranks == RANKS
    found = {}
    for name, case in EVERY_CRITERION.items():
        predictions, targets = batch(name)
        own, of_own = trainable(predictions, images_of(rank)), take_targets(targets, images_of(rank))
        head = DistributedDataParallel(Head(predictions).double())
        found[name] = gradients(case, head, own, of_own)
        if name in WITH_DENOISING:
            head = DistributedDataParallel(PartialHead(predictions).double(), find_unused_parameters=True)
            head.module.denoises = rank != EMPTY
            found[name + " without denoising"] = gradients(case, head, own, of_own)
    return found


class PartialHead(Head):
    """A head that may leave the denoising queries out."""

    denoises = True

    def forward(self, predictions: Any) -> Any:
        result = super().forward(predictions)
        return result if self.denoises else without_denoising(result)


@pytest.fixture(scope="module")
def by_rank() -> list[dict[str, Gradients]]:
    return launch("test_ddp:on_rank", RANKS)


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_the_gradient_of_the_whole_batch_on_every_rank(name: str, by_rank: list[dict[str, Gradients]]) -> None:
    predictions, targets = batch(name)
    head = Head(predictions).double()
    alone = Normalizer(distributed=False)
    assert_equal_on_ranks(
        [found[name] for found in by_rank],
        gradients(EVERY_CRITERION[name], head, predictions, targets, normalizer=alone),
    )


@pytest.mark.parametrize("name", WITH_DENOISING)
def test_a_rank_without_targets_may_have_no_denoising_queries(name: str, by_rank: list[dict[str, Gradients]]) -> None:
    """What such a rank does not compute is no part of the loss, and the others divide by what they have."""
    case, (predictions, targets) = EVERY_CRITERION[name], batch(name)
    criterion, head = case.make(), PartialHead(predictions).double()
    parts = []
    for rank in range(RANKS):
        head.denoises = rank != EMPTY
        parts.append((head(trainable(predictions, images_of(rank))), take_targets(targets, images_of(rank))))
    counts: dict[str, Tensor] = {}
    for part in parts:
        for key, count in criterion.counts(*part, criterion.assign(*part)).items():
            counts[key] = counts.get(key, 0) + count
    sum(total(criterion(*part, global_count=counts)) for part in parts).backward()
    expected = {key: each.grad for key, each in head.named_parameters()}
    assert_equal_on_ranks([found[name + " without denoising"] for found in by_rank], expected)


def assert_equal_on_ranks(found: list[Gradients], expected: Gradients) -> None:
    assert any(gradient.any() for gradient in expected.values())
    for rank in found:
        assert rank.keys() == expected.keys()
        for key, gradient in expected.items():
            assert torch.equal(rank[key], found[0][key])
            torch.testing.assert_close(rank[key], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_the_ranks_are_what_they_are_meant_to_be(name: str) -> None:
    predictions, targets = batch(name)
    criterion = EVERY_CRITERION[name].make()
    numbers = []
    for rank in range(RANKS):
        own, of_own = take(predictions, images_of(rank)), take_targets(targets, images_of(rank))
        numbers.append((int(of_own.num_targets.sum()), num_positives(criterion.assign(own, of_own))))
    assert [objects > 0 for objects, _ in numbers] == [True, False, True, True]
    assert [positives > 0 for _, positives in numbers] == [True, False, False, True]


def num_positives(found: Any) -> float:
    if isinstance(found, Mapping):
        return sum(num_positives(each) for each in found.values())
    if isinstance(found, Plan):
        return float(found.weights.with_padded_set_to(0).tensor.sum())
    assert isinstance(found, Assignment)
    return float(found.num_positives.sum())
