"""Targets with several labels each: how they are read, what they cost, and who refuses them."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import multi_hot as reference
from torch import Tensor
from torch.utils import _pytree as pytree

from losses import FocalLoss, NegativeProbLoss, SigmoidFocalCost, SigmoidFocalLoss
from matchers import (
    ATSS,
    ClosestTarget,
    Hungarian,
    MaxIoU,
    Pairs,
    Problem,
    SimOTA,
    SoftMin,
    Targets,
    TaskAligned,
    batched_cost,
    binary_class_cost,
    detr_costs,
    focal_class_cost,
    grid_points,
    sum_over_labels,
    targets_from_padded,
)
from ragged import RaggedBatch, combine_data
from ragged.testing import assert_no_host_sync

CLASSES, COUNT = 5, 7
SIZES = [[3, 0, 5, 1], [0, 0], [1], [9, 2]]
close = torch.testing.assert_close


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truth_of(sizes: list[int], *, soft: bool = False, seed: int = 0) -> list[dict[str, Tensor]]:
    own = generator(seed)
    found = []
    for size in sizes:
        labels = torch.rand(size, CLASSES, generator=own) < 0.4
        soft_labels = torch.rand(size, CLASSES, generator=own) * labels
        boxes = torch.rand(size, 4, generator=own) * 0.3 + 0.3
        found.append({"boxes": boxes, "labels": soft_labels if soft else labels})
    return found


def targets_of(sizes: list[int], **options: Any) -> Targets:
    return Targets.of(truth_of(sizes, **options), box_format="cxcywh", normalized=True, canvas_size=(64, 64))


def predictions_of(sizes: list[int], seed: int = 1) -> dict[str, Tensor]:
    own = generator(seed)
    return {
        "pred_logits": torch.randn(len(sizes), COUNT, CLASSES, generator=own),
        "pred_boxes": torch.rand(len(sizes), COUNT, 4, generator=own) * 0.4 + 0.2,
    }


def one_hot_pair(sizes: list[int], seed: int = 0) -> tuple[Targets, Targets]:
    """The same targets with labels of integers, and multi-hot."""
    truth = truth_of(sizes, seed=seed)
    labels = [torch.randint(CLASSES, (size,), generator=generator(seed)) for size in sizes]
    hot = [torch.nn.functional.one_hot(each, CLASSES).bool() for each in labels]
    layout: dict[str, Any] = {"box_format": "cxcywh", "normalized": True, "canvas_size": (64, 64)}
    plain, several = (
        Targets.of([image | {"labels": own} for image, own in zip(truth, each, strict=True)], **layout)
        for each in (labels, hot)
    )
    return plain, several


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("soft", [False, True])
def test_every_form_of_targets(sizes: list[int], soft: bool) -> None:
    truth, targets = truth_of(sizes, soft=soft), targets_of(sizes, soft=soft)
    assert targets.is_multi_hot and targets.labels.shape == (len(sizes), max(sizes), CLASSES)
    for image, own in zip(truth, targets.to_dicts(), strict=True):
        assert torch.equal(image["labels"], own["labels"])
    targets.check_labels(CLASSES)
    wider = targets.with_max_num_targets(12)
    same = (wider, copy.deepcopy(targets), pickle.loads(pickle.dumps(targets)), targets.to("cpu"))
    leaves = pytree.tree_unflatten(*reversed(pytree.tree_flatten(targets)))
    for each in (*same, leaves, targets.to(torch.float64)):
        assert each.is_multi_hot and each.labels.dtype == targets.labels.dtype
        assert all(torch.equal(a, b) for a, b in zip(each.labels.split(), targets.labels.split(), strict=True))


def test_images_without_targets_need_no_classes() -> None:
    labels = torch.eye(2, CLASSES).bool()
    nothing: list[Any] = [[], torch.zeros(0), np.zeros(0), torch.zeros(0, CLASSES, dtype=torch.bool)]
    boxes = [torch.zeros(0, 4)] * 2 + [torch.ones(2, 4)] + [torch.zeros(0, 4)] * 2
    targets = Targets.of((boxes, [*nothing[:2], labels, *nothing[2:]]))
    assert targets.labels.shape == (5, 2, CLASSES) and targets.labels.dtype == torch.bool
    empty = Targets.of(([torch.zeros(0, 4)], [torch.zeros(0, CLASSES)]))
    assert empty.is_multi_hot and empty.labels.shape == (1, 0, CLASSES)


def test_padded_targets() -> None:
    labels = torch.rand(2, 3, CLASSES, generator=generator(0)) < 0.5
    boxes, mask = torch.rand(2, 3, 4).sort(-1).values, torch.tensor([[True, False, True], [False, False, False]])
    for dtype in (torch.bool, torch.float32):
        padded = {"boxes": boxes, "labels": labels.to(dtype), "mask": mask}
        targets = targets_from_padded(padded, multi_hot=True)
        assert torch.equal(targets.labels.split()[0], labels[0, [0, 2]].to(dtype))
        assert Targets.of(padded, multi_hot=True).is_multi_hot
    without_boxes = targets_from_padded({"labels": labels, "track": boxes}, fields=("track",), multi_hot=True)
    assert without_boxes.batch_shape == (2,) and without_boxes.max_num_targets == 3
    ragged = RaggedBatch(labels, sample_sizes=[1, 3])
    assert targets_from_padded(
        {"boxes": ragged.create_with_sample_sizes_like_self(boxes), "labels": ragged}
    ).is_multi_hot


def test_ignored_targets_and_filler_may_be_anything() -> None:
    labels = torch.tensor([[[0.5, 1.0], [math.nan, 7.0]], [[-1.0, math.inf], [2.0, 2.0]]])
    boxes = RaggedBatch(torch.zeros(2, 2, 4), sample_sizes=[2, 0])
    ignore = RaggedBatch(torch.tensor([[False, True], [False, False]]), sample_sizes=[2, 0])
    targets = Targets(boxes, RaggedBatch(labels, sample_sizes=[2, 0]), ignore=ignore)
    assert targets.padded_labels().tolist() == [[[0.5, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]


def test_people_can_read_them() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 5.0]] * 3)
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.25, 0.0], [0.0, 0.0, 0.0]])
    shown = Targets.of([{"boxes": boxes, "labels": labels}])._repr_html_()
    for text in ("<td>0, 2: 0, 0, 9, 5</td>", "<td>1 0.25: 0,", "<td>none: 0,"):
        assert text in shown


BAD = {
    "integers": (lambda t: t.long(), TypeError, r"multi-hot labels \(1, 2, 3\) must be boolean or floating, got torch.int64"),
    "above 1": (lambda t: t * 2, ValueError, r"multi-hot labels must lie in \[0, 1\], got 2 of class 1 at position 0 of sample 0"),
    "not finite": (lambda t: t * math.nan, ValueError, "got nan of class 0 at position 0 of sample 0"),
    "too many dimensions": (lambda t: t.unsqueeze(-1), ValueError, r"or \(\*batch, G, C\) if multi-hot, ragged along G, got"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_labels(name: str) -> None:
    change, error, message = BAD[name]
    labels = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]])
    boxes = RaggedBatch(torch.zeros(1, 2, 4), sample_sizes=[2])
    with pytest.raises(error, match=message):
        Targets(boxes, RaggedBatch(change(labels), sample_sizes=[2]))


def test_readers_say_what_is_wrong() -> None:
    boxes = [torch.zeros(1, 4), torch.zeros(1, 4)]
    with pytest.raises(
        ValueError, match=r"labels of sample 0 are multi-hot \(1, 3\), torch.bool, those of sample 1 are \(1, 4\)"
    ):
        Targets.of((boxes, [torch.ones(1, 3).bool(), torch.ones(1, 4).bool()]))
    with pytest.raises(
        ValueError, match=r"those of sample 1 are \(1,\), torch.int64; all need one dtype and as many classes"
    ):
        Targets.of((boxes, [torch.ones(1, 3).bool(), torch.tensor([2])]))
    with pytest.raises(ValueError, match="one-hot labels must have a single 1; .* give multi_hot=True"):
        Targets.of({"boxes": torch.zeros(1, 1, 4), "labels": torch.ones(1, 1, 3)})
    with pytest.raises(TypeError, match="multi_hot must be True or False, got 'yes'"):
        Targets.of({"boxes": torch.zeros(1, 1, 4), "labels": torch.ones(1, 1, 3)}, multi_hot="yes")
    with pytest.raises(
        TypeError, match=r"category_id of sample 0 must be an integer, got \[1, 2\]; several labels of an object"
    ):
        Targets.of([[{"bbox": [0.0, 0.0, 1.0, 1.0], "category_id": [1, 2]}]])
    batch = {"batch_idx": torch.tensor([0.0]), "cls": torch.ones(1, 3), "bboxes": torch.full((1, 4), 0.5)}
    with pytest.raises(ValueError, match="several labels of an object are read from dicts with boxes and multi-hot"):
        Targets.of(batch, batch_size=1)
    with pytest.raises(ValueError, match=r"multi-hot labels are of 3 classes, shape \(1, 1, 3\), but there are 4"):
        Targets.of((boxes[:1], [torch.ones(1, 3)]), num_classes=4)


def test_a_picture_names_all_labels() -> None:
    figure = pytest.importorskip("matplotlib.figure")
    from matchers import plot_match

    truth = [{"boxes": torch.tensor([[1.0, 1.0, 5.0, 5.0]]), "labels": torch.tensor([[True, False, True]])}]
    boxes = torch.tensor([[[0.0, 1.0, 4.0, 5.0]]])
    match = Hungarian(lambda pairs: (pairs.gt.x1 - pairs.predicted.x1).abs())({"pred_boxes": boxes}, truth)
    axes = plot_match(
        match, {"pred_boxes": boxes}, truth, 0, class_names=["a", "b", "c"], ax=figure.Figure().subplots()
    )
    assert "target 0 (a, c)" in [text.get_text() for text in axes.texts]


# --- costs -----------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, RaggedBatch]:
    """Logits (B, P, C) and ragged labels (B, G, C), hard or soft, some targets without any."""
    own = generator(draw(st.integers(0, 10_000)))
    images, count, classes = draw(st.integers(1, 3)), draw(st.integers(0, 4)), draw(st.integers(1, 4))
    sizes = torch.randint(draw(st.sampled_from([1, 4])), (images,), generator=own)
    labels = torch.rand(images, int(sizes.max()) + draw(st.integers(0, 2)), classes, generator=own)
    labels = labels * (torch.rand(labels.shape, generator=own) < draw(st.sampled_from([0.0, 0.5, 1.0])))
    if draw(st.booleans()):
        labels = labels > 0
    logits = torch.randn(images, count, classes, generator=own) * draw(st.sampled_from([1.0, 8.0]))
    return logits, RaggedBatch(labels, sample_sizes=sizes)


@given(problems(), st.booleans())
def test_costs_of_a_pair(problem: tuple[Tensor, RaggedBatch], mean: bool) -> None:
    logits, ragged = problem
    labels = ragged.with_padded_set_to(False if ragged.dtype == torch.bool else 0.0).tensor
    found = {
        reference.table: sum_over_labels(logits, labels, mean=mean),
        reference.softmax: -sum_over_labels(logits.softmax(-1), labels, mean=mean),
        reference.focal: focal_class_cost(logits, labels, mean_over_labels=mean),
    }
    for plain, cost in found.items():
        for image, own in enumerate(ragged.split()):
            close(cost[image, : len(own)].double(), plain(logits[image], own, mean=mean), rtol=1e-4, atol=1e-4)
    whole = focal_class_cost(logits, ragged, mean_over_labels=mean)
    assert isinstance(whole, RaggedBatch) and torch.equal(whole.sample_sizes, ragged.sample_sizes)
    close(whole.tensor, found[reference.focal])
    objectness = logits.sum(-1)
    for other in (None, objectness):
        cost = binary_class_cost(logits, labels, other)
        for image, own in enumerate(ragged.split()):
            expected = reference.binary(logits[image], own, None if other is None else other[image])
            close(cost[image, : len(own)].double(), expected, rtol=1e-4, atol=1e-4)


def test_classes_that_are_no_label_are_not_looked_at() -> None:
    labels = torch.tensor([[[True, True, False, False], [True, False, False, False]]])
    logits = torch.randn(1, 3, 4, generator=generator(0))
    expected = focal_class_cost(logits, labels)
    for value in (math.nan, math.inf, -math.inf):
        filled = logits.clone()
        filled[..., 2:] = value
        close(focal_class_cost(filled, labels), expected)
        filled[0, 1, 1] = math.nan  # a label of the first target alone
        found = focal_class_cost(filled, labels)
        assert found.isnan().tolist() == [[[False, True, False], [False, False, False]]]
        matched = Hungarian({"class": detr_costs()["class"]})(
            {"pred_logits": filled}, Targets(labels=combine_data(list(labels)))
        )
        assert matched.num_invalid.tolist() == [1]


MATCHERS = {
    "detr": lambda: Hungarian(),
    "softmax": lambda: Hungarian(detr_costs(classes="softmax", class_weight=1.0)),
    "mean": lambda: Hungarian(detr_costs(mean_over_labels=True)),
    "focal cost": lambda: Hungarian(cls_match_module=SigmoidFocalCost(alpha=0.25)),
    "focal loss": lambda: Hungarian(cls_match_module=SigmoidFocalLoss()),
    "probability": lambda: Hungarian(cls_match_module=NegativeProbLoss()),
    "repeated": lambda: Hungarian(cls_match_module=FocalLoss()),
    "closest": lambda: ClosestTarget(),
    "softmin": lambda: SoftMin(detr_costs(), reg=0.1),
    "batched": lambda: Hungarian(batched_cost(lambda gt, own: focal_class_cost(own["logits"], gt["labels"]))),
}


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize("sizes", SIZES)
def test_one_label_of_1_is_that_class(name: str, sizes: list[int]) -> None:
    plain, several = one_hot_pair(sizes)
    matcher, predictions = MATCHERS[name](), predictions_of(sizes)
    for key, cost in matcher.costs(predictions, plain).items():
        close(matcher.costs(predictions, several)[key][plain.mask], cost[plain.mask], rtol=1e-5, atol=1e-5)
    one, other = matcher(predictions, plain), matcher(predictions, several)
    if name == "softmin":
        close(
            one.weights.with_padded_set_to(0).tensor, other.weights.with_padded_set_to(0).tensor, rtol=1e-4, atol=1e-5
        )
    else:
        assert torch.equal(one.target_index, other.target_index) and one.max_pairs == other.max_pairs


@pytest.mark.parametrize("classes", ["focal", "softmax"])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_cost_of_a_matcher(sizes: list[int], soft: bool, mean: bool, classes: str) -> None:
    targets, predictions = targets_of(sizes, soft=soft), predictions_of(sizes)
    terms = detr_costs(classes=classes, class_weight=3.0, mean_over_labels=mean)
    matcher = Hungarian(terms)
    plain = reference.focal if classes == "focal" else reference.softmax
    for image, own in enumerate(targets.labels.split()):
        expected = 3 * plain(predictions["pred_logits"][image], own, mean=mean)
        close(matcher.costs(predictions, targets)["class"][image, : len(own)].double(), expected, rtol=1e-4, atol=1e-5)
    again = Hungarian(terms, max_pairwise_bytes=64)(predictions, targets)
    assert torch.equal(again.target_index, matcher(predictions, targets).target_index)
    padded = matcher(predictions, targets.with_max_num_targets(12))
    assert torch.equal(padded.target_index, matcher(predictions, targets).target_index)


def test_layers_of_predictions() -> None:
    sizes = [3, 0, 2]
    targets, layers = targets_of(sizes), [predictions_of(sizes, seed) for seed in range(3)]
    stacked = {key: torch.stack([each[key] for each in layers]) for key in layers[0]}
    found = Hungarian()(stacked, targets)
    for layer, own in enumerate(layers):
        assert torch.equal(found.target_index[layer], Hungarian()(own, targets).target_index)


@pytest.mark.parametrize("rule", [SimOTA(), TaskAligned(topk=3)])
def test_rules_that_read_one_class(rule: Any) -> None:
    points = grid_points((64, 64), [16])
    predictions = {"pred_logits": torch.zeros(1, 16, CLASSES), "pred_boxes": torch.rand(1, 16, 4)}
    with pytest.raises(ValueError, match=r"reads the one class of each target, but labels are multi-hot"):
        rule(predictions, targets_of([2]), points)


def test_rules_that_read_no_class() -> None:
    priors = torch.rand(16, 4).sort(-1).values * 64
    plain, several = one_hot_pair([2, 0])
    for rule, options in ((MaxIoU(), {}), (ATSS(), {"level_sizes": [16]})):
        one, other = (rule(None, each, priors, **options).target_index for each in (plain, several))
        assert torch.equal(one, other)


def test_costs_that_read_one_class() -> None:
    labels = torch.ones(1, 2, CLASSES).bool()
    logits = torch.zeros(1, 3, CLASSES)
    from matchers import alignment_metric, gather_labels, softlabel_class_cost

    for cost, more in (
        (gather_labels, ()),
        (softlabel_class_cost, (torch.ones(1, 2, 3),)),
        (alignment_metric, (torch.ones(1, 2, 3),)),
    ):
        with pytest.raises(
            TypeError, match="labels must be integers, got torch.bool; of multi-hot labels there are sum_over_labels"
        ):
            cost(logits, labels, *more)
    with pytest.raises(ValueError, match="this matcher or cost reads the one class of each target"):
        Hungarian(cls_match_module=torch.nn.CrossEntropyLoss(reduction="none"))(predictions_of([1]), targets_of([1]))
    with pytest.raises(ValueError, match=r"must have the same \*batch and C, got \(1, 3, 5\) and \(1, 2, 4\)"):
        focal_class_cost(logits, labels[..., 1:])
    with pytest.raises(ValueError, match=r"multi-hot labels must lie in \[0, 1\], got 2 at \(0, 0, 0\)"):
        sum_over_labels(logits, labels * 2.0)
    with pytest.raises(TypeError, match="multi-hot labels must be boolean or floating, got torch.int64"):
        sum_over_labels(logits, labels.long())


@pytest.mark.graphs
def test_compiles_in_one_graph() -> None:
    targets, predictions = targets_of([3, 0, 2]), predictions_of([3, 0, 2])
    matcher = Hungarian()
    compiled = torch.compile(lambda own, gt: matcher(own, gt).target_index, fullgraph=True, backend="eager")
    assert torch.equal(compiled(predictions, targets), matcher(predictions, targets).target_index)


def test_does_not_wait() -> None:
    targets, predictions = targets_of([3, 0, 2]), predictions_of([3, 0, 2])
    assert_no_host_sync(lambda own, gt: sum(Hungarian().costs(own, gt).values()), predictions, targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision(dtype: torch.dtype) -> None:
    targets, predictions = targets_of([3, 0, 2], soft=True), predictions_of([3, 0, 2])
    logits = predictions["pred_logits"].to(dtype)
    found = focal_class_cost(logits, targets.labels.tensor)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(focal_class_cost(logits, targets.labels.tensor), found)


def test_pairs_know_labels_of_classes_where_there_are_several() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    several = torch.tensor([[True, False, True]])
    for labels, wanted in ((several, several), (torch.tensor([2]), None)):
        targets = Targets.of([{"boxes": boxes, "labels": labels}])
        found = Pairs.of(Problem.of({"pred_logits": torch.zeros(1, 2, 3)}, targets)).labels_of_classes()
        assert found is wanted if wanted is None else torch.equal(found.bool(), wanted)
