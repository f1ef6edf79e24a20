"""Losses and criteria of targets with several labels each, against plain loops and against one label each."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION as CRITERIA
from cases.common import CLASSES
from reference import loss_terms, multi_hot
from torch import Tensor, nn

import losses
from losses import (
    AssignedTargets,
    BinaryCrossEntropy,
    DetectionLoss,
    DetrCriterion,
    FocalLoss,
    GIoULoss,
    NegativeProbLoss,
    SigmoidFocalLoss,
    SSDLoss,
)
from losses.core.assigned import AssignedTargets as Assigned
from matchers import Assignment, Hungarian, SoftMin, Targets, convert
from ragged import RaggedBatch

LOSSES: dict[str, tuple[Any, Any]] = {
    "bce": (losses.binary_cross_entropy, lambda x, t, _: loss_terms.bce(x, t)),
    "focal": (losses.sigmoid_focal_loss, lambda x, t, _: loss_terms.focal(x, t)),
    "quality": (losses.quality_focal_loss, lambda x, t, _: loss_terms.quality_focal(x, t)),
    "varifocal": (losses.varifocal_loss, loss_terms.varifocal),
    "matchability": (losses.matchability_aware_loss, loss_terms.matchability_aware),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
QUERIES = 9
WEIGHTS = {"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
close = torch.testing.assert_close


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels_of(size: int, own: torch.Generator, *, soft: bool) -> Tensor:
    labels = torch.rand(size, CLASSES, generator=own, dtype=torch.float64) < 0.4
    return torch.rand(size, CLASSES, generator=own, dtype=torch.float64) * labels if soft else labels


def scene(sizes: list[int], *, soft: bool = False, seed: int = 0) -> tuple[dict[str, Any], Targets]:
    """Outputs (two layers) and targets in float64."""
    own = generator(seed)

    def boxes(*shape: int) -> Tensor:
        return torch.rand(*shape, 4, generator=own, dtype=torch.float64) * 0.3 + 0.3

    def layer() -> dict[str, Tensor]:
        logits = torch.randn(len(sizes), QUERIES, CLASSES, generator=own, dtype=torch.float64)
        return {"pred_logits": logits.requires_grad_(), "pred_boxes": boxes(len(sizes), QUERIES).requires_grad_()}

    truth = [{"boxes": boxes(size), "labels": labels_of(size, own, soft=soft)} for size in sizes]
    outputs: dict[str, Any] = {**layer(), "aux_outputs": [layer()]}
    return outputs, Targets.of(truth, box_format="cxcywh", normalized=True, canvas_size=(64, 64))


def several(targets: Targets) -> Targets:
    """The same targets with multi-hot labels of the one class that each has."""
    hot = targets.labels.tensor.clamp(0, CLASSES - 1)
    labels = RaggedBatch(nn.functional.one_hot(hot, CLASSES).bool(), sample_sizes=targets.num_targets)
    return targets._with_parts(targets.parts | {"labels": labels}, targets.canvas_size)


# --- losses ----------------------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_labels_times_scores(name: str, soft: bool) -> None:
    function, plain = LOSSES[name]
    own = generator(0)
    logits = torch.randn(3, 6, CLASSES, generator=own, dtype=torch.float64) * 5
    labels = labels_of(18, own, soft=soft).view(3, 6, CLASSES)
    scores = (torch.rand(3, 6, generator=own, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)  # 0 and 1 among them
    found = function(logits, labels, scores=scores)
    for image in range(3):
        expected = multi_hot.class_loss(plain, logits[image], labels[image], range(6), scores[image].tolist())
        assert found[image].sum().item() == pytest.approx(expected, rel=1e-9)


@every_loss
def test_one_label_is_a_label(name: str) -> None:
    function, _ = LOSSES[name]
    own = generator(1)
    logits = torch.randn(20, CLASSES, generator=own, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, CLASSES, (20,), generator=own)
    scores = torch.rand(20, generator=own, dtype=torch.float64).masked_fill(labels % 2 == 0, 0)
    scores = scores.masked_fill(labels < 0, math.nan)  # without a label nobody looks at them
    hot = labels.unsqueeze(-1) == torch.arange(CLASSES)
    found = [function(logits, each, scores=scores) for each in (labels, hot, hot.double())]
    slopes = [torch.autograd.grad(each.sum(), logits)[0] for each in found]
    for each, slope in zip(found[1:], slopes[1:], strict=True):
        close(each, found[0], rtol=1e-10, atol=1e-12)
        close(slope, slopes[0], rtol=1e-10, atol=1e-12)


@every_loss
def test_gradients(name: str) -> None:
    function, _ = LOSSES[name]
    own = generator(2)
    logits = torch.randn(4, CLASSES, generator=own, dtype=torch.float64, requires_grad=True)
    labels, scores = labels_of(4, own, soft=True), torch.rand(4, generator=own, dtype=torch.float64)
    options = {"detach_weights": False} if name in ("matchability", "varifocal") else {}
    assert torch.autograd.gradcheck(lambda x: function(x, labels, scores=scores, **options), (logits,))


# --- what each prediction shall say -----------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
def test_class_targets(whole: bool) -> None:
    labels = torch.tensor([[[1.0, 0.5], [0.0, 1.0]], [[math.nan, 9.0], [math.nan, 9.0]]])
    boxes = RaggedBatch(torch.zeros(2, 2, 4), sample_sizes=[2, 0])
    targets = Targets(boxes, RaggedBatch(labels, sample_sizes=[2, 0]))
    index = torch.tensor([[1, -1, 0, -2], [-1, -1, -2, -1]])
    match = Assignment.from_index(index, num_targets=targets.num_targets, per_target=None if whole else 1)
    assigned = AssignedTargets.of(targets, match, num_classes=2)
    assert assigned.labels.tolist() == [[0, -1, 0, -2], [-1, -1, -2, -1]]
    assert assigned.class_targets().tolist() == [[[0, 1], [0, 0], [1, 0.5], [0, 0]], [[0, 0]] * 4]
    assert assigned.class_targets_of_rows().tolist() == [[0, 1], [1, 0.5]]
    static = torch.compile(lambda t, a: Assigned.of(t, a).class_targets(), fullgraph=True, backend="eager")
    assert torch.equal(static(targets, match), assigned.class_targets())
    with pytest.raises(
        ValueError, match=r"multi_hot must have the shape of the positives, with their classes, \(2, 2\)"
    ):
        Assigned(assigned.labels, assigned.quality, assigned.positives, assigned.boxes, multi_hot=torch.ones(3, 2))


# --- criteria ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("sizes", [[3, 1, 4], [2, 0], [0, 0], [1], [12, 2]])
def test_detr_against_the_loop(sizes: list[int], soft: bool) -> None:
    outputs, targets = scene(sizes, soft=soft)
    criterion = DetrCriterion(WEIGHTS, alpha=0.75, gamma=2.0, num_classes=CLASSES)
    found, matches = criterion(outputs, targets), criterion.assign(outputs, targets)
    count = max(sum(sizes), 1)
    for suffix, layer in (("", outputs), ("_aux_0", outputs["aux_outputs"][0])):
        expected = dict.fromkeys(WEIGHTS, 0.0)
        for image, own in enumerate(targets.to_dicts()):
            index = matches[suffix].target_index[image].tolist()
            pred, gt = (convert(each, "cxcywh", "xyxy").detach() for each in (layer["pred_boxes"][image], own["boxes"]))
            overlap, generalized = multi_hot.overlaps(pred, gt, index)
            logits = layer["pred_logits"][image].detach()
            plain = partial(loss_terms.varifocal, alpha=0.75, gamma=2.0)
            expected["loss_vfl"] += multi_hot.class_loss(plain, logits, own["labels"], index, overlap)
            for query, target in enumerate(index):
                if target >= 0:
                    distance = (layer["pred_boxes"][image, query] - own["boxes"][target]).abs().sum()
                    expected["loss_bbox"] += 5 * float(distance.detach())
                    expected["loss_giou"] += 2 * (1 - generalized[query])
        for name, value in expected.items():
            assert found[name + suffix].item() == pytest.approx(value / count, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["detr", "dfine", "deim", "atss", "fcos", "retinanet"])
@pytest.mark.parametrize("sizes", [[3, 0, 2], [0, 0]])
def test_one_label_is_that_class(name: str, sizes: list[int]) -> None:
    case = CRITERIA[name]
    predictions, targets = case.predictions(sizes), case.targets(sizes)
    criterion = case.make()
    plain, hot = case.losses(criterion, predictions, targets), case.losses(criterion, predictions, several(targets))
    assert plain.keys() == hot.keys()
    for key, value in plain.items():
        close(hot[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["rtmdet", "yolox", "yolov9"])
def test_with_a_matcher_that_reads_no_class(name: str) -> None:
    case = CRITERIA[name]
    predictions, targets = case.predictions([3, 0, 2]), case.targets([3, 0, 2])
    criterion = case.make()
    with pytest.raises(ValueError, match="reads the one class of each target, but labels are multi-hot"):
        criterion(predictions, several(targets))
    match = criterion.assign(predictions, targets)
    plain, hot = (criterion.loss(predictions, each, match) for each in (targets, several(targets)))
    for key, value in plain.items():
        close(hot[key], value, rtol=1e-4, atol=1e-5)


CLASS_LOSSES = {
    "focal": FocalLoss(),
    "bce": BinaryCrossEntropy(),
    "summed": SigmoidFocalLoss(),
    "probability": NegativeProbLoss(),
    "torch": nn.BCEWithLogitsLoss(reduction="none"),
    "soft targets": nn.CrossEntropyLoss(reduction="none"),
}


@pytest.mark.parametrize("name", CLASS_LOSSES)
@pytest.mark.parametrize("options", [{}, {"use_hard_negative_mining": True, "neg_to_pos_ratio": 2.0}])
def test_detection_loss_of_one_label(name: str, options: dict[str, Any]) -> None:
    case = CRITERIA["detr"]
    predictions, targets = case.predictions([3, 0, 2]), case.targets([3, 0, 2])
    given = {key: predictions[key] for key in ("pred_logits", "pred_boxes")}
    criterion = DetectionLoss(CLASS_LOSSES[name], GIoULoss(), Hungarian(), bg_class_position="none", **options)
    close(criterion(given, several(targets)), criterion(given, targets), rtol=1e-5, atol=1e-6)


def test_detection_loss_against_the_loop() -> None:
    outputs, targets = scene([3, 0, 2], soft=True)
    given = {key: outputs[key] for key in ("pred_logits", "pred_boxes")}
    criterion = DetectionLoss(BinaryCrossEntropy(), GIoULoss(), Hungarian(), bg_class_position="none", reduction="sum")
    match = criterion.assign(given, targets)
    assert isinstance(match, Assignment)
    expected = 0.0
    for image, own in enumerate(targets.to_dicts()):
        index, logits = match.target_index[image].tolist(), given["pred_logits"][image].detach()
        expected += multi_hot.class_loss(lambda x, t, _: loss_terms.bce(x, t), logits, own["labels"], index)
    assert criterion.parts(given, targets, match)["loss_cls"].item() == pytest.approx(expected, rel=1e-9)


def test_filler_and_ignored_targets_never_speak() -> None:
    outputs, targets = scene([3, 0, 2], soft=True)
    ignore = RaggedBatch(torch.tensor([[False, True, False]] * 3), sample_sizes=targets.num_targets)
    targets = targets._with_parts(targets.parts | {"ignore": ignore}, targets.canvas_size)
    criterion = DetrCriterion(WEIGHTS, num_classes=CLASSES)
    leaves = [outputs["pred_logits"], outputs["pred_boxes"]]

    def values(own: Targets) -> tuple[Tensor, list[Tensor]]:
        loss = sum(criterion(outputs, own).values())
        return loss, list(torch.autograd.grad(loss, leaves))

    expected = values(targets)
    for value in (math.nan, math.inf, 7.0):
        counts = targets.matchable.unsqueeze(-1)
        labels = targets.labels.create_with_sample_sizes_like_self(targets.labels.tensor.masked_fill(~counts, value))
        found = values(targets._with_parts(targets.parts | {"labels": labels}, targets.canvas_size))
        assert torch.equal(found[0], expected[0]) and all(map(torch.equal, found[1], expected[1]))
    padded = values(targets.with_max_num_targets(8))
    close(padded[0], expected[0])


def test_order_of_images() -> None:
    outputs, targets = scene([3, 0, 2, 1])
    criterion = DetrCriterion(WEIGHTS, num_classes=CLASSES, reduction="sample")
    order = [2, 0, 3, 1]
    truth = targets.to_dicts()
    turned = Targets.of([truth[k] for k in order], box_format="cxcywh", normalized=True)
    layers = [
        {key: each[key][order] for key in ("pred_logits", "pred_boxes")}
        for each in (outputs, outputs["aux_outputs"][0])
    ]
    found, expected = criterion({**layers[0], "aux_outputs": [layers[1]]}, turned), criterion(outputs, targets)
    for name, value in expected.items():
        close(found[name], value[order])


@pytest.mark.graphs
def test_compiles_in_one_graph() -> None:
    outputs, targets = scene([3, 0, 2])
    criterion = DetrCriterion(WEIGHTS, num_classes=CLASSES)
    compiled = torch.compile(criterion, fullgraph=True, backend="eager")
    for name, value in criterion(outputs, targets).items():
        close(compiled(outputs, targets)[name], value)


def test_who_cannot_learn_them() -> None:
    outputs, targets = scene([2, 1])
    given = {key: outputs[key] for key in ("pred_logits", "pred_boxes")}
    with pytest.raises(ValueError, match=r"multi-hot labels are of 5 classes, shape \(2, 2, 5\), but there are 7"):
        DetrCriterion(WEIGHTS, num_classes=7).loss(
            {key: torch.zeros(2, QUERIES, 7 if "log" in key else 4) for key in given}, targets, {"": None}
        )
    first = DetectionLoss(FocalLoss(), GIoULoss(), Hungarian())
    with pytest.raises(ValueError, match="multi-hot labels need bg_class_position='none', got 'first'"):
        first(given, targets)
    soft = DetectionLoss(FocalLoss(), GIoULoss(), SoftMin(), bg_class_position="none")
    with pytest.raises(ValueError, match="a plan divides targets of one label each, got multi-hot ones"):
        soft(given, targets)
    weighted = nn.CrossEntropyLoss(weight=torch.ones(CLASSES, dtype=torch.float64), reduction="none")
    with pytest.raises(ValueError, match="class weights counts one label of each target, got multi-hot ones"):
        DetectionLoss(weighted, GIoULoss(), Hungarian(), bg_class_position="none")(given, targets)
    case = CRITERIA["ssd"]
    with pytest.raises(ValueError, match="learns one class of each target, but labels are multi-hot"):
        case.losses(case.make(), case.predictions([2, 1]), several(case.targets([2, 1])))
    assert SSDLoss.MULTI_HOT is False
