"""What every criterion promises, each promise a function of a case that raises if it is broken."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from losses.core.terms import total
from losses.testing.case import CriterionCase, Outcome, is_of_images, leaves_of, padded, take, take_targets
from ragged import RaggedBatch
from ragged.testing import PropertyViolation, assert_no_host_sync

SIZES = [3, 0, 1, 6]
"""Numbers of objects of the images; among them none and one."""
MORE_SIZES = ([0], [0, 0, 0], [1], [1, 0], [40, 1])
HALVES = (torch.float16, torch.bfloat16)


def images_alone(case: CriterionCase) -> None:
    """With ``reduction="sample"`` each image has the loss that it has alone."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    by_image = case.losses(case.make(reduction="sample"), predictions, targets)
    for name, values in by_image.items():
        _expect(values.shape == (len(SIZES),), f"{name} has shape {tuple(values.shape)}, expected one for each image")
    for image in range(len(SIZES)):
        alone = case.losses(case.make(), take(predictions, [image]), take_targets(targets, [image]))
        own = {name: values[image] for name, values in by_image.items()}
        _same((own, []), (alone, []), f"image {image} in a batch, then alone")


def unreduced_values(case: CriterionCase) -> None:
    """With ``reduction="none"`` there is a value for each prediction; they add up to ``reduction="sum"``."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    sums = case.losses(case.make(reduction="sum"), predictions, targets)
    for name, values in case.losses(case.make(reduction="none"), predictions, targets).items():
        _expect(isinstance(values, RaggedBatch), f"{name} is a {type(values).__name__}, expected a RaggedBatch")
        _expect(tuple(values.batch_shape) == (len(SIZES),) and values.dim() == 2, f"{name} is no value per prediction")
        _same(({name: values.tensor.sum()}, []), ({name: sums[name]}, []), "unreduced values added up, then the sum")


def one_image(case: CriterionCase) -> None:
    """For a single image ``"sample"`` and ``"mean"`` are the same, gradients too."""
    predictions, targets = case.predictions([4]), case.targets([4])
    mean = case.value_and_gradients(case.make(), predictions, targets)
    values, gradients = case.value_and_gradients(case.make(reduction="sample"), predictions, targets)
    _same(({name: value.squeeze(0) for name, value in values.items()}, gradients), mean, "by sample, then the mean")


def order(case: CriterionCase) -> None:
    """The order of the images changes nothing but the order of gradients."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    moved = [2, 3, 0, 1]
    values, gradients = case.value_and_gradients(case.make(), predictions, targets)
    found = case.value_and_gradients(case.make(), take(predictions, moved), take_targets(targets, moved))
    back = [None if each is None else each[torch.tensor(moved)] for each in gradients]
    _same(found, (values, back), f"images in the order {moved}, then as they were")


def padding(case: CriterionCase) -> None:
    """Neither the amount of padding of the targets nor what is in it changes a value or a gradient."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    expected = case.value_and_gradients(case.make(), predictions, targets)
    for filler in ("nan", "inf", "lowest", "garbage"):
        found = case.value_and_gradients(case.make(), predictions, padded(targets, 3, filler))
        _same(found, expected, f'targets padded by 3 slots of "{filler}", then as they were')


def any_number_of_objects(case: CriterionCase) -> None:
    """Whatever the numbers of objects, the same terms come out, finite, and every prediction has a finite gradient."""
    names = case.losses(case.make(), case.predictions(SIZES), case.targets(SIZES)).keys()
    for sizes in (SIZES, *MORE_SIZES):
        predictions, targets = case.predictions(sizes), case.targets(sizes)
        for options in case.options():
            values, gradients = case.value_and_gradients(case.make(**options), predictions, targets)
            where = f"with {sizes} objects"
            _expect(values.keys() == names, f"has terms {list(values)} {where}, expected {list(names)}")
            for name, value in values.items():
                _expect(bool(value.isfinite().all()), f"{name} is {value} {where}")
            for place, gradient in enumerate(gradients):
                _expect(gradient is not None, f"prediction {place} is not in the graph {where}")
                _expect(bool(gradient.isfinite().all()), f"prediction {place} has a gradient not finite {where}")


def nan_stays(case: CriterionCase) -> None:
    """NaN in the predictions of an image changes the loss of no other image."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    clean = case.losses(case.make(reduction="sample"), predictions, targets)
    spoilt = pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, predictions)
    for leaf in pytree.tree_leaves(spoilt):
        if is_of_images(leaf) and leaf.is_floating_point():
            leaf[0] = torch.nan
    broken = case.losses(case.make(reduction="sample"), spoilt, targets)
    others = [{name: value[1:] for name, value in losses.items()} for losses in (broken, clean)]
    _same((others[0], []), (others[1], []), "other images beside one of NaN, then without NaN")


def half_precision(case: CriterionCase) -> None:
    """Half-precision predictions give what they give in float32; gradients have their dtype."""
    targets = case.targets(SIZES)
    for dtype in HALVES:
        halved = case.cast(case.predictions(SIZES), dtype)
        values, gradients = case.value_and_gradients(case.make(), halved, targets)
        expected = case.value_and_gradients(case.make(), case.cast(halved, torch.float32), targets)
        for name, value in values.items():
            _expect(value.dtype == torch.float32, f"{name} of {dtype} predictions is {value.dtype}")
        _same((values, []), (expected[0], []), f"{dtype} predictions, then float32", rtol=1e-4)
        for gradient in gradients:
            _expect(gradient is None or gradient.dtype == dtype, f"a gradient of {dtype} predictions is not {dtype}")
        floats = [None if gradient is None else gradient.float() for gradient in gradients]
        _same(({}, floats), ({}, expected[1]), f"{dtype} predictions, then float32", rtol=2e-2, atol=1e-3)


def autocast(case: CriterionCase) -> None:
    """Autocast changes nothing."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    expected = case.value_and_gradients(case.make(), predictions, targets)
    for dtype in HALVES:
        with torch.autocast("cpu", dtype=dtype):
            found = case.value_and_gradients(case.make(), predictions, targets)
        _same(found, expected, f"autocast to {dtype}, then without")


def double_precision(case: CriterionCase) -> None:
    """Float64 predictions and targets are computed on in float64."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    expected = case.value_and_gradients(case.make(), predictions, targets)
    double = case.cast(predictions, torch.float64)
    values, gradients = case.value_and_gradients(case.make(), double, targets.to(torch.float64))
    for name, value in values.items():
        _expect(value.dtype == torch.float64, f"{name} of float64 predictions is {value.dtype}")
    found = {name: value.float() for name, value in values.items()}
    floats = [None if gradient is None else gradient.float() for gradient in gradients]
    _same((found, floats), expected, "float64, then float32", rtol=1e-3)


def synchronisation(case: CriterionCase) -> None:
    """Nothing waits for the device, forward or backward; buffers such as anchors are on it."""
    for options in case.options():
        if options.get("reduction") == "sum":
            continue  # the mean is this, and a division
        criterion = case.make(**options)

        def call(predictions: Any, targets: Any, buffers: dict[str, Tensor], criterion: Any = criterion) -> Any:
            result = torch.func.functional_call(criterion, buffers, (predictions, targets))
            return result if case.as_terms is None else case.as_terms(result)

        state = dict(criterion.named_parameters()) | dict(criterion.named_buffers())
        assert_no_host_sync(call, case.predictions(SIZES), case.targets(SIZES), state)


def compilation(case: CriterionCase) -> None:
    """One graph, with the values and gradients of eager execution."""
    torch._dynamo.reset()
    criterion = case.make()
    compiled = torch.compile(
        lambda predictions, targets: case.losses(criterion, predictions, targets), fullgraph=True, backend="aot_eager"
    )
    predictions, targets = case.cast(case.predictions(SIZES), torch.float32), case.targets(SIZES)
    try:
        values = compiled(predictions, targets)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise PropertyViolation(f"criterion: torch cannot compile it as one graph: {error}") from error
    gradients = torch.autograd.grad(total(values), leaves_of(predictions), allow_unused=True)
    found = {name: value.detach() for name, value in values.items()}
    expected = case.value_and_gradients(criterion, predictions, targets)
    _same((found, list(gradients)), expected, "compiled, then eager", rtol=1e-4)


def micro_batches(case: CriterionCase) -> None:
    """Parts of a batch, given the count of all, add up to the whole."""
    criterion: Any = case.make()
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    whole = case.losses(criterion, predictions, targets)
    parts = [(take(predictions, images), take_targets(targets, images)) for images in ([0, 1], [2, 3])]
    counts = [criterion.counts(*part, criterion.assign(*part)) for part in parts]
    count = {name: counts[0][name] + counts[1][name] for name in counts[0]}
    found = [case.losses(criterion, *part, global_count=count) for part in parts]
    added = {name: found[0][name] + found[1][name] for name in whole}
    _same((added, []), (whole, []), "two micro-batches added up, then the whole")


def two_steps(case: CriterionCase) -> None:
    """``assign`` and ``loss`` are the call."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    criterion: Any = case.make()
    steps = criterion.loss(predictions, targets, criterion.assign(predictions, targets))
    steps = steps if case.as_terms is None else case.as_terms(steps)
    _same((steps, []), (case.losses(criterion, predictions, targets), []), "two steps, then one", rtol=0, atol=0)


def copies(case: CriterionCase) -> None:
    """A copy of the criterion computes the same."""
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    criterion = case.make()
    found, expected = (case.losses(each, predictions, targets) for each in (copy.deepcopy(criterion), criterion))
    _same((found, []), (expected, []), "a copy, then the original", rtol=0, atol=0)


CRITERION_PROPERTIES: Mapping[str, Callable[[CriterionCase], None]] = {
    "padding": padding,
    "order": order,
    "any number of objects": any_number_of_objects,
    "half precision": half_precision,
    "autocast": autocast,
    "double precision": double_precision,
    "synchronisation": synchronisation,
    "compilation": compilation,
    "images alone": images_alone,
    "unreduced values": unreduced_values,
    "one image": one_image,
    "NaN stays": nan_stays,
    "micro-batches": micro_batches,
    "two steps": two_steps,
    "copies": copies,
}
"""What ``check_criterion`` checks, by the names that its ``without`` takes."""
# What a criterion must have for a property to make sense.
NEEDS_REDUCTIONS = ("images alone", "unreduced values", "one image", "NaN stays")
NEEDS_METHODS: Mapping[str, tuple[str, ...]] = {"micro-batches": ("assign", "counts"), "two steps": ("assign", "loss")}


def applicable(case: CriterionCase) -> list[str]:
    """The properties that a criterion can have at all."""
    criterion = case.make()
    return [
        name
        for name in CRITERION_PROPERTIES
        if (case.reductions or name not in NEEDS_REDUCTIONS)
        and all(hasattr(criterion, method) for method in NEEDS_METHODS.get(name, ()))
    ]


def _same(found: Outcome, expected: Outcome, forms: str, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Raise unless terms and gradients are the same; ``forms`` says of what the first and the second are."""
    _expect(found[0].keys() == expected[0].keys(), f"gives {list(found[0])}, expected {list(expected[0])} ({forms})")
    pairs = [(f"the term {name}", value, expected[0][name]) for name, value in found[0].items()]
    gradients = zip(found[1], expected[1], strict=True)
    pairs += [(f"the gradient of prediction {place}", one, other) for place, (one, other) in enumerate(gradients)]
    for name, one, other in pairs:
        if one is None or other is None:
            _expect(one is other, f"{name} is there in one case only ({forms})")
            continue
        differs = ~torch.isclose(one, other, rtol=rtol, atol=atol, equal_nan=True)
        if differs.any():
            at = tuple(differs.nonzero()[0].tolist())
            raise PropertyViolation(
                f"criterion: {name} at {at} is {one[at].item()}, expected {other[at].item()} ({forms})"
            )


def _expect(ok: bool, problem: str) -> None:
    if not ok:
        raise PropertyViolation(f"criterion: {problem}")
