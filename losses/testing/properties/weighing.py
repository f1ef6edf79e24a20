"""Weights of targets, and what sums are divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from losses.testing.case import CriterionCase, take_targets
from losses.testing.properties.comparing import expect, expect_same
from losses.testing.roles import take
from matchers import Targets
from ragged import RaggedBatch

_STEPS = (-2.0, 0.0, 1.0, 2.0)
"""So far weights go along a line: from 2 they come to 0 with the first of them."""
PAIR = (3, 6)
"""Numbers of targets of two images that count differently."""
UNITS = 3
"""How often an image is repeated, so that no count is below 1, where it is clamped."""


def weights(case: CriterionCase) -> None:
    """With the matches as they are, what is summed and what it is divided by are linear in the weights of targets.

    A target of weight 1 is one without a weight. One of weight 0 is matched as well, and adds nothing.
    """
    predictions, targets = case.scene()
    matchable = int(targets.matchable.sum())
    ones = weighted(targets, torch.ones(targets.mask.shape))
    bare = case.losses(case.make(), predictions, replace(targets, weights=None))
    expect_same((case.losses(case.make(), predictions, ones), []), (bare, []), "weights of 1, then no weights", 1e-4)
    if matchable < 2:
        return
    double = case.cast(predictions, torch.float64)
    # In one image alone: divided by counts of images, a sum of several quotients would be no quotient.
    largest = targets.matchable.sum(-1).argmax()
    slope = torch.zeros(targets.mask.shape)
    slope[largest] = 1 - torch.arange(targets.max_num_targets) % 4 / 4.0
    along = [case.losses(case.make(), double, weighted(targets.to(torch.float64), 2 + step * slope)) for step in _STEPS]
    depends = False
    for name in along[0]:
        values = [terms[name].detach().double() for terms in along]
        depends = depends or not torch.allclose(values[0], values[3], rtol=1e-5, atol=1e-9)
        found, expected = _last_and_foretold(torch.stack(values).reshape(len(_STEPS), -1))
        near = torch.isclose(found, expected, rtol=2e-3, atol=1e-5)
        problem = f"{found[~near].tolist()} with the weights at step {_STEPS[3]}, expected {expected[~near].tolist()}"
        expect(
            bool(near.all()), f"the term {name} is no quotient of sums that are linear in the weights: it is {problem}"
        )
    expect(depends, f"the weights of targets change nothing: of {list(along[0])} none depends on targets.weights")


def _last_and_foretold(values: Tensor) -> tuple[Tensor, Tensor]:
    """The last of four values, and what it is if all four are (p + q t) / (1 + s t), or p + q t."""
    steps = torch.tensor(_STEPS, dtype=torch.float64)
    if torch.allclose(values[0], values[3], rtol=1e-7, atol=1e-12):
        return values[3], values[0]
    one = torch.ones_like(steps)
    foretold = []
    for value in values.unbind(1):
        rows = torch.stack([one, steps, -steps * value], 1)
        p, q, s = torch.linalg.lstsq(rows[:3], value[:3], driver="gelsd").solution
        foretold.append((p + q * steps[3]) / (1 + s * steps[3]))
    return values[3], torch.stack(foretold)


def weighted(targets: Targets, values: Tensor) -> Targets:
    """The same targets with weights (B, G)."""
    known = torch.where(targets.mask, values, 1).to(torch.float32 if targets.boxes is None else targets.boxes.dtype)
    return replace(targets, weights=RaggedBatch(known, sample_sizes=targets.num_targets))


def shares(case: CriterionCase) -> dict[str, float | None]:
    """By term, the share of its divisor that images of 3 targets have beside as many of 6.

    It is 1/2 where images are averaged, and None where sums are not divided, or both kinds of images have one loss.
    """
    if len(case.scene(PAIR)[1].num_targets) != len(PAIR):
        return {}
    one, other, both, _, *more = _of_units(case)
    found: dict[str, float | None] = {}
    for name in one:
        a, b, ab = (terms[name].detach().double().sum() for terms in (one, other, both))
        # Not so where a count is so small that it is clamped, so that as many images again change their mean.
        again = [terms[name].detach().double().sum() for terms in more]
        if not all(torch.isclose(x, y, rtol=1e-4, atol=1e-8) for x, y in zip((a, b), again, strict=True)):
            found[name] = None
            continue
        alike = torch.isclose(a, b, rtol=1e-3, atol=1e-6) or torch.isclose(ab, a + b, rtol=1e-5, atol=1e-8)
        found[name] = None if alike else float((ab - b) / (a - b))
    return found


def counted(case: CriterionCase) -> None:
    """A batch has the mean of its images, each of a weight of its own: with an image twice, its weight is doubled."""
    if len(case.scene(PAIR)[1].num_targets) != len(PAIR):
        return
    one, other, both, more, *_ = _of_units(case)
    for name, share in shares(case).items():
        if share is None:
            continue
        expect(
            -1e-4 < share < 1 + 1e-4,
            f"the term {name} of two images is {both[name].detach().sum().item():.6g}, neither the sum nor a mean of "
            f"theirs, {one[name].detach().sum().item():.6g} and {other[name].detach().sum().item():.6g}",
        )
        a, b = one[name].detach().double().sum(), other[name].detach().double().sum()
        foretold = (2 * share * a + (1 - share) * b) / (1 + share)
        found = more[name].detach().double().sum()
        expect(
            bool(torch.isclose(found, foretold, rtol=1e-3, atol=1e-6)),
            f"the term {name} with the first image twice is {found.item():.6g}, expected {foretold.item():.6g}: "
            "its sum and its divisor do not add up over images",
        )


def divides_by(case: CriterionCase) -> None:
    """Sums are divided by counts of the batch, or images are averaged, as ``divides_by=`` says."""
    for name, share in shares(case).items():
        if share is None:
            continue
        is_image = abs(share - 0.5) < 1e-3
        if case.divides_by == "image":
            problem = f"images of 3 and of 6 targets count as {share:.3g} to {1 - share:.3g}, expected equally"
            expect(is_image, f"the term {name} is no mean over images: {problem}")
        else:
            problem = "images of 3 and of 6 targets count equally, expected by their numbers"
            expect(not is_image, f"the term {name} is divided by the number of images: {problem}")


def _of_units(case: CriterionCase) -> list[dict[str, Tensor]]:
    """Terms of an image of 3 targets, of one of 6, of both, with the first one twice, of each twice; all repeated."""
    if "units" not in case._known:
        predictions, targets = case.scene(PAIR)
        groups: Sequence[list[int]] = ([0], [1], [0, 1], [0, 0, 1], [0, 0], [1, 1])
        case._known["units"] = [
            case.losses(case.make(), take(predictions, group * UNITS), take_targets(targets, group * UNITS))
            for group in groups
        ]
    known: list[dict[str, Tensor]] = case._known["units"]
    return known


def negatives(case: CriterionCase) -> None:
    """Where predictions without a target learn to find nothing, they do so in images without targets, too."""
    predictions, targets = case.scene([1, 0])
    count = targets.num_targets
    if count.tolist() != [1, 0]:
        return
    for place, gradient in enumerate(case.value_and_gradients(case.make(), predictions, targets)[1]):
        if gradient is None or gradient.dim() < 3:
            continue
        rows = (gradient[0] != 0).any(-1).float().mean()
        expect(
            bool(rows < 0.75) or bool(gradient[1].any()),
            f"prediction {place} has no gradient in image 1, which has no target, but nearly everywhere in image 0",
        )


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
