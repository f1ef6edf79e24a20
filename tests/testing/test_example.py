"""The example of the documents: an operation of one's own with a bug that only padding shows, and the fix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from ragged import RaggedBatch, softmax_over_targets, sum_over_targets
from ragged.testing import PropertyViolation, check_op, ragged_batches

pytestmark = pytest.mark.hunts


def soft_maximum(values: RaggedBatch) -> Tensor:
    """A weighted sum of the values, with weights that are larger for larger values. Its softmax sees the padding."""
    weights = values.tensor.softmax(1)
    return sum_over_targets(values * weights)


def fixed(values: RaggedBatch) -> Tensor:
    """The same, with a softmax over the values of each sample alone."""
    return sum_over_targets(values * softmax_over_targets(values))


def of_one_sample(values: Tensor) -> Tensor:
    return (values * values.softmax(0)).sum(0)


def property_test(op: object) -> None:
    @settings(max_examples=10, derandomize=True, database=None, deadline=None, report_multiple_bugs=False)
    @given(ragged_batches(batch_shape=(3,), data_shape=(), dtypes=[torch.float32], values=["distinct"]))
    def test(batch: RaggedBatch) -> None:
        check_op(op, batch, reference=of_one_sample, without=["compilation"])  # type: ignore[arg-type]

    test()


def test_the_kit_finds_the_padding() -> None:
    with pytest.raises(PropertyViolation) as caught:
        property_test(soft_maximum)
    assert "\n    arguments = (RaggedBatch(torch.tensor([[" in str(caught.value)
    assert "sample_sizes=torch.tensor([" in str(caught.value)
    message = r'filler \("garbage" filler\): result of sample 0 is 2.0, expected 1.76'
    with pytest.raises(PropertyViolation, match=message):
        check_op(soft_maximum, RaggedBatch(torch.tensor([[2.0]]), sample_sizes=[1]))


def test_the_fix_passes() -> None:
    property_test(fixed)
