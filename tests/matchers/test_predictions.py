"""Predictions in every form."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from matchers import Predictions

LOGITS, BOXES, OBJECTNESS = torch.randn(2, 5, 3), torch.rand(2, 5, 4), torch.randn(2, 5)


def check_same(found: Predictions, expected: Predictions) -> None:
    assert type(found) is Predictions
    for name in ("logits", "boxes", "objectness"):
        first, second = getattr(found, name), getattr(expected, name)
        assert (first is None) == (second is None)
        assert first is None or torch.equal(first, second)
    assert (found.box_format, found.normalized) == (expected.box_format, expected.normalized)


def test_forms() -> None:
    expected = Predictions(LOGITS, BOXES, OBJECTNESS)
    named = {"pred_logits": LOGITS, "pred_boxes": BOXES, "pred_objectness": OBJECTNESS}
    check_same(Predictions.of(expected), expected)
    check_same(Predictions.of({**named, "aux_outputs": [], "nothing": None}), expected)
    check_same(Predictions.of([{key: value[i] for key, value in named.items()} for i in range(2)]), expected)
    check_same(Predictions.of({"pred_logits": LOGITS, "pred_boxes": None}), Predictions(LOGITS))
    check_same(Predictions.of([{"pred_boxes": BOXES[0]}]), Predictions(boxes=BOXES[:1]))


@pytest.mark.parametrize("batch", [(), (2,), (3, 2), (0,)])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_shapes(batch: tuple[int, ...], count: int) -> None:
    for given in (
        Predictions(torch.zeros(*batch, count, 3)),
        Predictions(boxes=torch.zeros(*batch, count, 4)),
        Predictions(torch.zeros(*batch, count, 3), torch.zeros(*batch, count, 4), torch.zeros(*batch, count, 1)),
    ):
        assert given.batch_shape == batch
        assert given.num_predictions == count
        assert given.device.type == "cpu"
    assert given.objectness is not None and given.objectness.shape == (*batch, count)


def test_objectness_of_one_prediction() -> None:
    given = Predictions(torch.zeros(2, 1, 3), objectness=torch.zeros(2, 1))
    assert given.objectness is not None and given.objectness.shape == (2, 1)


def saved(item: Predictions) -> Predictions:
    buffer = io.BytesIO()
    torch.save(item, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize(
    "way",
    [
        saved,
        copy.deepcopy,
        lambda item: pickle.loads(pickle.dumps(item)),
        lambda item: pytree.tree_map(lambda leaf: leaf.clone(), item),
        lambda item: torch.compile(lambda t: t, backend="eager", fullgraph=True)(item),
    ],
    ids=["save", "deepcopy", "pickle", "pytree", "compile"],
)
def test_copies(way: Callable[[Predictions], Predictions]) -> None:
    for given in (Predictions(LOGITS, BOXES, box_format="cxcywh", normalized=True), Predictions(boxes=BOXES)):
        check_same(way(given), given)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Predictions(), ValueError, "predictions need logits, boxes or fields, got none of them"),
        (
            lambda: Predictions(objectness=OBJECTNESS),
            ValueError,
            "predictions need logits, boxes or fields, got none of them",
        ),
        (lambda: Predictions(LOGITS.long()), TypeError, "logits must be a floating tensor, got torch.int64"),
        (lambda: Predictions([[1.0]]), TypeError, "logits must be a torch.Tensor, got list"),
        (lambda: Predictions(LOGITS, objectness=3), TypeError, "objectness must be a torch.Tensor, got int"),
        (lambda: Predictions(boxes=LOGITS), ValueError, r"predicted boxes must have shape \(…, 4\), got \(2, 5, 3\)"),
        (lambda: Predictions(boxes=[1.0]), TypeError, "predicted boxes must be a torch.Tensor, got list"),
        (lambda: Predictions(boxes=BOXES, box_format="ltrb"), ValueError, "box format must be one of"),
        (
            lambda: Predictions(LOGITS, BOXES[:, :4]),
            ValueError,
            r"must agree in \(\*batch, P\), got \(2, 5\) of logits \(\*batch, P, C\), \(2, 4\) of boxes",
        ),
        (lambda: Predictions(LOGITS, BOXES[0]), ValueError, r"must agree in \(\*batch, P\)"),
        (
            lambda: Predictions(LOGITS, objectness=OBJECTNESS[:, :2]),
            ValueError,
            r"\(2, 2\) of objectness \(\*batch, P\)",
        ),
        (lambda: Predictions(boxes=torch.zeros(4)), ValueError, r"must agree in \(\*batch, P\)"),
        (
            lambda: Predictions.of({}),
            ValueError,
            r"predictions need one of the keys \['pred_logits', 'pred_boxes', 'pred_objectness'\]",
        ),
        (lambda: Predictions.of({"boxes": BOXES}), KeyError, "nobody reads 'boxes' .*: name it 'pred_boxes'"),
        (
            lambda: Predictions.of([{"pred_boxes": BOXES[0]}, {"pred_boxes": BOXES[0], "pred_logits": LOGITS[0]}]),
            ValueError,
            "the predictions of sample 1 have 'pred_logits', those of sample 0 do not",
        ),
        (
            lambda: Predictions.of([{"pred_boxes": BOXES[0]}, {"pred_logits": LOGITS[0]}]),
            ValueError,
            "the predictions of sample 1 have no 'pred_boxes'",
        ),
        (lambda: Predictions.of([]), TypeError, "predictions must be Predictions, a dict or a list of dicts, got list"),
        (lambda: Predictions.of(BOXES), TypeError, "got Tensor"),
    ],
)
def test_bad_input(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_all_fields_on_one_device() -> None:
    with pytest.raises(ValueError, match="device"):
        Predictions(LOGITS, BOXES.to("meta"))


def test_images_of_different_numbers_of_predictions() -> None:
    found = Predictions.of([{"pred_boxes": BOXES[0]}, {"pred_boxes": BOXES[0, :2]}])
    assert found.sizes is not None and found.sizes.tolist() == [5, 2]
    assert found.boxes is not None and torch.equal(found.boxes[1, :2], BOXES[0, :2])
    with pytest.raises(ValueError, match="sample 1"):
        Predictions.of([{"pred_logits": LOGITS[0]}, {"pred_logits": LOGITS[0, :2, :2]}])
