"""The kit on what needs care: infinite results, results with further batch dimensions, constants."""

from __future__ import annotations

import pytest
import torch
from effort import examples
from hypothesis import settings
from torch import Tensor

from ragged import RaggedBatch, max_over_targets
from ragged.testing import PropertyViolation, assert_gradients, assert_sample_independent, check_op

BATCH = RaggedBatch(torch.tensor([[1.0, 3.0], [2.0, 7.0], [5.0, 7.0]]), sample_sizes=[2, 1, 0])


def test_the_infinite_result_of_an_empty_sample_is_no_wrong_gradient() -> None:
    assert_gradients(max_over_targets, BATCH)


def test_a_result_may_have_further_batch_dimensions() -> None:
    checked = check_op(lambda batch: batch.unsqueeze_batch_dim(1).repeat_samples((1, 2)), BATCH)
    assert {"order", "independence"} <= set(checked)
    with pytest.raises(PropertyViolation, match="^independence"):
        assert_sample_independent(lambda batch: (batch + batch.tensor[:, 0].sum()).unsqueeze_batch_dim(1), BATCH)


def squared_error(pred: RaggedBatch, target: RaggedBatch) -> RaggedBatch:
    return (pred - target.detach()) ** 2


def test_constants_are_not_differentiated_and_must_not_be() -> None:
    target = BATCH.create_with_sample_sizes_like_self(BATCH.tensor.flip(0))
    assert "gradients" in check_op(squared_error, BATCH, target, constants=[1])
    with pytest.raises(PropertyViolation, match="^gradients: gradient of argument 1 of sample 0 at position"):
        assert_gradients(squared_error, BATCH, target)
    with pytest.raises(PropertyViolation, match="a gradient of argument 1, expected none of a constant"):
        assert_gradients(lambda pred, target: (pred - target) ** 2, BATCH, target, constants=[1])


def test_numbers_of_examples_grow_with_the_profile() -> None:
    profile = settings.get_current_profile_name()
    try:
        settings.load_profile("default")
        assert examples(30).max_examples == 10
        settings.load_profile("thorough")
        assert examples(30).max_examples == settings.get_profile("thorough").max_examples
    finally:
        settings.load_profile(profile)


def test_the_gradient_of_a_nan_is_still_wrong() -> None:
    def spoiled(batch: RaggedBatch) -> Tensor:
        return max_over_targets(batch, empty=0.0) * torch.nan

    with pytest.raises(PropertyViolation, match="gradients"):
        assert_gradients(spoiled, BATCH)
