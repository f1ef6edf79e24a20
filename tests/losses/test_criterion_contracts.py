"""What every criterion keeps to: images that do not see each other, padding, empties, precision, no synchronisation."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from criterion_cases import EVERY_CRITERION
from criterion_types import (
    CriterionCase,
    cast,
    is_of_images,
    leaves_of,
    padded,
    take,
    take_targets,
)
from torch import Tensor
from torch.utils import _pytree as pytree

from losses import Normalizer, total
from ragged import RaggedBatch
from ragged.testing import assert_no_host_sync

SIZES = [3, 0, 1, 6]
every_criterion = pytest.mark.parametrize("case", EVERY_CRITERION.values(), ids=EVERY_CRITERION)
close = torch.testing.assert_close


def value_and_gradients(
    case: CriterionCase, predictions: Any, targets: Any, **options: Any
) -> tuple[dict[str, Tensor], list[Tensor]]:
    predictions = cast(predictions, next(leaf for leaf in pytree.tree_leaves(predictions) if is_of_images(leaf)).dtype)
    losses = case.losses(case.make(**options), predictions, targets)
    leaves = leaves_of(predictions)
    gradients = torch.autograd.grad(total(losses).sum(), leaves, allow_unused=True)
    assert all(gradient is not None for gradient in gradients), "a prediction is not in the graph"
    return {name: value.detach() for name, value in losses.items()}, list(gradients)


def assert_same(found: tuple[Any, list[Tensor]], expected: tuple[Any, list[Tensor]], **tolerance: float) -> None:
    close(found[0], expected[0], **tolerance)
    for one, other in zip(found[1], expected[1], strict=True):
        close(one, other, **tolerance)


@every_criterion
def test_an_image_has_the_loss_that_it_has_alone(case: CriterionCase) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    by_image = case.losses(case.make(reduction="sample"), predictions, targets)
    for image in range(len(SIZES)):
        alone = case.losses(case.make(), take(predictions, [image]), take_targets(targets, [image]))
        assert alone.keys() == by_image.keys()
        for name, value in alone.items():
            assert by_image[name].shape == (len(SIZES),)
            close(by_image[name][image], value, rtol=1e-5, atol=1e-6)


@every_criterion
def test_unreduced_values_add_up(case: CriterionCase) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    sums = case.losses(case.make(reduction="sum"), predictions, targets)
    for name, values in case.losses(case.make(reduction="none"), predictions, targets).items():
        assert isinstance(values, RaggedBatch)
        assert values.batch_shape == (len(SIZES),) and values.dim() == 2
        close(values.tensor.sum(), sums[name], rtol=1e-5, atol=1e-6)


@every_criterion
def test_one_image_reduces_to_its_mean(case: CriterionCase) -> None:
    predictions, targets = case.predictions([4]), case.targets([4])
    mean = value_and_gradients(case, predictions, targets)
    sample = value_and_gradients(case, predictions, targets, reduction="sample")
    close({name: value.squeeze(0) for name, value in sample[0].items()}, mean[0])
    assert_same((0, sample[1]), (0, mean[1]))


@every_criterion
def test_order_of_images(case: CriterionCase) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    order = [2, 3, 0, 1]
    values, gradients = value_and_gradients(case, predictions, targets)
    moved = value_and_gradients(case, take(predictions, order), take_targets(targets, order))
    assert_same(moved, (values, [gradient[torch.tensor(order)] for gradient in gradients]), rtol=1e-5, atol=1e-6)


@every_criterion
@pytest.mark.parametrize("filler", ["nan", "inf", "lowest", "garbage"])
def test_padding(case: CriterionCase, filler: str) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    expected = value_and_gradients(case, predictions, targets)
    assert_same(value_and_gradients(case, predictions, padded(targets, 3, filler)), expected, rtol=1e-5, atol=1e-6)


@every_criterion
@pytest.mark.parametrize("sizes", [[0], [0, 0, 0], [1], [1, 0], [40, 1]])
@pytest.mark.parametrize("reduction", ["mean", "sample", "sum"])
def test_any_number_of_objects(case: CriterionCase, sizes: list[int], reduction: str) -> None:
    predictions, targets = case.predictions(sizes), case.targets(sizes)
    values, gradients = value_and_gradients(case, predictions, targets, reduction=reduction)
    assert all(value.isfinite().all() for value in values.values())
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert values.keys() == case.losses(case.make(), case.predictions(SIZES), case.targets(SIZES)).keys()


@every_criterion
def test_nan_stays_in_its_image(case: CriterionCase) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    clean = case.losses(case.make(reduction="sample"), predictions, targets)
    spoilt = pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, predictions)
    for leaf in pytree.tree_leaves(spoilt):
        if is_of_images(leaf) and leaf.is_floating_point():
            leaf[0] = torch.nan
    broken = case.losses(case.make(reduction="sample"), spoilt, targets)
    for name, value in broken.items():
        close(value[1:], clean[name][1:])


@every_criterion
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(case: CriterionCase, dtype: torch.dtype) -> None:
    halved = cast(case.predictions(SIZES), dtype)
    targets = case.targets(SIZES)
    values = case.losses(case.make(), halved, targets)
    expected, gradients = value_and_gradients(case, cast(halved, torch.float32), targets)
    assert all(value.dtype == torch.float32 for value in values.values())
    close({name: value.detach() for name, value in values.items()}, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(torch.autograd.grad(total(values), leaves_of(halved)), gradients, strict=True):
        assert one.dtype == dtype
        close(one.float(), other, rtol=2e-2, atol=1e-3)


@every_criterion
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(case: CriterionCase, dtype: torch.dtype) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    expected = value_and_gradients(case, predictions, targets)
    with torch.autocast("cpu", dtype=dtype):
        assert_same(value_and_gradients(case, predictions, targets), expected)


@every_criterion
def test_double_precision(case: CriterionCase) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    expected = value_and_gradients(case, predictions, targets)
    values, gradients = value_and_gradients(case, cast(predictions, torch.float64), targets.to(torch.float64))
    assert all(value.dtype == torch.float64 for value in values.values())
    close({name: value.float() for name, value in values.items()}, expected[0], rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients, expected[1], strict=True):
        close(one.float(), other, rtol=1e-3, atol=1e-5)


@every_criterion
@pytest.mark.parametrize("reduction", ["mean", "sample", "none"])
def test_no_synchronisation(case: CriterionCase, reduction: str) -> None:
    criterion = case.make(reduction=reduction)

    def call(predictions: Any, targets: Any, buffers: dict[str, Tensor]) -> dict[str, Any]:
        # The criterion with its anchors on the device.
        result = torch.func.functional_call(criterion, buffers, (predictions, targets))
        return result if case.own_result is None else case.own_result(result)

    buffers = dict(criterion.named_buffers())
    assert_no_host_sync(call, case.predictions(SIZES), case.targets(SIZES), buffers)


@every_criterion
def test_compiles_as_one_graph(case: CriterionCase) -> None:
    torch._dynamo.reset()
    criterion = case.make()
    compiled = torch.compile(
        lambda predictions, targets: case.losses(criterion, predictions, targets), fullgraph=True, backend="aot_eager"
    )
    predictions, targets = cast(case.predictions(SIZES), torch.float32), case.targets(SIZES)
    values = compiled(predictions, targets)
    gradients = torch.autograd.grad(total(values), leaves_of(predictions))
    found = {name: value.detach() for name, value in values.items()}
    assert_same((found, list(gradients)), value_and_gradients(case, predictions, targets), rtol=1e-4, atol=1e-5)


@every_criterion
def test_micro_batches_with_the_count_of_all(case: CriterionCase) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    criterion = case.make()
    if not hasattr(criterion, "counts"):
        pytest.skip("divides by a number for each image")
    whole = value_and_gradients(case, predictions, targets)
    parts = [(take(predictions, images), take_targets(targets, images)) for images in ([0, 1], [2, 3])]
    assignments = [criterion.assign(*part) for part in parts]
    counts = [criterion.counts(*part, assignment) for part, assignment in zip(parts, assignments, strict=True)]
    count = {name: counts[0][name] + counts[1][name] for name in counts[0]}
    found = [case.losses(criterion, *part, global_count=count) for part in parts]
    close({name: found[0][name] + found[1][name] for name in whole[0]}, whole[0], rtol=1e-5, atol=1e-6)


@every_criterion
def test_two_steps_are_the_call(case: CriterionCase) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    criterion = case.make()
    assignment = criterion.assign(predictions, targets)
    assert_same(
        (criterion.loss(predictions, targets, assignment), []), (criterion(predictions, targets), []), rtol=0, atol=0
    )


@every_criterion
def test_can_be_copied_and_pickled(case: CriterionCase) -> None:
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    criterion = case.make(normalizer=Normalizer(distributed=False))
    expected = case.losses(criterion, predictions, targets)
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        close(case.losses(other, predictions, targets), expected)
