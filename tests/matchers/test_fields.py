"""Targets and predictions with fields: whatever is known of an object follows it, and costs read it by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers import (
    ClosestTarget,
    Hungarian,
    Predictions,
    SoftMin,
    Targets,
    batched_cost,
    detr_costs,
    focal_cost,
    gather_labels,
    targets_from_lists,
)
from matchers.pairs import pairs as pairs_module
from matchers.pairs.pairs import Pairs
from ragged import RaggedBatch, combine_data

SIZES = [[3, 0, 5, 1], [0, 0], [1], [7, 2]]
CLASSES, WIDTH, COUNT = 4, 10, 6


def truth_of(sizes: list[int], seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "boxes3d": torch.rand(size, WIDTH, generator=generator),
            "labels": torch.randint(CLASSES, (size,), generator=generator),
            "track_id": torch.arange(size, dtype=torch.int32) + 10 * index,
            "keypoints": torch.rand(size, 17, 3, generator=generator, dtype=torch.float64),
        }
        for index, size in enumerate(sizes)
    ]


FIELDS = ("boxes3d", "track_id", "keypoints")


def outputs_of(sizes: list[int], *layers: int, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (*layers, len(sizes), COUNT)
    return {
        "pred_logits": torch.randn(*shape, CLASSES, generator=generator),
        "boxes3d": torch.rand(*shape, WIDTH, generator=generator),
    }


def distance(gt: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> Tensor:
    classes = gather_labels(focal_cost(predicted["logits"]), gt["labels"])
    return 2 * classes + 0.25 * torch.cdist(gt["boxes3d"][..., :8], predicted["boxes3d"][..., :8], p=1)


def rows(pairs: Pairs) -> Tensor:
    own, predicted = pairs.gt_field("boxes3d")[:, None, :8], pairs.predicted_field("boxes3d")[..., :8]
    return 2 * focal_cost(pairs.logits_of_labels()) + 0.25 * (own - predicted).abs().sum(-1)


def cost_of_sample(truth: Mapping[str, Tensor], logits: Tensor, boxes: Tensor) -> Tensor:
    """One image at a time."""
    p = logits.double().sigmoid()[:, truth["labels"]]
    focal = 0.25 * (1 - p) ** 2 * -p.log() - 0.75 * p**2 * -(1 - p).log()
    box = torch.cdist(boxes[:, :8].double(), truth["boxes3d"][:, :8].double(), p=1)
    return (2 * focal + 0.25 * box).T


@pytest.mark.parametrize("sizes", SIZES)
def test_fields_follow_their_targets(sizes: list[int]) -> None:
    truth = truth_of(sizes)
    targets = Targets.of(truth, fields=FIELDS)
    assert targets.boxes is None
    assert targets.num_targets.tolist() == sizes
    for name in FIELDS:
        assert targets.fields[name].dtype == truth[0][name].dtype
    for given, read in zip(truth, targets.to_dicts(), strict=True):
        assert given.keys() == read.keys()
        assert all(torch.equal(given[name], read[name]) for name in given)


FORMS = {
    "padded": lambda targets: targets.with_max_num_targets(9),
    "copied": copy.deepcopy,
    "pickled": lambda targets: pickle.loads(pickle.dumps(targets)),
    "mapped": lambda targets: pytree.tree_map(lambda tensor: tensor.clone(), targets),
    "cast": lambda targets: targets.to(torch.float64),
    "read again": Targets.of,
}


@pytest.mark.parametrize("form", FORMS)
def test_fields_survive(form: str) -> None:
    truth = truth_of([3, 0, 5])
    other = FORMS[form](Targets.of(truth, fields=FIELDS))
    for given, read in zip(truth, other.to_dicts(), strict=True):
        assert all(torch.equal(given[name], read[name]) and given[name].dtype == read[name].dtype for name in given)


def test_fields_are_read_from_every_layout() -> None:
    truth = truth_of([2, 0, 3])
    expected = Targets.of(truth, fields=FIELDS)
    columns = {name: [sample[name] for sample in truth] for name in truth[0]}
    own = {name: columns[name] for name in FIELDS}
    ragged = {name: combine_data(column) for name, column in columns.items()}
    padded = {name: batch.with_padded_set_to(7).tensor for name, batch in ragged.items()}
    mask = ragged["labels"].mask
    images = torch.cat([torch.full((len(labels),), index) for index, labels in enumerate(columns["labels"])])
    flat = {name: torch.cat(column) for name, column in columns.items()}
    boxes = torch.rand(len(images), 4) / 4
    rows_of_images = torch.cat([images[:, None], flat["labels"][:, None], boxes], 1)
    batch = {"batch_idx": images, "cls": flat["labels"], "bboxes": boxes} | {name: flat[name] for name in FIELDS}
    found = [
        targets_from_lists(None, columns["labels"], fields=own),
        Targets.of(ragged, fields=FIELDS),
        Targets.of({**padded, "mask": mask}, fields=FIELDS),
        Targets.of(rows_of_images, batch_size=3, fields={name: flat[name] for name in FIELDS}),
        Targets.of(batch, batch_size=3, fields=FIELDS),
        Targets(labels=ragged["labels"], fields={name: ragged[name] for name in FIELDS}),
    ]
    for targets in found:
        for given, read in zip(expected.to_dicts(), targets.to_dicts(), strict=True):
            assert all(torch.equal(given[name], read[name]) for name in given)


def test_fields_of_annotations() -> None:
    annotation = {"bbox": [0.0, 0.0, 2.0, 3.0], "category_id": 1, "keypoints": [1, 2, 2], "area": 6.0}
    targets = Targets.of([[annotation, annotation | {"area": 4.5}], []], fields=("keypoints", "area"))
    assert targets.fields["keypoints"].split()[0].tolist() == [[1, 2, 2], [1, 2, 2]]
    assert targets.fields["area"].split()[0].tolist() == [6.0, 4.5]


@pytest.mark.parametrize("cost", [batched_cost(distance), rows], ids=["batched", "rows"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("layers", [(), (2,)])
@pytest.mark.parametrize("is_readable", [True, False])
@pytest.mark.parametrize("budget", [None, 64 * COUNT, 64 * COUNT * 4])
def test_targets_are_matched_by_their_fields(
    monkeypatch: Any, cost: Any, sizes: list[int], layers: tuple[int, ...], is_readable: bool, budget: int | None
) -> None:
    truth, outputs = truth_of(sizes), outputs_of(sizes, *layers)
    monkeypatch.setattr(pairs_module, "values_are_readable", lambda _: is_readable)
    predictions = Predictions.of(outputs, fields=("boxes3d",))
    match = Hungarian(cost, max_pairwise_bytes=budget)(predictions, Targets.of(truth, fields=FIELDS))
    index = match.target_index.reshape(-1, len(sizes), COUNT)
    logits, boxes = (outputs[name].flatten(0, -4) if layers else outputs[name][None] for name in outputs)
    for layer in range(len(index)):
        for sample, each in enumerate(truth):
            row, column = linear_sum_assignment(cost_of_sample(each, logits[layer, sample], boxes[layer, sample]))
            expected = torch.full((COUNT,), -1)
            expected[column] = torch.as_tensor(row)
            assert torch.equal(index[layer, sample], expected)


@pytest.mark.parametrize("matcher", [ClosestTarget, SoftMin])
def test_costs_of_fields_serve_every_matcher(matcher: Any) -> None:
    sizes = [3, 0, 5]
    predictions = Predictions.of(outputs_of(sizes), fields=("boxes3d",))
    targets = Targets.of(truth_of(sizes), fields=FIELDS)
    found = [matcher(cost)(predictions, targets) for cost in (batched_cost(distance), rows)]
    first, second = (pytree.tree_leaves(each) for each in found)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


def test_costs_are_explained() -> None:
    sizes = [2, 0]
    predictions, truth = Predictions.of(outputs_of(sizes), fields=("boxes3d",)), truth_of(sizes)
    matcher = Hungarian({"all": batched_cost(distance)})
    costs = matcher.costs(predictions, Targets.of(truth, fields=FIELDS))["all"]
    expected = cost_of_sample(truth[0], predictions.logits[0], predictions.fields["boxes3d"][0])
    torch.testing.assert_close(costs[0], expected.float())


def test_filler_of_fields_is_never_read() -> None:
    sizes = [3, 0, 5]
    targets = Targets.of(truth_of(sizes), fields=FIELDS)
    dirty = {
        name: batch.with_padded_set_to(torch.nan if batch.dtype.is_floating_point else 99)
        for name, batch in targets.fields.items()
    }
    other = Targets(labels=targets.labels, fields=dirty)
    predictions = Predictions.of(outputs_of(sizes), fields=("boxes3d",))
    for cost in (batched_cost(distance), rows):
        one, two = (Hungarian(cost)(predictions, each).target_index for each in (targets, other))
        assert torch.equal(one, two)


def test_ignored_targets_with_fields_are_not_matched() -> None:
    truth = [each | {"ignore": torch.zeros(len(each["labels"]), dtype=torch.bool)} for each in truth_of([3, 1])]
    truth[0]["ignore"][1] = True
    predictions = Predictions.of(outputs_of([3, 1]), fields=("boxes3d",))
    index = Hungarian(batched_cost(distance))(predictions, Targets.of(truth, fields=FIELDS)).target_index
    assert sorted(index[0][index[0] >= 0].tolist()) == [0, 2]


def test_matchers_with_costs_of_fields_can_be_pickled() -> None:
    matcher = pickle.loads(pickle.dumps(Hungarian(batched_cost(distance))))
    predictions = Predictions.of(outputs_of([2]), fields=("boxes3d",))
    assert (matcher(predictions, Targets.of(truth_of([2]), fields=FIELDS)).target_index >= 0).sum() == 2


def test_a_notebook_shows_fields() -> None:
    targets = Targets.of([{"track_id": torch.tensor([7]), "labels": torch.tensor([2])}], fields=("track_id",))
    assert "2: track_id 7" in targets._repr_html_()


def batch(*shape: int) -> RaggedBatch:
    return RaggedBatch.from_full_tensor(torch.zeros(*shape))


LABELS = RaggedBatch.from_full_tensor(torch.zeros(1, 2, dtype=torch.int64))
WRONG = {
    "no such key": (lambda: Targets.of([{"labels": [1]}], fields=("kpts",)), ValueError, "have no 'kpts'"),
    "not named": (
        lambda: Targets.of([{"boxes": [[0.0, 0, 1, 1]], "labels": [1], "keypoints": [[1.0]]}]),
        KeyError,
        "name it in fields=",
    ),
    "one name": (lambda: Targets.of([{"labels": [1]}], fields="labels"), TypeError, "fields must be a list of names"),
    "twice": (lambda: Targets.of([{"a": [1]}], fields=("a", "a")), ValueError, "different names, got a, a"),
    "other number": (
        lambda: Targets.of([{"labels": [1], "a": [1.0, 2.0]}], fields=("a",)),
        ValueError,
        r"sample 0 has 1 labels, but a of shape \(2,\), not \(1, …\)",
    ),
    "a number": (lambda: Targets.of([{"a": 1.0}], fields=("a",)), ValueError, "a of sample 0 must have shape"),
    "taken": (lambda: Targets(labels=LABELS, fields={"mask": LABELS}), ValueError, "cannot be named 'mask'"),
    "no batch": (lambda: Targets(labels=LABELS, fields={"a": torch.zeros(1, 2)}), TypeError, "a must be a RaggedBatch"),
    "other sizes": (lambda: Targets(labels=LABELS, fields={"a": batch(1, 3, 2)}), ValueError, "a and labels"),
    "nothing": (lambda: Targets(), ValueError, "need boxes, labels or fields"),
    "no dict": (lambda: Targets(labels=LABELS, fields=[LABELS]), TypeError, "fields must be a dict of ragged batches"),
    "predictions without": (
        lambda: Predictions.of({"pred_logits": torch.zeros(1, 2, 3)}, fields=("a",)),
        ValueError,
        "predictions have no 'a'",
    ),
    "predictions of another shape": (
        lambda: Predictions(torch.zeros(1, 2, 3), fields={"a": torch.zeros(1, 3, 2)}),
        ValueError,
        r"the field 'a' must begin with \(\*batch, P\) = \(1, 2\), got \(1, 3, 2\)",
    ),
    "cost without its field": (
        lambda: Hungarian(rows)(Predictions(torch.zeros(1, 4, CLASSES)), Targets.of(truth_of([2]), fields=FIELDS)),
        ValueError,
        "this cost needs 'boxes3d' of the predictions, which have logits",
    ),
    "boxes that are not there": (
        lambda: Hungarian(detr_costs())(
            {"pred_logits": torch.zeros(1, 2, 3), "pred_boxes": torch.rand(1, 2, 4)},
            Targets.of([{"a": [1.0], "labels": [0]}], fields=("a",)),
        ),
        ValueError,
        "needs 'boxes' of the targets, which have labels, a",
    ),
    "labels that are not there": (
        lambda: Hungarian()(
            {"pred_logits": torch.zeros(1, 2, 3), "pred_boxes": torch.rand(1, 2, 4)},
            Targets(batch(1, 2, 4), normalized=True),
        ),
        ValueError,
        "needs 'labels' of the targets, which have boxes",
    ),
    "a cost of another shape": (
        lambda: Hungarian(batched_cost(lambda gt, predicted: torch.zeros(2)))(
            Predictions(torch.zeros(1, COUNT, CLASSES)), Targets.of(truth_of([2]), fields=FIELDS)
        ),
        ValueError,
        r"must be a tensor \(images, targets, predictions\) = \(1, 2, 6\), got \(2,\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str) -> None:
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()
