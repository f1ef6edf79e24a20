"""Losses with a softmax over the classes, against plain floats and torch."""

from __future__ import annotations

import pytest
import torch
from loss_cases import generator
from reference import loss_terms as reference
from torch import Tensor
from torch.nn import functional

from losses.functional.softmax import cross_entropy, negative_probability, softmax_focal_loss

WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)


def inputs(seed: int, shape: tuple[int, ...] = (5, 20)) -> tuple[Tensor, Tensor]:
    logits = torch.randn(*shape, 4, generator=generator(seed), dtype=torch.float64) * 8
    return logits, torch.randint(4, shape, generator=generator(seed + 1))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_values(weights: Tensor | None) -> None:
    logits, labels = inputs(0)
    row = None if weights is None else weights.tolist()
    expected = reference.of_rows(lambda x, y: reference.cross_entropy(x, y, row), logits, labels)
    computed = cross_entropy(logits, labels, class_weights=weights)
    torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-12)
    for gamma in (0.0, 0.5, 1.0, 2.0, 3.3):
        expected = reference.of_rows(lambda x, y: reference.softmax_focal(x, y, row, gamma=gamma), logits, labels)  # noqa: B023
        computed = softmax_focal_loss(logits, labels, class_weights=weights, gamma=gamma)
        torch.testing.assert_close(computed, expected, rtol=1e-9, atol=1e-12)
        single = softmax_focal_loss(logits.float(), labels, class_weights=weights, gamma=gamma)
        torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(cross_entropy(logits, labels.int()), cross_entropy(logits, labels))


def test_negative_probability() -> None:
    logits, labels = inputs(1)
    expected = reference.of_rows(reference.negative_probability, logits, labels)
    torch.testing.assert_close(negative_probability(logits, labels), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("ignored", [None, -1, 2, 255])
def test_agrees_with_torch(weights: Tensor | None, ignored: int | None) -> None:
    logits, labels = inputs(2)
    if ignored is not None:
        labels[::2, ::3] = ignored
    leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    computed = cross_entropy(leaf, labels, class_weights=weights, ignored_label=ignored)
    expected = functional.cross_entropy(
        other.flatten(0, 1),
        labels.flatten(),
        weights,
        ignore_index=-100 if ignored is None else ignored,
        reduction="none",
    ).view_as(labels)
    torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-14)
    upstream = torch.rand(labels.shape, generator=generator(3), dtype=torch.float64)
    one, two = (torch.autograd.grad((v * upstream).sum(), x)[0] for v, x in ((computed, leaf), (expected, other)))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", [cross_entropy, softmax_focal_loss])
def test_what_is_ignored_has_no_loss_and_no_gradient(function: object) -> None:
    assert callable(function)
    logits, labels = inputs(3)
    labels[1] = -1
    logits[1] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0], dtype=torch.float64)
    leaf = logits.requires_grad_()
    loss = function(leaf, labels, class_weights=WEIGHTS, ignored_label=-1)
    assert (loss[1] == 0).all() and loss.isfinite().all()
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert (gradient[1] == 0).all() and gradient.isfinite().all()


def test_class_weights_may_be_learnt() -> None:
    logits, labels = inputs(4, (5,))
    weights = (WEIGHTS + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: cross_entropy(logits, labels, class_weights=w), (weights,))


def test_bad_input() -> None:
    logits, labels = torch.zeros(2, 3), torch.tensor([0, 3])
    with pytest.raises(ValueError, match=r"labels must lie in 0 … 2, got 3 at \(1,\)"):
        cross_entropy(logits, labels)
    with pytest.raises(ValueError, match=r"labels must lie in 0 … 2 or be -1, which is ignored, got 3 at \(1,\)"):
        softmax_focal_loss(logits, labels, ignored_label=-1)
    with pytest.raises(ValueError, match="labels must lie in"):
        negative_probability(logits, -labels)
    with pytest.raises(ValueError, match=r"labels must have the shape of the logits without .*, \(2,\), got \(1, 2\)"):
        cross_entropy(logits, labels.unsqueeze(0))
    with pytest.raises(TypeError, match="labels must have an integer dtype, got torch.float32"):
        cross_entropy(logits, torch.zeros(2))
    with pytest.raises(ValueError, match=r"class_weights must have the shape of the classes, \(3,\), got \(4,\)"):
        cross_entropy(logits, torch.zeros_like(labels), class_weights=torch.ones(4))
    with pytest.raises(ValueError, match="gamma must not be negative"):
        softmax_focal_loss(logits, torch.zeros_like(labels), gamma=-1)
    with pytest.raises(TypeError, match="logits must be a torch.Tensor, got list"):
        cross_entropy([0.0], labels)
