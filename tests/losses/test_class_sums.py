"""Class losses summed over the classes block by block, against the same losses with a value for each class."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from losses import BinaryCrossEntropy, FocalLoss, QualityFocalLoss
from losses.functional.sigmoid import quality_focal_loss
from losses.modules import closed_forms
from losses.modules.base import ClassLoss
from losses.modules.classes import class_values

LOSSES: dict[str, ClassLoss] = {
    "bce": BinaryCrossEntropy(loss_weight=0.5),
    "focal": FocalLoss(loss_weight=2.0),
    "focal without alpha": FocalLoss(alpha=None, gamma=1.5),
    "focal root": FocalLoss(gamma=0.5),
    "quality": QualityFocalLoss(),
}
SHAPES = [(5,), (0, 5), (1, 5), (40, 5), (3, 7, 5), (1, 50, 5), (2, 0, 5), (2, 3, 4, 5), (6, 9, 1)]
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def inputs(shape: tuple[int, ...], dtype: torch.dtype, *, channels_first: bool = False) -> tuple[Tensor, ...]:
    """Logits, labels of which some are no class, scores, weights of the results."""
    generator = torch.Generator().manual_seed(len(shape))
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) * 4
    logits = logits.mT.contiguous().mT if channels_first else logits
    labels = torch.randint(-2, shape[-1] + 1, shape[:-1], generator=generator)
    scores, weights = torch.rand(2, *shape[:-1], generator=generator, dtype=torch.float64).to(dtype)
    return logits.requires_grad_(), labels, scores, weights


def by_class(loss: ClassLoss, logits: Tensor, labels: Tensor, scores: Tensor | None) -> Tensor:
    return loss(logits, labels, scores=scores).sum(-1)


@every_loss
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("block", [8, 60, 1 << 18])
def test_values_and_gradients(
    loss: ClassLoss, shape: tuple[int, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_forms, "_BLOCK", block)
    for dtype, channels_first in itertools.product((torch.float32, torch.float64), (False, len(shape) > 1)):
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
        logits, labels, scores, weights = inputs(shape, dtype, channels_first=channels_first)
        for given in (scores, None):
            found, expected = class_values(loss, logits, labels, given), by_class(loss, logits, labels, given)
            assert type(found.grad_fn) is not type(expected.grad_fn)  # another way to the same
            torch.testing.assert_close(found, expected, **tolerance)
            one, other = (torch.autograd.grad((each * weights).sum(), logits)[0] for each in (found, expected))
            torch.testing.assert_close(one, other, **tolerance)


@every_loss
def test_gradients_of_gradients(loss: ClassLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_forms, "_BLOCK", 16)
    logits, labels, scores, _ = inputs((4, 3, 5), torch.float64)
    function = lambda logits: class_values(loss, logits, labels, scores)  # noqa: E731
    assert torch.autograd.gradcheck(function, logits)
    assert torch.autograd.gradgradcheck(function, logits)


def test_the_graph_can_be_kept() -> None:
    logits, labels, scores, weights = inputs((4, 3, 5), torch.float64)
    value = (class_values(FocalLoss(), logits, labels, scores) * weights).sum()
    first = torch.autograd.grad(value, logits, retain_graph=True)[0]
    kept = first.clone()
    second = torch.autograd.grad(value, logits)[0]
    assert torch.equal(first, second) and torch.equal(first, kept)


@every_loss
def test_extremes(loss: ClassLoss) -> None:
    logits = torch.tensor([-1e30, -1e4, -90.0, 0.0, 90.0, 1e4, 1e30]).repeat(7, 1).requires_grad_()
    labels = torch.arange(7)
    for scores in (None, torch.zeros(7), torch.full((7,), 0.5)):
        value = class_values(loss, logits, labels, scores)
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


def test_not_a_number_stays_where_it_is() -> None:
    logits, labels, scores, _ = inputs((4, 3, 5), torch.float32)
    clean = class_values(QualityFocalLoss(), logits, labels, scores)
    broken = logits.detach().clone()
    broken[1, 2] = torch.nan
    broken.requires_grad_()
    values = class_values(QualityFocalLoss(), broken, labels, scores)
    where = torch.zeros(4, 3, dtype=torch.bool)
    where[1, 2] = True
    assert torch.equal(values.isnan(), where) and torch.equal(values[~where], clean[~where])
    gradient = torch.autograd.grad(values.sum(), broken)[0]
    assert gradient[~where].isfinite().all()


def test_no_gradient_is_computed_that_nobody_wants() -> None:
    logits, labels, scores, _ = inputs((4, 3, 5), torch.float32)
    with torch.no_grad():
        assert not class_values(FocalLoss(), logits, labels, scores).requires_grad
    assert not class_values(FocalLoss(), logits.detach(), labels, scores).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    logits, labels, scores, _ = inputs((4, 3, 5), torch.float32)
    half = logits.detach().to(dtype).requires_grad_()
    values = class_values(FocalLoss(), half, labels, scores)
    expected = class_values(FocalLoss(), half.detach().float(), labels, scores)
    assert values.dtype == torch.float32 and torch.equal(values, expected)
    assert torch.autograd.grad(values.sum(), half)[0].dtype == dtype


def test_under_transformations() -> None:
    logits, labels, scores, _ = inputs((4, 3, 5), torch.float64)
    function = lambda logits, labels, scores: class_values(FocalLoss(), logits, labels, scores)  # noqa: E731
    expected = function(logits, labels, scores)
    torch.testing.assert_close(torch.func.vmap(function)(logits, labels, scores), expected)
    gradient = torch.func.grad(lambda logits: function(logits, labels, scores).sum())(logits.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0])


def test_what_is_derived_from_a_loss_is_asked_itself() -> None:
    class Twice(FocalLoss):
        def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
            return super().forward(logits, targets, scores=scores) * 2

    logits, labels, scores, _ = inputs((4, 3, 5), torch.float64)
    twice = class_values(Twice(), logits, labels, scores)
    torch.testing.assert_close(twice, class_values(FocalLoss(), logits, labels, scores) * 2)
    given = class_values(quality_focal_loss, logits, labels, scores)
    torch.testing.assert_close(given, class_values(QualityFocalLoss(), logits, labels, scores))


def test_arguments_that_do_not_fit() -> None:
    logits, labels, scores, _ = inputs((4, 3, 5), torch.float64)
    with pytest.raises(ValueError, match=r"labels.*\(4, 3\), got \(4, 2\)"):
        class_values(FocalLoss(), logits, labels[:, :2], None)
    with pytest.raises(ValueError, match=r"scores must have .*\(4, 3\), got \(4, 3, 1\)"):
        class_values(FocalLoss(), logits, labels, scores.unsqueeze(-1))
