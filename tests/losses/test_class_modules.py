"""Class losses with one value for each prediction: values, both forms of targets, all classes at once, bad input."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import reference.loss_terms as reference
import torch
from torch import Tensor, nn

from losses import FocalLoss, MultipleObjectiveLoss
from losses.modules.adapters import traits_of
from losses.modules.classes import sum_of_classes
from losses.modules.of_mass import ClassLosses
from losses.modules.per_prediction import NegativeProbLoss, SigmoidFocalCost, SigmoidFocalLoss
from ragged.testing import assert_no_host_sync

C = 4
close = torch.testing.assert_close


def focal(row: list[float], label: int, **options: Any) -> float:
    return sum(reference.focal(x, float(c == label), **options) for c, x in enumerate(row))


def focal_cost(row: list[float], label: int, **options: Any) -> float:
    return reference.focal_cost(row[label], **options) if label >= 0 else 0.0


def negative_probability(row: list[float], label: int) -> float:
    return reference.negative_probability(row, label) if label >= 0 else 0.0


CASES: dict[str, tuple[Any, Any]] = {
    "negative probability": (NegativeProbLoss(), negative_probability),
    "focal": (SigmoidFocalLoss(), lambda row, label: focal(row, label, alpha=None)),
    "focal, uotod's default": (SigmoidFocalLoss(alpha=-1.0), lambda row, label: focal(row, label, alpha=None)),
    "focal with alpha": (SigmoidFocalLoss(alpha=0.25, gamma=1.5), lambda row, label: focal(row, label, gamma=1.5)),
    "cost": (SigmoidFocalCost(), lambda row, label: focal_cost(row, label, alpha=None)),
    "cost with alpha": (SigmoidFocalCost(alpha=0.3), lambda row, label: focal_cost(row, label, alpha=0.3)),
    "weighted": (
        SigmoidFocalCost(alpha=0.3, loss_weight=2.0),
        lambda row, label: 2 * focal_cost(row, label, alpha=0.3),
    ),
    "weighted focal": (SigmoidFocalLoss(loss_weight=0.5), lambda row, label: 0.5 * focal(row, label, alpha=None)),
    "weighted probability": (NegativeProbLoss(loss_weight=3), lambda row, label: 3 * negative_probability(row, label)),
}
every_case = pytest.mark.parametrize("name", CASES)


def make(seed: int = 0, count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, C, generator=generator, dtype=torch.float64) * 3
    return logits, torch.randint(-1, C, (count,), generator=generator)


def one_hot(labels: Tensor) -> Tensor:
    return (labels.unsqueeze(-1) == torch.arange(C)).double()


@every_case
def test_values(name: str) -> None:
    module, own = CASES[name]
    logits, labels = make()
    expected = [own(row, label) for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    close(module(logits, labels), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    close(module(logits, one_hot(labels)), module(logits, labels), rtol=1e-10, atol=1e-12)


@every_case
def test_gradients_of_both_forms_agree(name: str) -> None:
    module, _ = CASES[name]
    logits, labels = make(1)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x, labels), (logits,))
    found = [torch.autograd.grad(module(logits, each).sum(), logits)[0] for each in (labels, one_hot(labels))]
    close(found[0], found[1], rtol=1e-10, atol=1e-12)


@every_case
def test_all_classes_at_once(name: str) -> None:
    module, _ = CASES[name]
    logits, _ = make(2)
    known = traits_of(module).per_class(logits)
    assert known is not None
    for label in range(-1, C):
        expected = module(logits, torch.full((len(logits),), label))
        close(known.of_label(label), expected, rtol=1e-10, atol=1e-12)
    mass = torch.rand(len(logits), C, dtype=torch.float64)
    none = torch.rand(len(logits), dtype=torch.float64)
    expected = sum(mass[:, c] * known.of_label(c) for c in range(C)) + none * known.of_label(-1)
    close(known.of_mass(mass, mass.sum(-1) + none), expected)


@every_case
def test_reductions(name: str) -> None:
    module, _ = CASES[name]
    logits, labels = make(3)
    options = {"alpha": module.alpha, "gamma": module.gamma} if hasattr(module, "alpha") else {}
    kinds = {each: type(module)(reduction=each, loss_weight=module.loss_weight, **options) for each in ("mean", "sum")}
    close(kinds["mean"](logits, labels), module(logits, labels).mean())
    close(kinds["sum"](logits, labels), module(logits, labels).sum())


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    module, _ = CASES[name]
    logits, labels = make(4)
    half = logits.to(dtype)
    for targets in (labels, one_hot(labels).to(dtype)):
        values = module(half, targets)
        assert values.dtype == torch.float32
        close(values, module(half.float(), targets), rtol=1e-5, atol=1e-6)


@every_case
def test_extreme_logits(name: str) -> None:
    module, _ = CASES[name]
    logits = torch.tensor([[1e4, -1e4, 0.0, 88.0]], requires_grad=True)
    for label in range(-1, C):
        value = module(logits, torch.tensor([label])).sum()
        assert value.isfinite() and torch.autograd.grad(value, logits)[0].isfinite().all()


@every_case
def test_no_synchronisation_and_copies(name: str) -> None:
    module, _ = CASES[name]
    logits, labels = make(5)
    assert_no_host_sync(module, logits.float(), labels)
    assert_no_host_sync(lambda x: module.per_class(x).own, logits.float())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(logits, labels), module(logits, labels))


@every_case
@pytest.mark.parametrize("shape", [(0,), (2, 0), (2, 3)])
def test_any_leading_dimensions(name: str, shape: tuple[int, ...]) -> None:
    module, _ = CASES[name]
    assert module(torch.randn(*shape, C), torch.zeros(shape, dtype=torch.int64)).shape == shape


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="none"),
        nn.CrossEntropyLoss(torch.tensor([0.5, 1, 2, 0]), reduction="none", label_smoothing=0.2),
        nn.CrossEntropyLoss(torch.tensor([0.5, 1, 2, 3]), reduction="none", ignore_index=2),
        nn.BCEWithLogitsLoss(torch.rand(C), reduction="none", pos_weight=torch.rand(C)),
        FocalLoss(),
        MultipleObjectiveLoss([FocalLoss(), NegativeProbLoss()], [2.0, 0.5]),
        MultipleObjectiveLoss([NegativeProbLoss(), nn.CrossEntropyLoss(reduction="none")]),
    ],
)
def test_known_losses_of_others(loss: Any) -> None:
    logits = make()[0].float()
    traits = traits_of(loss)
    known = traits.per_class(logits)
    assert known is not None
    for label in range(C):
        values = traits.with_labels(logits, torch.full((len(logits),), label), one_hot=False)
        close(known.of_label(label), sum_of_classes(values, logits))


@pytest.mark.parametrize(
    "loss",
    [
        nn.MultiMarginLoss(reduction="none"),
        nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1, ignore_index=0),
        MultipleObjectiveLoss([NegativeProbLoss(), nn.MultiMarginLoss(reduction="none")]),
    ],
)
def test_losses_that_are_not_known(loss: Any) -> None:
    assert traits_of(loss).per_class(make()[0]) is None


def test_class_weights() -> None:
    logits, weights = torch.zeros(1, C), torch.tensor([0.5, 1.0, 2.0, 3.0])
    assert traits_of(nn.CrossEntropyLoss()).class_weights(logits) is None
    assert traits_of(nn.BCEWithLogitsLoss(torch.ones(C))).class_weights(logits) is None
    assert traits_of(MultipleObjectiveLoss([nn.CrossEntropyLoss(weights)])).class_weights(logits) is weights
    found = traits_of(nn.CrossEntropyLoss(weights, ignore_index=1)).class_weights(logits)
    assert found is not None and found.tolist() == [0.5, 0.0, 2.0, 3.0]
    found = traits_of(nn.CrossEntropyLoss(ignore_index=1)).class_weights(logits)
    assert found is not None and found.tolist() == [1.0, 0.0, 1.0, 1.0]


def test_what_has_no_mass_may_be_infinite() -> None:
    losses = ClassLosses(torch.tensor([[torch.inf, 2.0]]))
    assert losses.of_mass(torch.tensor([[0.0, 3.0]]), torch.tensor([3.0])).tolist() == [6.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NegativeProbLoss(reduction="median"), ValueError, "reduction must be"),
        (lambda: SigmoidFocalLoss(alpha=1.5), ValueError, "alpha must lie in"),
        (lambda: SigmoidFocalCost(gamma=-1.0), ValueError, "gamma must not be negative"),
        (lambda: NegativeProbLoss()(torch.zeros(2, C), torch.tensor([0, C])), ValueError, r"0 … 3, got 4"),
        (lambda: SigmoidFocalCost()(torch.zeros(2, C), torch.tensor([0, C])), ValueError, r"0 … 3, got 4"),
        (lambda: NegativeProbLoss()(torch.zeros(2, C), torch.zeros(2, 3)), ValueError, r"\(2, 4\), got \(2, 3\)"),
        (lambda: NegativeProbLoss()(torch.zeros(2, C), torch.zeros(3).long()), ValueError, r"\(2,\), got \(3,\)"),
        (lambda: SigmoidFocalCost()(torch.zeros(2, C).long(), torch.zeros(2)), TypeError, "floating"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
