"""What every unreduced loss keeps to beyond the properties of the registry: extremes, exact precision, shapes."""

from __future__ import annotations

import pytest
import torch
from loss_cases import EVERY_LOSS, Case, box_pairs, generator, gradients
from torch import Tensor

every_loss = pytest.mark.parametrize("loss", EVERY_LOSS)


def to_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


@every_loss
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (2, 3, 1)])
def test_any_leading_dimensions(loss: Case, shape: tuple[int, ...]) -> None:
    inputs, constants = loss.make(shape, 1)
    values = loss(*inputs, **constants)
    assert values.shape == (inputs[0].shape if loss.elementwise else shape)
    for gradient, each in zip(gradients(loss, inputs, constants), inputs, strict=True):
        assert gradient.shape == each.shape and gradient.isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss: Case, dtype: torch.dtype) -> None:
    inputs, constants = loss.make((3, 2), 3)
    inputs = tuple(to_dtype(each, dtype) for each in inputs)
    constants = {name: to_dtype(value, dtype) for name, value in constants.items()}
    single = tuple(each.float() for each in inputs)
    single_constants = {name: to_dtype(value, torch.float32) for name, value in constants.items()}
    values = loss(*inputs, **constants)
    assert values.dtype == torch.float32
    assert torch.equal(values, loss(*single, **single_constants))
    for half, full in zip(gradients(loss, inputs, constants), gradients(loss, single, single_constants), strict=True):
        assert half.dtype == dtype
        torch.testing.assert_close(half, full.to(dtype))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(loss: Case, dtype: torch.dtype) -> None:
    inputs, constants = loss.make((3, 2), 3)
    inputs = tuple(each.float() for each in inputs)
    with torch.autocast("cpu", dtype=dtype):
        values = loss(*inputs, **constants)
        computed = gradients(loss, inputs, constants)
    assert values.dtype == torch.float32
    assert torch.equal(values, loss(*inputs, **constants))
    for one, other in zip(computed, gradients(loss, inputs, constants), strict=True):
        assert torch.equal(one, other)


@every_loss
def test_single_precision_is_close_to_double(loss: Case) -> None:
    inputs, constants = loss.make((30,), 4)
    single = tuple(each.float() for each in inputs)
    exact = tuple(each.double() for each in single)
    constants = {name: to_dtype(to_dtype(value, torch.float32), torch.float64) for name, value in constants.items()}
    values = loss(*single, **constants)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), loss(*exact, **constants), rtol=1e-5, atol=1e-6)
    pairs = zip(gradients(loss, single, constants), gradients(loss, exact, constants), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


EXTREMES = (-1e4, -200.0, -90.0, -20.0, 0.0, 20.0, 90.0, 200.0, 1e4)


@pytest.mark.parametrize("loss", [each for each in EVERY_LOSS if each.values[0].make is not box_pairs])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("score", [0.0, 1.0, None])
def test_extreme_logits(loss: Case, dtype: torch.dtype, score: float | None) -> None:
    """Every pair of an extreme logit among extreme others, with targets of 0, of 1 and in between."""
    inputs, constants = loss.make((40,), 5)
    pick = torch.randint(len(EXTREMES), inputs[0].shape, generator=generator(6))
    extreme = torch.tensor(EXTREMES, dtype=dtype)[pick]
    changed = {
        name: torch.full_like(value, score) if value.is_floating_point() and score is not None else value
        for name, value in constants.items()
    }
    if "teacher" in changed:
        changed["teacher"] = extreme.flip(0)
    assert loss(extreme, **changed).isfinite().all()
    (gradient,) = gradients(loss, (extreme,), changed)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", [each for each in EVERY_LOSS if each.values[0].make is box_pairs])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_extreme_boxes(loss: Case, dtype: torch.dtype) -> None:
    boxes = torch.tensor(
        [
            [0, 0, 4, 4],
            [2, 2, 2, 2],  # point
            [2, 2, 2, 6],  # line
            [8, 8, 2, 2],  # inside out
            [100, 100, 104, 104],
            [0, 0, 1e-4, 1e-4],
            [-3e4, -3e4, 3e4, 3e4],
        ]
    ).to(dtype)
    first, second = (each.reshape(-1, 4) for each in torch.broadcast_tensors(boxes.unsqueeze(0), boxes.unsqueeze(1)))
    assert loss(first, second).isfinite().all()
    for gradient in gradients(loss, (first, second), {}):
        assert gradient.isfinite().all()


@every_loss
def test_targets_are_constants(loss: Case) -> None:
    inputs, constants = loss.make((4,), 9)
    if loss.make is box_pairs:
        assert all(each.abs().sum() > 0 for each in gradients(loss, inputs, constants))
        return
    for name, value in constants.items():
        if value.is_floating_point() and name != "class_weights":
            value.requires_grad_()
    assert not loss(*inputs, **constants).requires_grad


@every_loss
def test_nan_stays_visible_and_where_it_is(loss: Case) -> None:
    inputs, constants = loss.make((4,), 10)
    clean = loss(*inputs, **constants)
    broken = inputs[0].clone()
    broken[1] = torch.nan
    constants = {name: value.where(value != -1, 0) if name == "labels" else value for name, value in constants.items()}
    clean = loss(*inputs, **constants)
    values = loss(broken, *inputs[1:], **constants)
    assert values[1].isnan().all()
    others = torch.tensor([0, 2, 3])
    assert torch.equal(values[others], clean[others])
    found, expected = (gradients(loss, (each, *inputs[1:]), constants)[0][others] for each in (broken, inputs[0]))
    assert torch.equal(found, expected)
