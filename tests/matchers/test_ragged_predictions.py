"""Predictions whose number differs from image to image: as each image alone, whatever filler holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from matchers import (
    IGNORED,
    Assignment,
    BalancedSinkhorn,
    ClosestPrediction,
    ClosestTarget,
    Hungarian,
    MaxIoU,
    Plan,
    Predictions,
    SoftMin,
    Targets,
    TaskAligned,
    UnbalancedSinkhorn,
    WeightedSum,
    batched_cost,
    focal_class_cost,
)
from matchers.by_cost import groups
from ragged import RaggedBatch, combine_data

CLASSES = 3
SIZES = [(4, 2), (0, 3), (1, 0), (3, 3), (5, 1), (2, 4)]
"""Predictions and targets of each image."""


def images_cost(gt: Any, predicted: Any) -> Tensor:
    return focal_class_cost(predicted["logits"], gt["labels"]) + torch.cdist(predicted["x"], gt["x"]).mT


MATCHERS: dict[str, Callable[[], Any]] = {
    "Hungarian": Hungarian,
    "Hungarian, background": partial(Hungarian, background_cost=2.0),
    "Hungarian, fields": lambda: Hungarian(batched_cost(images_cost)),
    "ClosestTarget": partial(ClosestTarget, background_cost=3.0),
    "ClosestPrediction": partial(ClosestPrediction, threshold=5.0),
    "SoftMin": SoftMin,
    "SoftMin, no background": partial(SoftMin, background=False),
    "SoftMin of predictions": partial(SoftMin, source="prediction"),
    "BalancedSinkhorn": partial(BalancedSinkhorn, background_cost=1.0),
    "BalancedSinkhorn, tolerance": partial(BalancedSinkhorn, background=False, num_iter=50, tolerance=1e-2),
    "BalancedSinkhorn, small": partial(BalancedSinkhorn, background_cost=1.0, reg_dimless=0.01, num_iter=50),
    "BalancedSinkhorn, in the unit of costs": partial(BalancedSinkhorn, normalize_cost_matrix=False),
    "UnbalancedSinkhorn": UnbalancedSinkhorn,
    "UnbalancedSinkhorn, tolerance": partial(UnbalancedSinkhorn, reg_target=0.01, tolerance=1e-2),
    "WeightedSum": lambda: WeightedSum([SoftMin(), ClosestTarget(background_cost=2.0)]),
    "WeightedSum, own costs": lambda: WeightedSum([SoftMin(), Hungarian()], same_cost=False),
}


def scene(
    sizes: Any, seed: int = 0, *, ignore: bool = False
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Predictions and targets of each image."""
    draw = torch.Generator().manual_seed(seed)

    def of(count: int) -> dict[str, Tensor]:
        center, side = torch.rand(count, 2, generator=draw) * 0.6 + 0.2, torch.rand(count, 2, generator=draw) * 0.3
        return {"boxes": torch.cat([center, side + 0.05], -1), "x": torch.rand(count, 2, generator=draw)}

    predictions = [{**of(count), "logits": torch.randn(count, CLASSES, generator=draw)} for count, _ in sizes]
    targets = [
        {
            **of(count),
            "labels": torch.randint(CLASSES, (count,), generator=draw),
            "ignore": (torch.rand(count, generator=draw) < 0.3) & ignore,
        }
        for _, count in sizes
    ]
    return predictions, targets


def read_targets(images: list[dict[str, Tensor]]) -> Targets:
    return Targets.of(images, box_format="cxcywh", normalized=True, fields=("x",))


def batch(images: list[dict[str, Tensor]], *, filler: float = torch.nan, extra: int = 2) -> Predictions:
    """Of all images, ragged, with that in the filler."""
    widest = max((len(each["boxes"]) for each in images), default=0) + extra

    def ragged(name: str) -> RaggedBatch:
        found = combine_data([each[name] for each in images]).with_max_sample_size(widest)
        return found.with_padded_set_to(filler)

    return Predictions(ragged("logits"), ragged("boxes"), fields={"x": ragged("x")})


def alone(image: dict[str, Tensor]) -> Predictions:
    return Predictions(image["logits"][None], image["boxes"][None], fields={"x": image["x"][None]})


def check_image(found: Any, at: int, expected: Any, count: int, targets: int) -> None:
    """One image of a result, against that of a call with this image only."""
    assert int(found.num_invalid[at]) == int(expected.num_invalid[0])
    if isinstance(found, Assignment):
        assert found.target_index[at, :count].tolist() == expected.target_index[0].tolist()
        assert (found.target_index[at, count:] == IGNORED).all()
        torch.testing.assert_close(found.quality[at, :count], expected.quality[0])
        assert not found.quality[at, count:].any()
        return
    weights = found.weights.tensor[at]
    torch.testing.assert_close(weights[:count, :targets], expected.weights.tensor[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.background[at, :count], expected.background[0], atol=1e-5, rtol=1e-4)
    assert not weights[count:].any() and not found.background[at, count:].any()
    if found.residual is not None:
        torch.testing.assert_close(found.residual[at], expected.residual[0], atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize("ignore", [False, True])
def test_each_image_as_alone(name: str, ignore: bool) -> None:
    predictions, targets = scene(SIZES, ignore=ignore)
    matcher = MATCHERS[name]()
    found = matcher(batch(predictions), read_targets(targets))
    for at, (count, size) in enumerate(SIZES):
        expected = matcher(alone(predictions[at]), read_targets(targets[at : at + 1]))
        check_image(found, at, expected, count, size)


@pytest.mark.parametrize("name", MATCHERS)
def test_no_image_has_any_prediction(name: str) -> None:
    predictions, targets = scene([(0, 2), (0, 0)])
    for extra in (0, 3):
        found = MATCHERS[name]()(batch(predictions, extra=extra), read_targets(targets))
        if isinstance(found, Assignment):
            assert (found.target_index == IGNORED).all()
        else:
            assert not found.weights.tensor.any() and not found.background.any()


sizes_of_images = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=4)


@pytest.mark.parametrize("name", MATCHERS)
@given(sizes_of_images, st.integers(0, 99), st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e30, 0.0, 0.5]))
@examples(10)
def test_filler_never_speaks(name: str, sizes: Any, seed: int, filler: float) -> None:
    predictions, targets = scene(sizes, seed)
    matcher = MATCHERS[name]()
    first = matcher(batch(predictions, filler=0.25), read_targets(targets))
    second = matcher(batch(predictions, filler=filler), read_targets(targets))
    for one, other in zip(flat(first), flat(second), strict=True):
        assert torch.equal(one, other)


def flat(found: Assignment | Plan) -> list[Tensor]:
    if isinstance(found, Assignment):
        return [found.target_index, found.quality, found.num_invalid]
    return [found.weights.tensor, found.background, found.num_invalid]


@pytest.mark.parametrize("name", [name for name in MATCHERS if "fields" not in name])
def test_layers_and_groups_of_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, targets = scene(SIZES)
    own = batch(predictions)
    layers = [own, batch(scene(SIZES, 7)[0])]
    assert own.sizes is not None

    def stacked(part: str) -> RaggedBatch:
        return RaggedBatch(
            torch.stack([getattr(each, part) for each in layers]), sample_sizes=own.sizes.expand(2, -1).contiguous()
        )

    both = Predictions(stacked("logits"), stacked("boxes"))
    matcher, truth = MATCHERS[name](), read_targets(targets)
    found = matcher(both, truth)
    monkeypatch.setattr(groups, "_PAIRS", 30)
    apart = matcher(both, truth)
    for at, each in enumerate(layers):
        expected = matcher(each, truth)
        for one, other, third in zip(flat(found), flat(apart), flat(expected), strict=True):
            torch.testing.assert_close(one[at], third, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(other[at], third, atol=1e-5, rtol=1e-4)


@pytest.mark.graphs
@pytest.mark.parametrize("name", [name for name in MATCHERS if "own costs" not in name])
def test_static_shapes_give_the_same(name: str) -> None:
    torch.compiler.reset()
    predictions, targets = scene(SIZES)
    matcher, own, truth = MATCHERS[name](), batch(predictions), read_targets(targets)
    compiled = torch.compile(matcher, backend="eager", fullgraph=True)
    for one, other in zip(flat(matcher(own, truth)), flat(compiled(own, truth)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MATCHERS)
def test_nothing_is_read_by_the_host(name: str) -> None:
    predictions, targets = scene(SIZES)
    found = MATCHERS[name]()(batch(predictions).to("meta"), read_targets(targets).to("meta"))
    assert found.num_invalid.is_meta


def test_dense_rules_refuse_them() -> None:
    predictions, images = scene(SIZES)
    targets = Targets.of(images, box_format="cxcywh", normalized=True, canvas_size=(16, 16), fields=("x",))
    for rule in (MaxIoU(), TaskAligned()):
        with pytest.raises(ValueError, match=f"{type(rule).__name__} .*as many predictions in each image, got ragged"):
            rule(batch(predictions), targets, torch.tensor([0.0, 0.0, 8.0, 8.0]).expand(7, 4))


@pytest.mark.parametrize("sizes", [(4, 0, 2), (0, 0)])
def test_parts_of_ragged_predictions_are_batches(sizes: tuple[int, ...]) -> None:
    ids = combine_data([torch.arange(size) for size in sizes])
    logits = combine_data([torch.randn(size, CLASSES) for size in sizes])
    predictions = Predictions(logits.with_padded_set_to(torch.nan), fields={"ids": ids})
    for name, expected in (("ids", ids), ("logits", logits)):
        found = predictions.as_batch(name)
        assert torch.equal(found.sample_sizes, torch.tensor(sizes)) and torch.equal(found.mask, expected.mask)
        assert all(map(torch.equal, found.split(), expected.split()))


def test_parts_of_full_predictions_are_batches() -> None:
    predictions = Predictions(torch.randn(3, 2, 5, CLASSES), fields={"ids": torch.arange(5).expand(3, 2, 5)})
    assert predictions.as_batch("ids").sample_sizes.tolist() == [[5, 5]] * 3
    with pytest.raises(ValueError, match=r"predictions have no 'boxes', but \['logits', 'ids'\]"):
        predictions.as_batch("boxes")
