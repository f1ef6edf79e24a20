"""Hard negative mining against a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import generator
from reference import loss_terms as reference
from torch import Tensor

import losses.functional.mining
from losses.functional.mining import hard_negative_mining


def expected(loss: Tensor, positive: Tensor, negative: Tensor | None = None, **options: Any) -> Tensor:
    rows = [torch.atleast_2d(each.double()).flatten(0, -2).tolist() for each in (loss, positive)]
    third = [None] * len(rows[0])
    if negative is not None:
        third = torch.atleast_2d(negative.double()).flatten(0, -2).tolist()
    chosen = [reference.mined(*row, **options) for row in zip(*rows, third, strict=True)]
    return torch.tensor(chosen, dtype=torch.bool).reshape(loss.shape)


def scene(seed: int, shape: tuple[int, ...], *, steps: int | None, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, with ties if there are steps; whether positive; whether negative."""
    loss = torch.rand(shape, generator=generator(seed)) - 0.5
    loss = loss if steps is None else (loss * steps).round() / steps
    positive = torch.rand(shape, generator=generator(seed + 1)) < share
    return loss, positive, ~positive & (torch.rand(shape, generator=generator(seed + 2)) < 0.7)


@given(
    st.integers(0, 10_000),
    st.sampled_from([(0,), (1,), (3, 0), (0, 4), (1, 1), (4, 9), (2, 3, 17)]),
    st.sampled_from([None, 2, 4]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([0, 0.1, 0.5, 1, 3, 2.7]),
    st.sampled_from([0, 1, 5]),
    st.booleans(),
)
def test_masks(
    seed: int, shape: tuple[int, ...], steps: int | None, share: float, ratio: float, without: int, some_ignored: bool
) -> None:
    loss, positive, negative = scene(seed, shape, steps=steps, share=share)
    given_negative = negative if some_ignored else None
    options = {"ratio": ratio, "negatives_without_positives": without}
    chosen = hard_negative_mining(loss, positive, negative=given_negative, **options)
    assert chosen.dtype == torch.bool
    assert torch.equal(chosen, expected(loss, positive, given_negative, **options))


@given(st.integers(0, 10_000), st.sampled_from([None, 2]), st.sampled_from([0.3, 1, 3]), st.booleans())
def test_weights(seed: int, steps: int | None, ratio: float, given_negatives: bool) -> None:
    loss, positive, negative = scene(seed, (3, 12), steps=steps, share=0.3)
    weights = torch.rand((2, 3, 12), generator=generator(seed + 3)).double()
    first, second = positive * weights[0], (~positive & negative) * weights[1]
    third = second if given_negatives else None
    chosen = hard_negative_mining(loss, first, negative=third, ratio=ratio, negatives_without_positives=2)
    assert torch.equal(chosen, expected(loss, first, third, ratio=ratio, negatives_without_positives=2))
    whole = hard_negative_mining(loss, positive.float(), negative=negative.float(), ratio=ratio)
    assert torch.equal(whole, hard_negative_mining(loss, positive, negative=negative, ratio=ratio))


def test_the_count_includes_the_last() -> None:
    loss, positive = torch.tensor([0.0, 4.0, 3.0, 2.0, 1.0]), torch.tensor([True, False, False, False, False])
    assert hard_negative_mining(loss, positive, ratio=3).tolist() == [False, True, True, True, False]
    assert hard_negative_mining(loss, positive, ratio=9).tolist() == [False, True, True, True, True]
    none = torch.zeros(5, dtype=torch.bool)
    assert not hard_negative_mining(loss, none, ratio=3).any()
    found = hard_negative_mining(loss, none, ratio=3, negatives_without_positives=2)
    assert found.tolist() == [False, True, True, False, False]


def test_a_negative_that_just_fits_is_not_lost_to_rounding() -> None:
    """Ten positives of weight 0.3, whose sum may come out a little below 3."""
    positive = torch.cat([torch.full((10,), 0.3), torch.zeros(5)])
    loss = torch.arange(15.0)
    for negative in (positive == 0, (positive == 0).float()):
        assert hard_negative_mining(loss, positive, negative=negative, ratio=1).nonzero().flatten().tolist() == [
            12,
            13,
            14,
        ]


def test_ties_go_to_the_lowest_index() -> None:
    positive = torch.zeros(40, dtype=torch.bool)
    positive[3] = True
    for loss in (torch.zeros(40), torch.tensor([0.0, -0.0]).repeat(20)):
        assert hard_negative_mining(loss, positive, ratio=5).nonzero().flatten().tolist() == [0, 1, 2, 4, 5]


def test_nan_is_the_last_resort() -> None:
    loss = torch.tensor([torch.nan, 1.0, torch.inf, -torch.inf, torch.nan])
    positive = torch.zeros(5, dtype=torch.bool)
    order = [
        hard_negative_mining(loss, positive, ratio=1, negatives_without_positives=k).tolist() for k in (1, 2, 3, 4, 5)
    ]
    assert [sum(row) for row in order] == [1, 2, 3, 4, 5]
    assert order[0][2] and order[1][1]
    broken = torch.tensor([True, False, False, False, False])
    assert hard_negative_mining(loss, broken, ratio=9).tolist() == [False, True, True, True, True]


@given(st.integers(0, 10_000), st.sampled_from([None, 3]))
def test_the_short_cut_changes_nothing(seed: int, steps: int | None) -> None:
    loss, positive, negative = scene(seed, (4, 30), steps=steps, share=0.1)
    loss[0, :2] = torch.nan
    with pytest.MonkeyPatch.context() as patch:
        quick = hard_negative_mining(loss, positive, negative=negative, ratio=3)
        patch.setattr(losses.functional.mining, "values_are_readable", lambda _: False)
        assert torch.equal(hard_negative_mining(loss, positive, negative=negative, ratio=3), quick)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    loss, positive, _ = scene(0, (3, 20), steps=8, share=0.2)
    chosen = hard_negative_mining(loss.to(dtype).requires_grad_(), positive, ratio=2)
    assert torch.equal(chosen, hard_negative_mining(loss, positive, ratio=2))


def test_samples_are_on_their_own() -> None:
    loss, positive, _ = scene(1, (5, 20), steps=None, share=0.2)
    chosen = hard_negative_mining(loss, positive, ratio=2)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(hard_negative_mining(loss[order], positive[order], ratio=2), chosen[order])
    for k in range(5):
        assert torch.equal(hard_negative_mining(loss[k], positive[k], ratio=2), chosen[k])


def test_bad_input() -> None:
    loss, positive = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"positive must have the shape of the loss, \(2, 3\), got \(3,\)"):
        hard_negative_mining(loss, positive[0], ratio=3)
    with pytest.raises(TypeError, match="negative must be a mask or weights, bool or floating, got torch.int64"):
        hard_negative_mining(loss, positive, negative=positive.long(), ratio=3)
    with pytest.raises(ValueError, match="ratio must not be negative, got -1"):
        hard_negative_mining(loss, positive, ratio=-1)
    with pytest.raises(ValueError, match="negatives_without_positives must not be negative"):
        hard_negative_mining(loss, positive, ratio=1, negatives_without_positives=-1)
    with pytest.raises(TypeError, match="loss must have a floating dtype"):
        hard_negative_mining(positive, positive, ratio=1)
    with pytest.raises(ValueError, match=r"loss must have shape \(…, P\), got \(\)"):
        hard_negative_mining(loss[0, 0], positive[0, 0], ratio=1)
