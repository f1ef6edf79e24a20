"""Maps of several levels as predictions in one row, in the order of the priors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from losses import DensePredictions, flatten_levels, image_size_of
from losses.heads.levels import level_maps
from matchers import grid_points
from matchers.geometry.maps import feature_sizes

STRIDES = (8, 16)
close = torch.testing.assert_close


def test_order_is_that_of_the_points() -> None:
    points = grid_points((16, 24), STRIDES)
    maps = [part.T.reshape(1, 4, h, w) for part, (h, w) in zip(points.split([6, 2]), ((2, 3), (1, 2)), strict=True)]
    close(flatten_levels(maps, channels=4, name="boxes"), points.unsqueeze(0))


@pytest.mark.parametrize("per_cell", [3, (3, 1), 1])
def test_several_predictions_in_a_cell(per_cell: int | tuple[int, int]) -> None:
    counts = (per_cell, per_cell) if isinstance(per_cell, int) else per_cell
    maps = [torch.randn(2, count * 5, side, side) for count, side in zip(counts, (4, 2), strict=True)]
    expected = [
        each[image, a * 5 : a * 5 + 5, row, column]
        for image in range(2)
        for each, count in zip(maps, counts, strict=True)
        for row in range(each.shape[2])
        for column in range(each.shape[3])
        for a in range(count)
    ]
    found = flatten_levels(maps, channels=5, name="scores", num_per_cell=per_cell)
    close(found.reshape(-1, 5), torch.stack(expected))


def test_gradient_goes_back_to_the_maps() -> None:
    maps = [torch.randn(2, 3, side, side, requires_grad=True) for side in (4, 2)]
    flat = flatten_levels(maps, channels=3, name="scores")
    weights = torch.arange(20.0).view(1, 20, 1)
    for each, part in zip(torch.autograd.grad((flat * weights).sum(), maps), (range(16), range(16, 20)), strict=True):
        close(each[0, 0].flatten(), torch.tensor(list(map(float, part))))


def test_flat_predictions_are_given_back() -> None:
    flat = torch.randn(2, 7, 3)
    assert flatten_levels(flat, channels=3, name="scores") is flat
    with pytest.raises(ValueError, match=r"scores of all levels must have shape \(B, P, 4\), got \(2, 7, 3\)"):
        flatten_levels(flat, channels=4, name="scores")


def test_maps_that_do_not_fit() -> None:
    good = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"scores of level 1 must have shape \(B, 3, h, w\), got \(2, 4, 2, 2\)"):
        flatten_levels([good, torch.zeros(2, 4, 2, 2)], channels=3, name="scores")
    with pytest.raises(ValueError, match="scores of level 1 is of 1 images, that of level 0 of 2"):
        flatten_levels([good, torch.zeros(1, 3, 2, 2)], channels=3, name="scores")
    with pytest.raises(TypeError, match="scores of level 0 must have a floating dtype"):
        flatten_levels([good.long()], channels=3, name="scores")
    with pytest.raises(ValueError, match="sequence of maps, one for each level"):
        flatten_levels([], channels=3, name="scores")
    with pytest.raises(ValueError, match="scores must have 2 levels, got 1"):
        flatten_levels([good], channels=3, name="scores", num_per_cell=(1, 1))


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    strides=st.lists(st.sampled_from([1, 2, 4, 8, 16, (4, 8), (16, 3)]), min_size=1, max_size=3),
)
def test_image_size(size: tuple[int, int], strides: list[int | tuple[int, int]]) -> None:
    sizes = feature_sizes(size, strides)
    found = image_size_of([torch.empty(1, 1, *each) for each in sizes], strides)
    assert feature_sizes(found, strides) == sizes
    assert found[0] <= size[0] and found[1] <= size[1]
    for axis in (0, 1):
        smaller = tuple(side - (k == axis) for k, side in enumerate(found))
        assert smaller[axis] == 0 or feature_sizes(smaller, strides) != sizes


def test_no_image_has_these_sizes() -> None:
    with pytest.raises(ValueError, match=r"feature maps \(h, w\) of \[\(4, 4\), \(1, 2\)\] at strides \(8, 16\)"):
        image_size_of([torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 1, 2)], STRIDES)
    with pytest.raises(ValueError, match=r"there are 2 strides \(8, 16\), but maps of 1 levels"):
        image_size_of([torch.zeros(1, 1, 4, 4)], STRIDES)


def test_maps_of_a_head() -> None:
    scores, boxes = [[torch.zeros(1, k, side, side) for side in (4, 2)] for k in (3, 4)]
    names = ("scores", "boxes")
    assert level_maps((scores, boxes), names, STRIDES) == [scores, boxes]
    with pytest.raises(TypeError, match=r"\(scores, boxes\), each a list with a map for each level; got 1 entries"):
        level_maps((scores,), names, STRIDES)
    with pytest.raises(TypeError, match="got dict"):
        level_maps({"scores": scores}, names, STRIDES)
    with pytest.raises(TypeError, match="got Tensor for boxes"):
        level_maps((scores, boxes[0]), names, STRIDES)
    with pytest.raises(TypeError, match="got ndarray in boxes"):
        level_maps((scores, [boxes[0], boxes[1].numpy()]), names, STRIDES)
    with pytest.raises(ValueError, match=r"boxes must have a map for each of the strides \(8, 16\), got 1"):
        level_maps((scores, boxes[:1]), names, STRIDES)
    with pytest.raises(ValueError, match=r"boxes of level 0 must have \(h, w\) = \(4, 4\) like scores, got \(2, 2\)"):
        level_maps((scores, boxes[::-1]), names, STRIDES)


def test_dense_predictions() -> None:
    logits, deltas, points = torch.zeros(2, 5, 3), torch.zeros(2, 5, 4), torch.zeros(5, 4)
    for priors in (points, points.expand(2, 5, 4)):
        assert DensePredictions(logits, deltas, priors).confidence is None
    with pytest.raises(ValueError, match=r"boxes are for \(B, P\) = \(2, 4\), class scores for \(2, 5\)"):
        DensePredictions(logits, deltas[:, :4], points)
    with pytest.raises(ValueError, match=r"confidences are for \(B, P\) = \(1, 5\), class scores for \(2, 5\)"):
        DensePredictions(logits, deltas, points, torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"priors must be for \(B, P\) = \(2, 5\), or for \(5,\), got \(6, 4\)"):
        DensePredictions(logits, deltas, torch.zeros(6, 4))
    with pytest.raises(ValueError, match="ATSS needs a confidence"):
        DensePredictions(logits, deltas, points).need_confidence("ATSS")
    given_confidence = torch.zeros(2, 5)
    assert DensePredictions(logits, deltas, points, given_confidence).need_confidence("ATSS") is given_confidence
