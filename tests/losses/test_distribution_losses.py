"""Losses of distances as distributions, against plain floats and torch."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import generator
from reference import loss_terms as reference
from torch import Tensor
from torch.nn import functional

from losses.functional.distribution import (
    decoupled_distillation_loss,
    distribution_focal_loss,
    fine_grained_localization_loss,
)

BINS = 9


def logits(seed: int, shape: tuple[int, ...] = (10, 4)) -> Tensor:
    return torch.randn(*shape, BINS, generator=generator(seed), dtype=torch.float64) * 5


def uniform(seed: int, shape: tuple[int, ...] = (10, 4)) -> Tensor:
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64)


def test_distribution_focal_loss() -> None:
    rows, distances = logits(0), uniform(1) * 11 - 1.5
    distances[0] = torch.tensor([0.0, 1.0, BINS - 1.0, BINS - 1.01])
    distances[1] = torch.tensor([-5.0, 1e6, -math.inf, math.inf])
    expected = reference.of_rows(reference.distribution_focal, rows, distances)
    torch.testing.assert_close(distribution_focal_loss(rows, distances), expected, rtol=1e-10, atol=1e-12)
    single = distribution_focal_loss(rows.float(), distances.float())
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_whole_distance_is_a_cross_entropy() -> None:
    rows = logits(2, (BINS - 1,))
    whole = torch.arange(BINS - 1)
    expected = functional.cross_entropy(rows, whole, reduction="none")
    torch.testing.assert_close(distribution_focal_loss(rows, whole.double()), expected)
    one, none = torch.ones(BINS - 1), torch.zeros(BINS - 1)
    computed = fine_grained_localization_loss(rows, whole, weight_left=one, weight_right=none)
    torch.testing.assert_close(computed, expected)


def test_the_minimum_is_the_distribution_whose_mean_is_the_target() -> None:
    best = torch.full((BINS,), 1e-12, dtype=torch.float64)
    best[3], best[4] = 0.7, 0.3
    rows = best.log().requires_grad_()
    (gradient,) = torch.autograd.grad(distribution_focal_loss(rows, torch.tensor(3.3, dtype=torch.float64)), rows)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


def test_nan_distance_stays_visible() -> None:
    distances = torch.tensor([1.5, math.nan])
    assert distribution_focal_loss(torch.zeros(2, BINS), distances).isnan().tolist() == [False, True]


@pytest.mark.parametrize("with_quality", [True, False])
def test_fine_grained_localization(with_quality: bool) -> None:
    rows, first, second, quality = logits(3), uniform(4), uniform(5), uniform(6)
    left = torch.randint(BINS - 1, (10, 4), generator=generator(7))
    values = (left, first, second, quality) if with_quality else (left, first, second)
    expected = reference.of_rows(reference.fine_grained, rows, *values)
    given = {"weight_left": first, "weight_right": second, "quality": quality if with_quality else None}
    for position in (left, left.int(), left + 0.7):
        computed = fine_grained_localization_loss(rows, position, **given)
        torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-12)
    if with_quality:  # of a box, for all its edges
        given["quality"] = quality[:, :1]
        computed = fine_grained_localization_loss(rows, left, **given)
        given["quality"] = quality[:, :1].expand(10, 4)
        torch.testing.assert_close(computed, fine_grained_localization_loss(rows, left, **given))


def test_quality_of_zero_is_a_loss_of_zero() -> None:
    """Also if no box overlaps its target at all."""
    rows, weights = logits(8).requires_grad_(), uniform(9)
    left = torch.zeros(10, 4, dtype=torch.int64)
    nothing = torch.zeros(10, 1)
    loss = fine_grained_localization_loss(rows, left, weight_left=weights, weight_right=weights, quality=nothing)
    assert (loss == 0).all()
    assert (torch.autograd.grad(loss.sum(), rows)[0] == 0).all()


def test_positions_are_taken_to_the_nearest_bin() -> None:
    rows = torch.randn(4, BINS, generator=generator(10))
    ones = torch.ones(4)
    found = fine_grained_localization_loss(
        rows, torch.tensor([-3.0, 1e9, math.nan, math.inf]), weight_left=ones, weight_right=ones
    )
    log_p = rows.log_softmax(-1)
    torch.testing.assert_close(found[0], -log_p[0, :2].sum())
    torch.testing.assert_close(found[1], -log_p[1, -2:].sum())
    assert found.isfinite().all()


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_decoupled_distillation(temperature: float) -> None:
    rows, teacher = logits(11), logits(12)
    expected = reference.of_rows(lambda x, y: reference.distillation(x, y, temperature=temperature), rows, teacher)
    computed = decoupled_distillation_loss(rows, teacher, temperature=temperature)
    torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-12)
    divergence = functional.kl_div(
        (rows / temperature).log_softmax(-1), (teacher / temperature).softmax(-1), reduction="none"
    )
    torch.testing.assert_close(computed, temperature**2 * divergence.sum(-1))
    assert (computed >= 0).all()
    leaf = rows.requires_grad_()
    same = decoupled_distillation_loss(leaf, rows.detach())
    assert (same == 0).all()
    torch.testing.assert_close(torch.autograd.grad(same.sum(), leaf)[0], torch.zeros_like(rows), rtol=0, atol=1e-14)


def test_targets_weights_and_teachers_are_constants() -> None:
    rows, teacher = logits(13).requires_grad_(), logits(14).requires_grad_()
    left = torch.zeros(10, 4, dtype=torch.int64)
    first, second, quality = (uniform(seed).requires_grad_() for seed in (15, 16, 17))
    for loss, constants in (
        (distribution_focal_loss(rows, first), (first,)),
        (
            fine_grained_localization_loss(rows, left, weight_left=first, weight_right=second, quality=quality),
            (first, second, quality),
        ),
        (decoupled_distillation_loss(rows, teacher), (teacher,)),
    ):
        of_rows, *others = torch.autograd.grad(loss.sum(), (rows, *constants), allow_unused=True)
        assert of_rows.any() and others == [None] * len(constants)


def test_bad_input() -> None:
    rows, values = torch.zeros(2, 5), torch.zeros(2)
    with pytest.raises(ValueError, match=r"logits must have shape \(…, R\) with R ≥ 2, got \(2, 1\)"):
        distribution_focal_loss(torch.zeros(2, 1), values)
    with pytest.raises(
        ValueError, match=r"distances must have the shape of the logits without .*, \(2,\), got \(2, 5\)"
    ):
        distribution_focal_loss(rows, rows)
    with pytest.raises(TypeError, match="distances must have a floating dtype, got torch.int64"):
        distribution_focal_loss(rows, values.long())
    with pytest.raises(ValueError, match=r"weight_right must have the shape .* got \(1,\)"):
        fine_grained_localization_loss(rows, values, weight_left=values, weight_right=values[:1])
    with pytest.raises(ValueError, match=r"quality must broadcast to the shape .*, \(2,\), got \(3,\)"):
        fine_grained_localization_loss(rows, values, weight_left=values, weight_right=values, quality=torch.ones(3))
    with pytest.raises(ValueError, match=r"quality must broadcast to .*, \(2,\), got \(2, 1\)"):
        fine_grained_localization_loss(rows, values, weight_left=values, weight_right=values, quality=torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"teacher must have the shape of the logits, \(2, 5\), got \(2, 4\)"):
        decoupled_distillation_loss(rows, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="temperature must be finite and above 0, got 0"):
        decoupled_distillation_loss(rows, rows, temperature=0)
