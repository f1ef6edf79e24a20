"""Values that no type tells to be wrong: weights, counts, scores, results of matchers, and dtypes that are only stored."""

from __future__ import annotations

from typing import Any

import torch
from cases import EVERY_CRITERION
from cases.common import criterion_of, given
from reliability.arguments import images
from torch import nn

import losses
from losses import AssignedTargets, DensePredictions, DetectionLoss, GIoULoss, Normalizer
from matchers import Assignment, Hungarian, MaxIoU, Plan, Predictions, SoftMin, Targets, detr_costs, grid_points
from ragged import RaggedBatch, batched_indexing_write, collate, combine_data

NAN, INF = float("nan"), float("inf")
INDEX, ONE = torch.tensor([[0, -1]]), torch.tensor([1])
MAPS = [[torch.zeros(1, channels, 4, 4)] for channels in (3, 4, 1)]
TRUTH = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
DENSE = torch.zeros(1, 2)
SPARSE = torch.eye(4).to_sparse()
FLOAT8 = torch.ones(1, 4).to(torch.float8_e4m3fn)
PAIR = RaggedBatch(torch.zeros(1, 2, 1), sample_sizes=[1], non_uniform_dim=2)


def image(**fields: Any) -> list[dict[str, Any]]:
    return [images()[0], {"boxes": torch.ones(1, 4), "labels": torch.tensor([1]), **fields}]


def images_with(**fields: Any) -> Targets:
    """Two images of one target, whose second has another entry."""
    box = {"boxes": torch.ones(1, 4), "labels": torch.tensor([1])}
    usual = {name: torch.zeros_like(torch.as_tensor(value)) for name, value in fields.items()}
    return Targets.of([box | usual, box | fields])


def yolox(**options: Any) -> Any:
    return losses.YOLOXCriterion(3, strides=(8,), **options)


def with_reduction(module: Any, reduction: str) -> None:
    module.reduction = reduction


def assigned(weights: list[float]) -> AssignedTargets:
    found = torch.tensor([[1, -1]])
    return AssignedTargets.from_dense(found, torch.zeros(1, 2, 4), num_classes=3, weights=torch.tensor([weights]))


# fmt: off
ROWS = [
    # --- weights
    ("negative weight of a target", lambda: images_with(weights=torch.tensor([-1.0])), ValueError, "weights must be finite and not negative, got -1 at position 0 of sample 1"),
    ("weight NaN", lambda: images_with(weights=torch.tensor([NAN])), ValueError, "weights must be finite and not negative, got nan at position 0 of sample 1"),
    ("weight inf", lambda: images_with(weights=torch.tensor([INF])), ValueError, "weights must be finite and not negative, got inf"),
    ("negative weight of a prediction", lambda: assigned([1.0, -1.0]), ValueError, "weights must be finite and not negative, got -1 at position 1 of sample 0"),
    ("weight of a prediction NaN", lambda: assigned([NAN, 1.0]), ValueError, "weights must be finite and not negative, got nan at position 0 of sample 0"),
    ("weight of a class negative", lambda: losses.cross_entropy(DENSE, ONE, class_weights=torch.tensor([1.0, -1.0])), ValueError, "class_weights must be finite and not negative, got -1 at position 1"),
    ("weight of a class in a module", lambda: DetectionLoss(nn.CrossEntropyLoss(torch.tensor([1.0, NAN]), reduction="none"), GIoULoss(), Hungarian()), ValueError, "weight of cls_loss_module must be finite and not negative, got nan"),
    ("weight of a class in half precision", lambda: DetectionLoss(nn.CrossEntropyLoss(torch.ones(2).half(), reduction="none"), GIoULoss(), Hungarian()), TypeError, "its weight is torch.float16: make it with float32 values"),
    ("mask of classes negative", lambda: losses.ATSSCriterion(3, strides=(8,))(MAPS, TRUTH, valid_label_mask=torch.tensor([[1.0, -1.0, 1.0]])), ValueError, "valid_label_mask must be finite and not negative, got -1"),
    ("mining by negative weights", lambda: losses.hard_negative_mining(DENSE, DENSE - 1, ratio=1), ValueError, "positive must be finite and not negative, got -1"),
    # --- counts
    ("negative count", lambda: Normalizer()(-3), ValueError, "counts must not be negative, got -3"),
    ("count NaN", lambda: Normalizer()([1, torch.tensor(NAN)]), ValueError, "counts must be finite and not negative, got nan"),
    ("negative total", lambda: Normalizer()(global_count=torch.tensor([1.0, -2.0])), ValueError, "global_count must be finite and not negative, got -2 at position 1"),
    ("negative global count", lambda: yolox()(MAPS, TRUTH, global_count=torch.tensor(-3.0)), ValueError, "global_count of 'num_positives' must be finite and not negative, got -3"),
    ("global count of another name more", lambda: yolox()(MAPS, TRUTH, global_count={"num_positives": 3.0, "num_positive": 3.0}), KeyError, "nobody reads 'num_positive' of global_count: did you mean 'num_positives'"),
    # --- scores and dense targets
    ("scores above 1", lambda: losses.quality_focal_loss(DENSE, ONE, scores=torch.tensor([5.0])), ValueError, "scores must lie in .0, 1., got 5 at position 0"),
    ("scores below 0", lambda: losses.varifocal_loss(DENSE, ONE, scores=torch.tensor([-0.5])), ValueError, "scores must lie in .0, 1., got -0.5"),
    ("scores of a number", lambda: losses.quality_focal_loss(DENSE, ONE, scores=5), TypeError, "scores must be a torch.Tensor, got int"),
    ("scores of a module of torch", lambda: losses.modules.classes.class_values(nn.BCEWithLogitsLoss(reduction="none"), DENSE, ONE, torch.tensor([5.0])), ValueError, "scores must lie in .0, 1., got 5"),
    ("dense targets above 1", lambda: losses.sigmoid_focal_loss(DENSE, DENSE + 7), ValueError, "dense targets must lie in .0, 1., got 7 at position 0 of sample 0"),
    ("dense targets below 0", lambda: losses.matchability_aware_loss(DENSE, DENSE - 1), ValueError, "dense targets must lie in .0, 1., got -1"),
    ("dense targets NaN", lambda: losses.binary_cross_entropy(DENSE, DENSE * NAN), ValueError, "dense targets must lie in .0, 1., got nan"),
    ("one-hot targets above 1", lambda: losses.NegativeProbLoss()(DENSE, DENSE + 2), ValueError, "one-hot targets must lie in .0, 1., got 2"),
    ("quality above 1", lambda: Assignment.from_index(INDEX, num_targets=ONE, quality=torch.tensor([[5.0, 0.0]])), ValueError, "quality must lie in .0, 1., got 5 at position 0 of sample 0"),
    ("quality NaN", lambda: Assignment.from_index(INDEX, num_targets=ONE, quality=torch.tensor([[NAN, 0.0]])), ValueError, "quality must lie in .0, 1., got nan"),
    # --- integers in floats, flags in floats
    ("labels in bfloat16", lambda: Targets.of(torch.tensor([[0, 257, 0.5, 0.5, 0.2, 0.2]]).bfloat16(), batch_size=1), ValueError, "the label 256 at .0,. cannot be told from its neighbours in torch.bfloat16"),
    ("padded labels in float16", lambda: Targets.of(torch.tensor([[[2049, 0, 0, 1, 1.0]]]).half()), ValueError, "the label 2048 at .0, 0. cannot be told"),
    ("crowd of a half", lambda: Targets.of(image(iscrowd=[0.5]) [1:]), TypeError, "ignore of sample 0 must be a boolean or integer tensor, got torch.float32"),
    ("crowd of two", lambda: Targets.of(image(iscrowd=[2])[1:]), ValueError, "ignore of sample 0 must be True or 1, or False or 0, got 2"),
    ("COCO's crowd of two", lambda: Targets.of([[{"bbox": [0, 0, 1, 1], "category_id": 1, "iscrowd": 2}]]), ValueError, "iscrowd and ignore of sample 0 must be 0 or 1, got 2"),
    ("label without a dimension", lambda: Targets.of(image(labels=torch.tensor(1))[1:]), ValueError, r"sample 0 has 1 boxes, but labels of shape \(\), not \(1,\)"),
    # --- dtypes and layouts that torch only stores
    ("sparse boxes", lambda: Targets.of(image(boxes=SPARSE)[1:]), TypeError, "boxes of sample 0 must be a dense tensor, got one of layout torch.sparse_coo; use .to_dense"),
    ("sparse data", lambda: RaggedBatch(SPARSE, sample_sizes=[1, 2, 3, 4]), TypeError, "tensor must be a dense tensor, got one of layout torch.sparse_coo"),
    ("sparse samples", lambda: combine_data([SPARSE]), TypeError, "sample 0 must be a dense tensor"),
    ("nested data", lambda: RaggedBatch(torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged), sample_sizes=[2]), TypeError, "got a nested one; use ragged.from_nested"),
    ("boxes in float8", lambda: Targets.of(image(boxes=FLOAT8)[1:]), TypeError, "boxes of sample 0 has the dtype torch.float8_e4m3fn, which torch stores but does not compute with"),
    ("data in float8", lambda: RaggedBatch(FLOAT8, sample_sizes=[2]), TypeError, "tensor has the dtype torch.float8_e4m3fn"),
    ("logits in float8", lambda: Predictions(FLOAT8), TypeError, "logits has the dtype torch.float8_e4m3fn"),
    ("sparse logits", lambda: losses.binary_cross_entropy(SPARSE, torch.zeros(4, 4)), TypeError, "logits must be a dense tensor"),
    # --- results of matchers
    ("an assignment of numbers", lambda: Assignment(1, 2, 3, 4, 5, 6), TypeError, "target_index must be a torch.Tensor, got int"),
    ("an assignment of int32", lambda: Assignment(INDEX.int(), INDEX.float(), ONE, ONE, 1, 1), ValueError, r"target_index must be int64 \(\*batch, P\), got torch.int32"),
    ("an assignment that does not fit", lambda: Assignment(INDEX, torch.ones(1, 3), ONE, ONE, 1, 1), ValueError, r"quality must have shape \(1, 2\), as target_index has, got \(1, 3\)"),
    ("an assignment of half a target", lambda: Assignment(INDEX, INDEX.float(), ONE, ONE, 1.5, 1), TypeError, "max_num_targets must be an integer, got float"),
    ("assigned targets of numbers", lambda: AssignedTargets(1, 2, 3, 4), TypeError, "labels must be a torch.Tensor, got int"),
    ("a plan whose background does not fit", lambda: Plan(PAIR, torch.zeros(1, 4), torch.zeros(1)), ValueError, r"background must have shape \(1, 2\), as weights have, got \(1, 4\)"),
    ("a plan ragged along predictions", lambda: Plan(RaggedBatch(torch.zeros(1, 2, 1), sample_sizes=[1]), torch.zeros(1, 2), torch.zeros(1)), ValueError, "weights must be floating .*, ragged along G, .* with non_uniform_dim=1"),
    ("values ragged along another dimension", lambda: Assignment.from_index(INDEX, num_targets=ONE).gather(PAIR), ValueError, r"values must have shape \(\*batch, G, …\), ragged along G, got \(1, 2, 1\) with non_uniform_dim=2"),
    ("a matcher of plans in YOLOX", lambda: yolox(matcher=SoftMin(detr_costs(), source="prediction"))(MAPS, TRUTH), TypeError, r"YOLOXCriterion needs a matcher that gives an Assignment, but SoftMin gave Plan: a soft plan is for DetectionLoss; plan.assignment\(\) makes a hard one"),
    ("a matcher of plans in DETR", lambda: losses.DetrCriterion({"loss_bbox": 1.0}, num_classes=3, matcher=SoftMin())({"pred_logits": torch.zeros(1, 4, 3), "pred_boxes": torch.full((1, 4, 4), 0.5)}, [{"boxes": torch.full((1, 4), 0.5), "labels": ONE}]), TypeError, "DetrCriterion needs a matcher that gives an Assignment, but SoftMin gave Plan"),
    ("a matcher that says nothing", lambda: yolox(matcher=lambda *_: None)(MAPS, TRUTH), TypeError, "YOLOXCriterion needs a matcher that gives an Assignment, but <lambda> gave NoneType"),
    ("a matcher of SSD that says nothing", lambda: losses.SSDLoss(torch.full((2, 4), 0.5), matcher=lambda *_: None)((torch.zeros(1, 4, 2), torch.zeros(1, 3, 2)), torch.zeros(0, 6)), TypeError, "needs a matcher that gives an Assignment, but <lambda> gave NoneType"),
    # --- parameters
    ("a threshold above 1", lambda: MaxIoU(pos_iou_thr=1.5), ValueError, r"pos_iou_thr must lie in \[0, 1\], got 1.5"),
    ("a least overlap above 1", lambda: MaxIoU(min_pos_iou=2), ValueError, r"min_pos_iou must lie in \[0, 1\], got 2"),
    ("a class for a cost", lambda: Hungarian(Hungarian), TypeError, r"cost must be a function of pairs, got the class Hungarian; make one, Hungarian\(…\)"),
    ("a class for a loss", lambda: yolox(loss_bbox=GIoULoss), TypeError, r"loss_bbox must be a loss module or function, got the class GIoULoss; make one, GIoULoss\(…\)"),
    ("a softmax for a sigmoid", lambda: yolox(loss_cls=nn.CrossEntropyLoss(reduction="none")), TypeError, "loss_cls is called as .*, but CrossEntropyLoss takes no scores; .* or use DetectionLoss for a softmax"),
    ("a function without scores", lambda: losses.ATSSCriterion(3, loss_centerness=lambda logits, labels: logits), TypeError, "loss_centerness is called as .*, but <lambda> takes no scores"),
    ("strides of text", lambda: losses.RTMDetCriterion(3, strides=["8"]), TypeError, "each of strides must be an integer or a pair .height, width., got '8'"),
    ("a reduction set later", lambda: with_reduction(yolox(), "avg"), ValueError, "reduction must be one of 'mean', 'sum', 'sample', 'none', got 'avg'"),
    ("a reduction of SSDLoss set later", lambda: with_reduction(losses.SSDLoss(torch.full((2, 4), 0.5)), "avg"), ValueError, "reduction must be one of 'mean', 'sum', 'sample', 'none', got 'avg'"),
    ("a reduction of a loss set later", lambda: with_reduction(GIoULoss(), "avg"), ValueError, "reduction must be one of 'none', 'mean', 'sum', got 'avg'"),
    ("a reduction of DetectionLoss set later", lambda: with_reduction(DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIoULoss(), Hungarian()), "avg"), ValueError, "reduction must be one of 'mean', 'sum', 'sample', 'none', got 'avg'"),
    # --- predictions of another head
    ("five classes for three", lambda: yolox()(DensePredictions(torch.zeros(1, 16, 5), torch.zeros(1, 16, 4), grid_points((32, 32), [8]), torch.zeros(1, 16)), TRUTH), ValueError, r"class scores must have the shape of num_classes = 3, \(1, 16, 3\), got \(1, 16, 5\)"),
    ("what YOLOv9 read for other classes", lambda: losses.YOLOv9Criterion(2, criterion_of(EVERY_CRITERION["yolov9"]).vec2box, reg_max=criterion_of(EVERY_CRITERION["yolov9"]).bbox_coder.reg_max).read(criterion_of(EVERY_CRITERION["yolov9"]).read(call_predictions("yolov9"))), ValueError, "class logits must have the shape of num_classes = 2"),
    ("what SSD read for other classes", lambda: losses.SSDCriterion(9, anchors=criterion_of(EVERY_CRITERION["ssd"]).anchors).read(criterion_of(EVERY_CRITERION["ssd"]).read(call_predictions("ssd"))), ValueError, "class scores must have 9 classes, the background included"),
    ("what DETR read for other classes", lambda: losses.DetrCriterion({"loss_bbox": 1.0}, num_classes=9).read(criterion_of(EVERY_CRITERION["detr"]).read(call_predictions("detr"))), ValueError, "pred_logits must have the shape of num_classes = 9"),
    # --- structure that could be data
    ("a list of numbers", lambda: collate([[1, 2], [3, 4]]), TypeError, r"a list of numbers is ambiguous at sample, got \[1, 2\]"),
    ("lists of numbers in a dict", lambda: collate([{"labels": []}, {"labels": [3]}]), TypeError, r"a list of numbers is ambiguous at sample\['labels'\]"),
    # --- filler that would become data
    ("written along another dimension", lambda: batched_indexing_write(PAIR, torch.tensor([[0, 1]]), torch.zeros(1, 2, 1)), ValueError, "ragged along dimension 1, got dimension 2 .*, a plain tensor: its filler would become data"),
]
# fmt: on


def call_predictions(name: str) -> Any:
    return given(EVERY_CRITERION[name])[0]
