"""What a call gives, and what it leaves alone: arguments, earlier calls, other images, copies, steps."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from losses.testing.case import SIZES, CriterionCase, take_targets
from losses.testing.properties.comparing import expect, expect_same
from losses.testing.roles import is_of_images, take
from matchers.testing.properties.results import tensors_by_name
from ragged.testing import PropertyViolation, assert_random_state_kept


def result(case: CriterionCase) -> None:
    """A dict of terms, numbers on the device of the predictions; what is given is left alone."""
    predictions, targets = case.scene()
    # No leaves of a graph: who writes into what it is given is told so by us, and not by torch.
    predictions = pytree.tree_map(_copy, case.cast(predictions, _dtype_of(predictions)))
    targets = pytree.tree_map(_copy, targets)
    given = tensors_by_name(predictions, targets)
    before = {name: leaf.detach().clone() for name, leaf in given.items()}
    terms = case.losses(case.make(), predictions, targets)
    for name, leaf in given.items():
        differs = leaf.detach().nan_to_num(7) != before[name].nan_to_num(7)
        if differs.any():
            at = tuple(differs.nonzero()[0].tolist())
            problem = f"is {leaf[at].item():.6g} after the call, expected {before[name][at].item():.6g} as before"
            expect(False, f"the argument {name} was changed: at {at} it {problem}")
    device = next(iter(given.values())).device
    for name, value in terms.items():
        expect(value.device == device, f"the term {name} is on {value.device}, expected {device}")


def repeatable(case: CriterionCase) -> None:
    """A call depends on its arguments alone, and not on earlier calls."""
    predictions, targets = case.scene()
    criterion = case.make()
    first = case.losses(criterion, predictions, targets)
    again = case.losses(criterion, predictions, targets)
    expect_same((again, []), (first, []), "called again, then for the first time", rtol=1e-6)
    count = len(targets.num_targets)
    for others in (range(count)[::-1], range(1)):
        case.losses(criterion, take(predictions, others), take_targets(targets, others))
    third = case.losses(criterion, predictions, targets)
    expect_same((third, []), (first, []), "called after other images, then for the first time", rtol=1e-6)


def nan_stays(case: CriterionCase) -> None:
    """NaN in the predictions of an image changes the loss and the gradients of no other image."""
    predictions, targets = case.scene()
    if len(targets.num_targets) < 2:
        return
    spoilt = pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, predictions)
    for leaf in pytree.tree_leaves(spoilt):
        if is_of_images(leaf) and leaf.is_floating_point():
            leaf[0] = torch.nan
    _, gradients = case.value_and_gradients(case.make(), spoilt, targets)
    for place, gradient in enumerate(gradients):
        wrong = None if gradient is None else (~gradient.isfinite()).flatten(1).any(1)
        if wrong is not None and wrong[1:].any():
            image = int(wrong[1:].long().argmax()) + 1
            expect(False, f"prediction {place} of image {image} has a gradient that is not finite, for image 0 is NaN")
    if not case.reductions:
        return
    criterion = case.make(reduction="sample")
    broken, clean = (case.value_and_gradients(criterion, each, targets) for each in (spoilt, predictions))
    others = [
        ({name: value[1:] for name, value in terms.items()}, [None if each is None else each[1:] for each in gradients])
        for terms, gradients in (broken, clean)
    ]
    expect_same(others[0], others[1], "other images beside one of NaN, then without NaN")


def randomness(case: CriterionCase) -> None:
    """No call seeds a global generator of torch, NumPy or Python; it may draw, as one that samples does."""
    criterion = case.make()
    try:
        assert_random_state_kept(lambda *given: case.losses(criterion, *given), *case.scene())
    except PropertyViolation as violation:
        if "seeds" in str(violation):
            raise


def micro_batches(case: CriterionCase) -> None:
    """Parts of a batch, given the count of all, add up to the whole."""
    criterion: Any = case.make()
    predictions, targets = case.scene()
    count = len(targets.num_targets)
    if count < 2:
        return
    whole = case.losses(criterion, predictions, targets)
    halves = (range(count // 2), range(count // 2, count))
    parts = [(take(predictions, images), take_targets(targets, images)) for images in halves]
    counts = [criterion.counts(*part, criterion.assign(*part)) for part in parts]
    totals = {name: counts[0][name] + counts[1][name] for name in counts[0]}
    found = [case.losses(criterion, *part, global_count=totals) for part in parts]
    added = {name: found[0][name] + found[1][name] for name in whole}
    expect_same((added, []), (whole, []), "two micro-batches added up, then the whole")


def two_steps(case: CriterionCase) -> None:
    """``assign`` and ``loss`` are the call."""
    predictions, targets = case.scene()
    criterion: Any = case.make()
    steps = case.named(criterion.loss(predictions, targets, criterion.assign(predictions, targets)))
    expect_same((steps, []), (case.losses(criterion, predictions, targets), []), "two steps, then one", rtol=0, atol=0)


def copies(case: CriterionCase) -> None:
    """A copy of the criterion computes the same."""
    predictions, targets = case.scene()
    criterion = case.make()
    found, expected = (case.losses(each, predictions, targets) for each in (copy.deepcopy(criterion), criterion))
    expect_same((found, []), (expected, []), "a copy, then the original", rtol=0, atol=0)


def as_reference(case: CriterionCase) -> None:
    """The terms are those of the reference, in float64."""
    assert case.reference is not None
    for sizes in (SIZES, [0]) if case.fixed is None else (SIZES,):
        given, targets = case.scene(sizes)
        predictions, targets = case.cast(given, torch.float64), targets.to(torch.float64)
        found = case.value_and_gradients(case.make(), predictions, targets)
        terms = case.reference(predictions, targets)
        expected = {name: torch.as_tensor(value).detach().to(torch.float64) for name, value in terms.items()}
        expect_same((found[0], []), (expected, []), "the criterion, then the reference", 1e-4)


def _copy(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _dtype_of(predictions: Any) -> torch.dtype:
    return next(leaf.dtype for leaf in pytree.tree_leaves(predictions) if is_of_images(leaf))
