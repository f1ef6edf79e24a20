"""Boxes in 3D: their coder, their L1 as cost and as loss, and parameters that nobody knows."""

from __future__ import annotations

import math

import pytest
import torch
from reference import boxes3d as reference
from torch import Tensor

from losses import Box3DCoder, Box3DL1Loss, box3d_l1_loss
from matchers import box3d_l1_cost
from ragged import combine_data

CODER = Box3DCoder()
WEIGHTS = (2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)


def boxes(*shape: int, seed: int = 0, velocity: bool = True) -> Tensor:
    """Centre, size, yaw in (-pi, pi], and velocity."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(*shape, 9, generator=generator, dtype=torch.float64)
    place, size = drawn[..., :3] * 100 - 50, drawn[..., 3:6] * 5 + 0.2
    yaw, speed = (drawn[..., 6:7] * 2 - 1) * math.pi, drawn[..., 7:] * 10 - 5
    return torch.cat([place, size, yaw, *([speed] if velocity else [])], -1)


@pytest.mark.parametrize("velocity", [True, False])
def test_codes_agree_with_plain_floats_and_come_back(velocity: bool) -> None:
    given = boxes(7, velocity=velocity)
    codes = CODER.encode(given)
    assert codes.shape == (7, 10 if velocity else 8)
    torch.testing.assert_close(codes, torch.tensor([reference.encode(box) for box in given.tolist()]).double())
    torch.testing.assert_close(CODER.decode(codes), given)
    decoded = torch.tensor([reference.decode(code) for code in codes.tolist()], dtype=torch.float64)
    torch.testing.assert_close(CODER.decode(codes), decoded)


def test_a_yaw_comes_back_within_a_turn() -> None:
    given = boxes(3)
    given[:, 6] += 4 * math.pi
    torch.testing.assert_close(CODER.decode(CODER.encode(given)), boxes(3))
    assert CODER.decode(2 * CODER.encode(given))[:, 6].allclose(boxes(3)[:, 6])  # of any length


def test_an_unknown_velocity_stays_unknown() -> None:
    given = boxes(2)
    given[1, 7:] = math.nan
    assert CODER.encode(given).isnan().sum() == 2 and CODER.decode(CODER.encode(given)).isnan().sum() == 2


def test_any_numbers_have_finite_boxes_codes_and_gradients() -> None:
    flat = torch.tensor([[0.0, 0, 0, 0, -1, 1e30, 1e4, 0, 0]], requires_grad=True)
    wild = torch.tensor([[0.0, 0, 1e4, -1e4, 0, 90, 0, 0, 0, 0]], requires_grad=True)
    for given, values in ((flat, CODER.encode(flat)), (wild, CODER.decode(wild))):
        (gradient,) = torch.autograd.grad(values.sum(), given)
        assert values.isfinite().all() and gradient.isfinite().all()


def test_gradients_of_the_coder() -> None:
    assert torch.autograd.gradcheck(CODER.encode, boxes(3).requires_grad_())
    assert torch.autograd.gradcheck(CODER.decode, CODER.encode(boxes(3)).requires_grad_())


@pytest.mark.parametrize("weights", [None, WEIGHTS, (0.0,) * 10, (0, 1, 0, 2, 2, 0, 0, 0, 0, 1)])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_cost_agrees_with_plain_floats(shape: tuple[int, int], weights: tuple[float, ...] | None) -> None:
    gt, found = (CODER.encode(boxes(2, count, seed=seed)) for seed, count in enumerate(shape))
    cost = box3d_l1_cost(gt, found, code_weights=weights)
    table = [
        [[reference.l1(p, g, weights) for p in predicted] for g in own]
        for own, predicted in zip(gt.tolist(), found.tolist(), strict=True)
    ]
    torch.testing.assert_close(cost, torch.tensor(table, dtype=torch.float64).reshape(2, *shape))


def test_a_cost_reads_no_parameter_of_weight_0() -> None:
    gt, found = (CODER.encode(boxes(3, seed=seed)) for seed in range(2))
    without = (*WEIGHTS[:8], 0, 0)
    expected = box3d_l1_cost(gt[:, :8], found[:, :8], code_weights=WEIGHTS[:8])
    gt[:, 8:] = math.nan
    assert box3d_l1_cost(gt, found, code_weights=without).equal(expected)
    assert box3d_l1_cost(gt, found, code_weights=WEIGHTS).isnan().all()
    assert not box3d_l1_cost(gt, found.requires_grad_(), code_weights=without).requires_grad


def test_costs_of_layers_and_half_precision() -> None:
    gt, found = CODER.encode(boxes(2, 3)).half(), CODER.encode(boxes(6, 2, 4, seed=1)).bfloat16()
    cost = box3d_l1_cost(gt, found, code_weights=WEIGHTS)
    assert cost.shape == (6, 2, 3, 4) and cost.dtype == torch.float32
    torch.testing.assert_close(cost[5], box3d_l1_cost(gt.float(), found[5].float(), code_weights=WEIGHTS))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_loss_agrees_with_plain_floats(weights: tuple[float, ...] | None) -> None:
    target, pred = (CODER.encode(boxes(5, seed=seed)) for seed in range(2))
    target[2, 8:], target[3, 0] = math.nan, math.inf
    rows = zip(pred.tolist(), target.tolist(), strict=True)
    expected = torch.tensor([reference.l1_loss(*row, weights) for row in rows], dtype=torch.float64)
    pred.requires_grad_()
    loss = box3d_l1_loss(pred, target, code_weights=weights)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    assert not gradient[2:4].any() and gradient[[0, 1, 4]].all()
    signs = (pred - target).sign().masked_fill(~target.isfinite().all(-1, keepdim=True), 0).detach()
    torch.testing.assert_close(gradient, signs * torch.tensor(weights or (1.0,) * 10, dtype=torch.float64))


def test_gradients_of_the_loss() -> None:
    target, pred = (CODER.encode(boxes(3, seed=seed)) for seed in range(2))
    assert torch.autograd.gradcheck(lambda x: box3d_l1_loss(x, target, code_weights=WEIGHTS), pred.requires_grad_())


def test_the_module_weighs_and_reduces() -> None:
    target, pred = (CODER.encode(boxes(5, seed=seed)) for seed in range(2))
    values = box3d_l1_loss(pred, target, code_weights=WEIGHTS)
    assert Box3DL1Loss(code_weights=WEIGHTS, loss_weight=0.25)(pred, target).equal(0.25 * values)
    ragged = [combine_data([each[:3], each[3:], each[:0]]) for each in (pred, target)]
    torch.testing.assert_close(Box3DL1Loss(code_weights=WEIGHTS, reduction="sum")(*ragged), values.sum())
