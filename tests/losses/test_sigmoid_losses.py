"""Losses with a sigmoid for each class, against plain floats and torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_cases import generator
from reference import loss_terms as reference
from torch import Tensor
from torch.nn import functional

import matchers
from losses.functional.iou_aware import iou_aware_binary_cross_entropy
from losses.functional.sigmoid import (
    binary_cross_entropy,
    matchability_aware_loss,
    quality_focal_loss,
    sigmoid_focal_cost,
    sigmoid_focal_loss,
    varifocal_loss,
)

FUNCTIONS: list[tuple[Callable[..., Tensor], Callable[..., float], dict[str, Any]]] = [
    (binary_cross_entropy, reference.bce, {}),
    (sigmoid_focal_loss, reference.focal, {}),
    (sigmoid_focal_loss, reference.focal, {"alpha": 0.6, "gamma": 1.5}),
    (sigmoid_focal_loss, reference.focal, {"alpha": None, "gamma": 0.3}),
    (sigmoid_focal_loss, reference.focal, {"alpha": 0.0, "gamma": 0}),
    (quality_focal_loss, reference.quality_focal, {}),
    (quality_focal_loss, reference.quality_focal, {"beta": 1.3}),
    (varifocal_loss, reference.varifocal, {}),
    (varifocal_loss, reference.varifocal, {"alpha": 0.2, "gamma": 0.7}),
    (matchability_aware_loss, reference.matchability_aware, {}),
    (matchability_aware_loss, reference.matchability_aware, {"gamma": 2.0}),
    (iou_aware_binary_cross_entropy, reference.iou_aware, {}),
    (iou_aware_binary_cross_entropy, reference.iou_aware, {"alpha": 0.5, "gamma": 1.5, "lowest": 0.2}),
]
every_function = pytest.mark.parametrize(("function", "plain", "options"), FUNCTIONS)
KNOWS_POSITIVES = (varifocal_loss, matchability_aware_loss, iou_aware_binary_cross_entropy)


def inputs(seed: int, shape: tuple[int, ...] = (4, 30), classes: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (…, C), some of them large, labels (…) and scores (…), 0 and 1 among them."""
    logits = torch.randn(*shape, classes, generator=generator(seed), dtype=torch.float64) * 8
    labels = torch.randint(-2, classes + 1, shape, generator=generator(seed + 1))
    scores = torch.rand(shape, generator=generator(seed + 2), dtype=torch.float64) * 1.4 - 0.2
    return logits, labels, scores.clamp(0, 1)


def dense_form(labels: Tensor, scores: Tensor, classes: int) -> Tensor:
    hot = torch.arange(classes) == labels.unsqueeze(-1)
    return scores.unsqueeze(-1) * hot


@every_function
def test_dense_targets(function: Callable[..., Tensor], plain: Callable[..., float], options: dict[str, Any]) -> None:
    logits, _, _ = inputs(0)
    targets = (torch.rand(logits.shape, generator=generator(9), dtype=torch.float64) * 2 - 0.5).clamp(0, 1)
    expected = reference.of_elements(lambda x, t: plain(x, t, **options), logits, targets)
    torch.testing.assert_close(function(logits, targets, **options), expected, rtol=1e-10, atol=1e-12)
    single = function(logits.float(), targets.float(), **options)
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-6)
    hard = targets > 0.5
    expected = reference.of_elements(lambda x, t: plain(x, float(t), **options), logits, hard)
    torch.testing.assert_close(function(logits, hard, **options), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(function(logits.float(), hard, **options), expected.float(), rtol=1e-5, atol=1e-6)


@every_function
@pytest.mark.parametrize("with_scores", [True, False])
def test_labels(
    function: Callable[..., Tensor], plain: Callable[..., float], options: dict[str, Any], with_scores: bool
) -> None:
    logits, labels, scores = inputs(3)
    scores = scores if with_scores else torch.ones_like(scores)
    given = {"scores": scores} if with_scores else {}
    one = plain if function not in KNOWS_POSITIVES else None

    def loss(x: float, t: float, positive: bool) -> float:
        return one(x, t, **options) if one else plain(x, t, positive, **options)

    expected = reference.of_labels(loss, logits, labels, scores)
    torch.testing.assert_close(function(logits, labels, **given, **options), expected, rtol=1e-10, atol=1e-12)
    if function not in KNOWS_POSITIVES:
        dense = function(logits, dense_form(labels, scores, logits.shape[-1]), **options)
        torch.testing.assert_close(dense, expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(
        function(logits, labels.to(torch.int16), **given, **options), function(logits, labels, **given, **options)
    )


@every_function
def test_both_forms_have_the_same_gradient(
    function: Callable[..., Tensor], plain: Callable[..., float], options: dict[str, Any]
) -> None:
    logits, labels, scores = inputs(4)
    scores = scores.clamp(min=0.01)  # so that both know the positives
    weights = torch.rand(logits.shape, generator=generator(8), dtype=torch.float64)
    found = []
    for targets, given in ((labels, {"scores": scores}), (dense_form(labels, scores, 6), {})):
        leaf = logits.clone().requires_grad_()
        found.append(torch.autograd.grad((function(leaf, targets, **given, **options) * weights).sum(), leaf)[0])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@every_function
def test_scores_without_a_label_are_not_looked_at(
    function: Callable[..., Tensor], plain: Callable[..., float], options: dict[str, Any]
) -> None:
    logits, labels, scores = inputs(5)
    labels[0] = -1
    broken = scores.clone()
    broken[0] = torch.nan
    assert torch.equal(
        function(logits, labels, scores=broken, **options), function(logits, labels, scores=scores, **options)
    )


def test_agrees_with_torch() -> None:
    logits, labels, scores = inputs(6)
    targets = dense_form(labels, scores, 6)
    expected = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    for computed in (
        binary_cross_entropy(logits, targets),
        binary_cross_entropy(logits, labels, scores=scores),
        sigmoid_focal_loss(logits, labels, scores=scores, alpha=None, gamma=0),
        sigmoid_focal_loss(logits, targets, alpha=0.5, gamma=0) * 2,
        quality_focal_loss(logits, labels, scores=scores, beta=0),
    ):
        torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-14)


def test_a_labelled_class_is_positive_whatever_its_score() -> None:
    logits, labels, zero = torch.tensor([[1.0, -1.0]]), torch.tensor([1]), torch.tensor([0.0])
    negative = varifocal_loss(logits, torch.zeros(1, 2))
    assert varifocal_loss(logits, labels, scores=zero).tolist() == [[negative[0, 0].item(), 0.0]]
    missed = matchability_aware_loss(logits, labels, scores=zero)
    torch.testing.assert_close(missed[0, 1], functional.softplus(logits[0, 1]))  # its full weight


@pytest.mark.parametrize("labelled", [True, False])
def test_detached_weights(labelled: bool) -> None:
    """What gradcheck cannot see: the derivative of the cross entropy alone, times the weight."""
    logits, labels, scores = inputs(7)
    scores = scores.clamp(min=0.01)
    targets = dense_form(labels, scores, 6)
    p, positive = logits.sigmoid(), targets > 0
    arguments: tuple[Any, ...] = (labels, {"scores": scores}) if labelled else (targets, {})
    for function, weight, target in (
        (varifocal_loss, torch.where(positive, targets, 0.75 * p**2), targets),
        (matchability_aware_loss, torch.where(positive, 1.0, p**1.5), targets**1.5),
    ):
        leaf = logits.clone().requires_grad_()
        loss = function(leaf, arguments[0], **arguments[1], detach_weights=True)
        torch.testing.assert_close(torch.autograd.grad(loss.sum(), leaf)[0], weight * (p - target))
        attached = function(leaf, arguments[0], **arguments[1], detach_weights=False)
        torch.testing.assert_close(attached, loss)
        assert not torch.allclose(torch.autograd.grad(attached.sum(), leaf)[0], weight * (p - target))


@pytest.mark.parametrize("options", [{}, {"alpha": 0.6, "gamma": 1.5}, {"alpha": None, "gamma": 0.0}])
def test_focal_cost(options: dict[str, Any]) -> None:
    logits, labels, _ = inputs(8)
    labels = labels.clamp(0, 5)
    own = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    expected = reference.of_elements(lambda x: reference.focal_cost(x, **options), own)
    computed = sigmoid_focal_cost(logits, labels, **options)
    torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-12)
    if options.get("alpha", 0.25) is not None:
        torch.testing.assert_close(computed, matchers.focal_cost(own, **options), rtol=1e-9, atol=1e-12)


def test_small_losses_keep_their_digits() -> None:
    """``1 - p`` in float32 would have three digits here, and further on none."""
    logits = torch.tensor([[12.0], [30.0]])
    for targets in (torch.ones(2, 1), torch.zeros(2, dtype=torch.int64)):
        computed = sigmoid_focal_loss(logits, targets, gamma=1.0)
        expected = reference.of_elements(lambda x: reference.focal(x, 1.0, gamma=1.0), logits)
        torch.testing.assert_close(computed.double(), expected, rtol=1e-5, atol=0)


def test_bad_input() -> None:
    logits, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"dense targets must have the shape of the logits, \(2, 3\), got \(2, 1\)"):
        binary_cross_entropy(logits, torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"which are labels, must have the shape .*, \(2,\), got \(2, 3\)"):
        sigmoid_focal_loss(logits, torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="targets must have an integer dtype, got torch.complex64"):
        sigmoid_focal_loss(logits, torch.zeros(2, 3, dtype=torch.complex64))
    with pytest.raises(TypeError, match="targets must be a torch.Tensor, got list"):
        varifocal_loss(logits, [0, 1])
    with pytest.raises(
        ValueError, match=r"scores must have the shape of the logits without their classes, \(2,\), got"
    ):
        quality_focal_loss(logits, torch.zeros(2, 3), scores=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"scores must lie in \[0, 1\], got 2 at position 1"):
        quality_focal_loss(logits, torch.ones(2, 3), scores=torch.tensor([0.0, 2.0]))
    with pytest.raises(ValueError, match=r"scores must have the shape of the labels, \(2,\), got \(2, 1\)"):
        quality_focal_loss(logits, labels, scores=torch.zeros(2, 1))
    with pytest.raises(TypeError, match="scores must have a floating dtype, got torch.int64"):
        quality_focal_loss(logits, labels, scores=labels)
    with pytest.raises(TypeError, match="logits must have a floating dtype"):
        binary_cross_entropy(labels, labels)
    with pytest.raises(ValueError, match=r"logits must have shape \(…, C\) with C ≥ 1, got \(2, 0\)"):
        binary_cross_entropy(torch.zeros(2, 0), labels)
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\], or be None for no weights at all, got -1.0"):
        sigmoid_focal_loss(logits, labels, alpha=-1.0)
    with pytest.raises(ValueError, match="gamma must not be negative, got -2"):
        matchability_aware_loss(logits, labels, gamma=-2)
    with pytest.raises(ValueError, match="beta must be finite, got nan"):
        quality_focal_loss(logits, labels, beta=float("nan"))
    with pytest.raises(ValueError, match=r"labels must lie in 0 … 2, got 3 at \(1,\)"):
        sigmoid_focal_cost(logits, torch.tensor([0, 3]))
    with pytest.raises(TypeError, match="labels must have an integer dtype, got torch.float32"):
        sigmoid_focal_cost(logits, torch.zeros(2))
