"""Weights of targets in sums and in what these are divided by: in both, or in neither."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.testing.case import CriterionCase, take_targets
from losses.testing.properties.comparing import expect
from losses.testing.properties.weighing import PAIR, UNITS, shares, weighted
from losses.testing.roles import take


def weighted_counts(case: CriterionCase) -> None:
    """A count of targets counts their weights if the sum does, and what targets of weight 0 alone make is 0."""
    _expect_weights_in_counts(case)
    _expect_nothing_of_nothing(case)


def _expect_weights_in_counts(case: CriterionCase) -> None:
    """An image of doubled weights has a larger share of the batch, where images count by their targets."""
    if len(case.scene(PAIR)[1].num_targets) != len(PAIR):
        return
    plain, known = shares(case), _shares_after(case, 2.0)
    for name, share in plain.items():
        heavy = known.get(name)
        if share is None or heavy is None or abs(share - 0.5) < 1e-3:
            continue
        expect(
            abs(heavy - share) > 1e-3,
            f"the term {name} weighs its sum, but not its divisor: with twice the weights, the targets of an image "
            f"still have {heavy:.4g} of the divisor of the batch, expected more; count targets by their weights",
        )


def _shares_after(case: CriterionCase, factor: float) -> dict[str, float | None]:
    """As ``shares``, with the weights of the first image multiplied; None where they change nothing."""
    predictions, targets = case.scene(PAIR)
    factors = torch.tensor([factor, 1.0]).view(-1, 1)
    given = torch.ones(targets.mask.shape)
    if targets.weights is not None:
        given = targets.weights.with_padded_set_to(1).tensor.float()
    heavy = weighted(targets, given * factors)
    groups = ([0], [1], [0, 1])

    def terms(owner: object) -> list[dict[str, Tensor]]:
        own = heavy if owner is heavy else targets
        return [
            case.losses(case.make(), take(predictions, group * UNITS), take_targets(own, group * UNITS))
            for group in groups
        ]

    found, before = terms(heavy), terms(targets)
    result: dict[str, float | None] = {}
    for name in found[0]:
        a, b, both = (each[name].detach().double().sum() for each in found)
        same = torch.isclose(before[2][name].detach().double().sum(), both, rtol=1e-4, atol=1e-7)
        alike = torch.isclose(a, b, rtol=1e-3, atol=1e-6)
        result[name] = None if bool(same | alike) else float((both - b) / (a - b))
    return result


def _expect_nothing_of_nothing(case: CriterionCase) -> None:
    """A term that is 0 where there are no targets is 0 where all of them have weight 0."""
    predictions, targets = case.scene()
    if case.fixed is not None or not bool(targets.matchable.any()):
        return
    empty, none = case.scene([0, 0])
    bare = case.losses(case.make(), empty, none)
    found = case.losses(case.make(), predictions, weighted(targets, torch.zeros(targets.mask.shape)))
    for name, value in found.items():
        size = float(value.detach().abs().sum())
        expect(
            bool(bare[name].detach().any()) or size < 1e-6,
            f"the term {name} is {size:.6g} where all targets have weight 0, expected 0, as it is without targets: a "
            "target of weight 0 adds nothing",
        )
