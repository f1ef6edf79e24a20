"""Wrong arguments for ``losses``: what is called, which error it must raise, and what the message must say."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from criterion_cases import EVERY_CRITERION
from criterion_types import CLASSES
from reliability.calls_losses import BINS, BOXES, IN_BINS, LABELS, LOGITS, POINTS, SCORES, levels, maps
from reliability.calls_losses_criteria import given
from reliability.calls_matchers import assignment, boxes, labels, targets
from torch import nn

import losses
from losses import AssignedTargets, DetectionLoss, GIoULoss, Normalizer, Positives, Vec2Box
from matchers import Assignment, Hungarian, Targets

META = LABELS.to("meta")


@cache
def criterion(name: str) -> Any:
    return EVERY_CRITERION[name].make()


def outputs(name: str = "detr", **changes: Any) -> dict[str, Any]:
    """The output of a decoder with other entries; those that are None are left out."""
    return {key: value for key, value in (given(name)[0] | changes).items() if value is not None}


def with_label(name: str, label: int) -> Targets:
    own = given(name)[1]
    return Targets(own.boxes, own.labels * 0 + label, box_format=own.box_format, normalized=own.normalized)


def call(name: str, predictions: Any = None, of: Any = None) -> Any:
    """A criterion with wrong predictions, or wrong targets."""
    return criterion(name)(given(name)[0] if predictions is None else predictions, given(name)[1] if of is None else of)


def reduced(name: str, **options: Any) -> Any:
    return EVERY_CRITERION[name].make(**options)


# fmt: off
ROWS = [
    # --- losses of classes
    ("integer logits", lambda: losses.sigmoid_focal_loss(LOGITS.long(), LABELS), TypeError, "logits must have a floating dtype, got torch.int64"),
    ("logits of a list", lambda: losses.cross_entropy([[0.0]], LABELS), TypeError, "logits must be a torch.Tensor, got list"),
    ("logits of objects", lambda: losses.cross_entropy(np.array([None]), LABELS), TypeError, "logits must be a torch.Tensor, got ndarray"),
    ("labels of floats", lambda: losses.cross_entropy(LOGITS, LABELS.float()), TypeError, "labels must have an integer dtype, got torch.float32"),
    ("labels of bools", lambda: losses.negative_probability(LOGITS, LABELS.bool()), TypeError, "labels must have an integer dtype, got torch.bool"),
    ("label of no class", lambda: losses.cross_entropy(LOGITS, LABELS + 1), ValueError, r"labels must lie in 0 … 4, got 5 at \(2,\)"),
    ("negative label", lambda: losses.negative_probability(LOGITS, LABELS - 1), ValueError, r"labels must lie in 0 … 4, got -1 at \(1,\)"),
    ("labels too few", lambda: losses.cross_entropy(LOGITS, LABELS[:2]), ValueError, r"labels must have the shape of the logits without their classes, \(3,\), got \(2,\)"),
    ("labels on meta", lambda: losses.cross_entropy(LOGITS, META), ValueError, r"labels must be on the device of the logits \(cpu\), got meta"),
    ("labels of a number", lambda: losses.cross_entropy(LOGITS, 1), TypeError, "labels must be a torch.Tensor, got int"),
    ("class weights too few", lambda: losses.cross_entropy(LOGITS, LABELS, class_weights=torch.ones(4)), ValueError, r"class_weights must have the shape of the classes, \(5,\), got \(4,\)"),
    ("ignored label of text", lambda: losses.softmax_focal_loss(LOGITS, LABELS, ignored_label="none"), TypeError, "ignored_label must be an integer, got str"),
    ("dense targets of other shape", lambda: losses.varifocal_loss(LOGITS, LOGITS[:, :4]), ValueError, r"dense targets must have the shape of the logits, \(3, 5\), got \(3, 4\)"),
    ("targets on meta", lambda: losses.quality_focal_loss(LOGITS, META), ValueError, r"targets must be on the device of the logits \(cpu\), got meta"),
    ("scores with dense targets", lambda: losses.binary_cross_entropy(LOGITS, LOGITS, scores=SCORES), ValueError, "scores go with labels of an integer dtype"),
    ("scores of integers", lambda: losses.quality_focal_loss(LOGITS, LABELS, scores=LABELS), TypeError, "scores must have a floating dtype, got torch.int64"),
    ("scores too many", lambda: losses.quality_focal_loss(LOGITS, LABELS, scores=torch.ones(4)), ValueError, r"scores must have the shape of the labels, \(3,\), got \(4,\)"),
    ("alpha above 1", lambda: losses.sigmoid_focal_loss(LOGITS, LABELS, alpha=2.0), ValueError, r"alpha must lie in \[0, 1\], .*got 2.0"),
    ("alpha of text", lambda: losses.sigmoid_focal_cost(LOGITS, LABELS, alpha="auto"), TypeError, "alpha must be a number, got str"),
    ("negative gamma", lambda: losses.FocalLoss(gamma=-1.0), ValueError, "gamma must not be negative, got -1.0"),
    ("gamma of NaN", lambda: losses.VarifocalLoss(gamma=float("nan")), ValueError, "gamma must be finite, got nan"),
    ("unknown reduction", lambda: losses.FocalLoss(reduction="avg"), ValueError, "reduction must be one of 'none', 'mean', 'sum', got 'avg'"),
    ("negative weight", lambda: losses.GIoULoss(loss_weight=-2.0), ValueError, "loss_weight must not be negative, got -2.0"),
    ("misspelt option", lambda: losses.QualityFocalLoss(gamma=2.0), TypeError, "gamma"),
    ("cost without targets", lambda: losses.NegativeProbLoss()(LOGITS, None), TypeError, "targets must be a torch.Tensor, got NoneType"),
    ("mining without labels", lambda: losses.HardMiningCrossEntropyLoss(3.0)(torch.zeros(2, 3, 6), torch.zeros(2, 5).long()), ValueError, r"target_labels must have the shape .*\(2, 6\), got \(2, 5\)"),
    ("mining below -1", lambda: losses.HardMiningCrossEntropyLoss(3.0)(torch.zeros(2, 3, 6), torch.full((2, 6), -2)), ValueError, r"target_labels must be -1 at least, got -2 at \(0, 0\)"),
    ("negative ratio", lambda: losses.hard_negative_mining(LOGITS, LOGITS > 0, ratio=-1), ValueError, "ratio must not be negative, got -1"),
    ("mining with integers", lambda: losses.hard_negative_mining(LOGITS, LOGITS.long(), ratio=1), TypeError, "positive must be a mask or weights, bool or floating, got torch.int64"),
    ("mining without positives", lambda: losses.hard_negative_mining(LOGITS, None, ratio=1), TypeError, "positive must be a torch.Tensor, got NoneType"),
    # --- losses of boxes, coders
    ("integer boxes", lambda: losses.giou_loss(BOXES.long(), BOXES), TypeError, "pred must have a floating dtype, got torch.int64"),
    ("boxes of three", lambda: losses.iou_loss(BOXES, BOXES[:, :3]), ValueError, r"target must have shape \(…, 4\), got \(3, 3\)"),
    ("boxes that do not broadcast", lambda: losses.l1_loss(BOXES, BOXES[:2]), ValueError, r"pred and target must have shapes that broadcast, got \(3, 4\) and \(2, 4\)"),
    ("boxes on two devices", lambda: losses.smooth_l1_loss(BOXES, BOXES.to("meta")), ValueError, r"target must be on the device of pred \(cpu\), got meta"),
    ("unknown mode", lambda: losses.IoULoss(mode="cubic"), ValueError, "mode must be one of 'linear', 'square', 'log', got 'cubic'"),
    ("eps of None", lambda: losses.IoULoss(eps=None), TypeError, "eps must be a number, got NoneType"),
    ("objectives of nothing", lambda: losses.MultipleObjectiveLoss([]), ValueError, "needs one loss at least, got none"),
    ("objective of no module", lambda: losses.MultipleObjectiveLoss([3]), TypeError, "the loss '0' must be a module, got int"),
    ("objectives with weights too few", lambda: losses.MultipleObjectiveLoss([GIoULoss(), GIoULoss()], [1.0]), ValueError, "weights must be 2, one for each loss, got 1"),
    ("weight of no objective", lambda: losses.MultipleObjectiveLoss({"a": GIoULoss()}, {"b": 1.0}), KeyError, "there is a weight for 'b', but the losses are"),
    ("centerness of boxes in integers", lambda: losses.centerness(BOXES.long()), TypeError, "distances must have a floating dtype"),
    ("centerness of other points", lambda: losses.centerness_of_points(POINTS[:2, :2], BOXES), ValueError, "must have shapes that broadcast"),
    ("points for a coder", lambda: losses.DeltaXYWHCoder().encode(POINTS[:, :2], BOXES), ValueError, r"priors must have shape \(…, 4\), got \(3, 2\)"),
    ("coder without strides", lambda: losses.DistanceCoder(scale_by_stride=True).decode(POINTS[:, :2], IN_BINS), ValueError, r"grid points \(…, 4\), x, y and strides, got \(3, 2\)"),
    ("coder with other priors", lambda: losses.SSDCoder().decode(BOXES[:2], BOXES), ValueError, r"priors \(2, 4\) and deltas \(3, 4\) must have shapes that broadcast"),
    ("coder of three numbers", lambda: losses.DeltaXYWHCoder(stds=(1.0, 1.0, 1.0)), ValueError, r"stds must have 4 entries \(of dx, dy, dw, dh\), got 3"),
    ("coder with a scale of 0", lambda: losses.SSDCoder(scale_xy=0.0), ValueError, "scale_xy and scale_wh must be positive, got 0.0"),
    ("coder of one bin", lambda: losses.DistributionCoder(reg_max=1), ValueError, "reg_max must be at least 2, got 1"),
    ("canvas of one side", lambda: losses.clip_to_canvas(BOXES, 6.0), ValueError, r"canvas_size must be a tensor \(\*batch, 2\) or a pair \(height, width\), got 6.0"),
    ("canvas of text", lambda: losses.clip_to_canvas(BOXES, ("a", "b")), TypeError, "each side of canvas_size must be a number, got str"),
    ("distances too few", lambda: losses.distribution_focal_loss(BINS, IN_BINS[:2]), ValueError, r"distances must have the shape of the logits without their bins, \(3, 4\), got \(2, 4\)"),
    ("temperature 0", lambda: losses.decoupled_distillation_loss(LOGITS, LOGITS, temperature=0.0), ValueError, "temperature must be finite and above 0, got 0"),
    ("bins of odd number", lambda: losses.weighting_function(7, 0.5, 4.0), ValueError, "reg_max must be even and at least 4, got 7"),
    ("scale of two", lambda: losses.distance2bbox(BOXES, IN_BINS, reg_scale=torch.ones(2)), ValueError, r"reg_scale must have one element, got shape \(2,\)"),
    ("values of other bins", lambda: losses.integral(BINS, torch.arange(5.0)), ValueError, r"values must have shape \(8,\), as logits has bins, got \(5,\)"),
    ("levels too few", lambda: Vec2Box(image_size=(16, 16), strides=(8, 16))(levels()[:1]), ValueError, "levels must be 2, one for each stride, got 1"),
    ("maps of another size", lambda: Vec2Box(image_size=(32, 32), strides=(8, 16))(levels()), ValueError, r"the class map of level 0 must end with \(h, w\) = \(4, 4\)"),
    ("maps of other channels", lambda: losses.flatten_levels(maps(), channels=3, name="scores"), ValueError, r"scores of level 0 must have shape \(B, 3, h, w\), got \(2, 5, 4, 4\)"),
    ("maps of no image", lambda: losses.image_size_of(maps(), (4, 4)), ValueError, r"no image has feature maps \(h, w\) of \[\(4, 4\), \(2, 2\)\] at strides \(4, 4\)"),
    ("strides too few", lambda: losses.image_size_of(maps(), (4,)), ValueError, r"there are 1 strides \(4,\), but maps of 2 levels"),
    # --- what criteria are made of
    ("assignment of other targets", lambda: AssignedTargets.of(targets(), Assignment.from_index(torch.tensor([[0]]), num_targets=torch.tensor([1]))), ValueError, r"the batch shape \(1,\) of the assignment must end with \(3,\)"),
    ("assignment of None", lambda: AssignedTargets.of(targets(), None), TypeError, "assignment must be an Assignment, got NoneType"),
    ("assigned label out of range", lambda: AssignedTargets.from_dense(labels().tensor + 3, boxes(3, 2), num_classes=3), ValueError, "got 4 for prediction 0 of sample 0"),
    ("assigned boxes too few", lambda: AssignedTargets.from_dense(labels().tensor, boxes(3, 1), num_classes=3), ValueError, r"boxes must have the shape of the labels, .*got \(3, 1, 4\)"),
    ("positives of a tensor", lambda: Positives.of(LABELS), TypeError, "expected an Assignment, got Tensor"),
    ("minimum 0", lambda: Normalizer(minimum=0.0), ValueError, "minimum must be positive, since sums are divided by it, got 0"),
    ("counts of text", lambda: Normalizer()("many"), TypeError, "counts must be numbers or tensors, got str"),
    ("no counts", lambda: Normalizer()(), TypeError, "needs counts or global_count, got neither"),
    ("total of nothing", lambda: losses.total({}), ValueError, "no loss term to add up"),
    ("total of a list", lambda: losses.total([torch.ones(())]), TypeError, "losses must be a dict of terms, .*got list"),
    ("detached numbers", lambda: losses.detached({"a": 1.0}), TypeError, "the loss term 'a' must be a tensor or a RaggedBatch, got float"),
    # --- criteria
    *[(f"unknown reduction of {name}", lambda name=name: reduced(name, reduction="avg"), ValueError, "reduction must be one of 'mean', 'sum', 'sample', 'none', got 'avg'") for name in ("detr", "dfine", "yolox", "yolov9", "rtmdet", "atss", "ssd", "ssd loss")],
    *[(f"normalizer of {name}", lambda name=name: reduced(name, normalizer=3), TypeError, "normalizer must be a Normalizer, got int") for name in ("detr", "yolox", "ssd loss", "detection")],
    *[(f"label of no class, {name}", lambda name=name: call(name, of=with_label(name, 99)), ValueError, "label 99 at position 0 of sample 0 is out of range") for name in EVERY_CRITERION if name != "detection"],
    *[(f"predictions of None, {name}", lambda name=name: criterion(name)(None, given(name)[1]), TypeError, "got NoneType") for name in EVERY_CRITERION if "branch" not in name],
    *[(f"targets of None, {name}", lambda name=name: criterion(name)(given(name)[0], None), TypeError, "targets must be Targets, .*got NoneType") for name in EVERY_CRITERION],
    *[(f"fewer images, {name}", lambda name=name: call(name, of=EVERY_CRITERION[name].targets([2], 0)), ValueError, r"batch|images|\(1,\)") for name in EVERY_CRITERION],
    ("classes of 0", lambda: losses.YOLOXCriterion(0), ValueError, "num_classes must be at least 1, got 0"),
    ("classes of floats", lambda: losses.RTMDetCriterion(5.0), TypeError, "num_classes must be an integer, got float"),
    ("classes without background", lambda: losses.SSDCriterion(1), ValueError, "num_classes counts the background, so that it must be 2 at least, got 1"),
    ("no strides", lambda: losses.YOLOXCriterion(CLASSES, strides=None), TypeError, "strides must be a list of integers or pairs of them, got NoneType"),
    ("no coder", lambda: losses.RTMDetCriterion(CLASSES, bbox_coder=3), TypeError, "bbox_coder must be a coder, with encode and decode, got int"),
    ("a matcher's class", lambda: losses.DetrCriterion({"loss_bbox": 1.0}, matcher=Hungarian), TypeError, "matcher must be a matcher, got the class Hungarian"),
    ("a reduced loss", lambda: losses.ATSSCriterion(CLASSES, loss_bbox=GIoULoss(reduction="mean")), ValueError, "loss_bbox must have reduction='none', got 'mean'"),
    ("a loss of text", lambda: losses.YOLOXCriterion(CLASSES, loss_cls="bce"), TypeError, "loss_cls must be a loss module or function, got str"),
    ("misspelt term", lambda: losses.DetrCriterion({"loss_box": 1.0}), KeyError, "weight_dict has a weight for 'loss_box', but the terms are"),
    ("weight of text", lambda: losses.DFINECriterion({"loss_bbox": "5"}), TypeError, "the weight of loss_bbox must be a number, got str"),
    ("weights of a list", lambda: losses.DetrCriterion(["loss_bbox"]), TypeError, "weight_dict must be a dict of weights by term, got list"),
    ("unknown place of the background", lambda: DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIoULoss(), Hungarian(), "middle"), ValueError, "bg_class_position must be one of .*got 'middle'"),
    ("background for a label", lambda: call("detection", of=with_label("detection", CLASSES)), ValueError, "label 5|background"),
    ("no vec2box", lambda: losses.YOLOv9Criterion(CLASSES, None), TypeError, "vec2box must be a Vec2Box, got NoneType"),
    ("negative rate", lambda: losses.YOLOv9Criterion(CLASSES, Vec2Box(image_size=(16, 16)), cls_rate=-1), ValueError, "cls_rate must not be negative, got -1"),
    ("maps too few", lambda: call("yolox", tuple(each[:1] for each in given("yolox")[0])), ValueError, r"must have a map for each of the strides \(8, 16\), got 1"),
    ("maps without objectness", lambda: call("yolox", given("yolox")[0][:2]), TypeError, "predictions must be .*; got 2 entries"),
    ("anchors missing", lambda: losses.SSDCriterion(CLASSES + 1)(*given("ssd")), ValueError, "SSDCriterion needs anchors"),
    ("no logits", lambda: call("detr", outputs(pred_logits=None)), KeyError, "outputs must have 'pred_logits', got"),
    ("logits of other classes", lambda: call("detr", outputs(pred_logits=torch.zeros(2, 12, 9))), ValueError, r"pred_logits of outputs must have shape \(B, Q, 5\), got \(2, 12, 9\)"),
    ("boxes of other queries", lambda: call("detr", outputs(pred_boxes=torch.zeros(2, 11, 4))), ValueError, r"pred_boxes of outputs must have shape \(2, 12, 4\), .*got \(2, 11, 4\)"),
    ("layers of a dict", lambda: call("detr", outputs(aux_outputs={})), TypeError, r"outputs\['aux_outputs'\] must be a list of dicts, one for each layer, got dict"),
    ("denoising without its numbers", lambda: call("detr", outputs(dn_meta=None)), KeyError, "outputs of denoising queries need 'dn_meta'"),
    ("points of text", lambda: call("dfine", outputs("dfine", ref_points="text")), TypeError, "ref_points of outputs must be a torch.Tensor, got str"),
    ("points too few", lambda: call("dfine", outputs("dfine", ref_points=torch.zeros(2, 3, 4))), ValueError, r"ref_points of outputs must have shape \(2, 12, 4\), got \(2, 3, 4\)"),
    ("bins without their scale", lambda: call("dfine", outputs("dfine", up=None)), KeyError, "outputs with pred_corners must have 'up' as well"),
    ("loss without assignment", lambda: criterion("yolox").loss(*given("yolox")), ValueError, "loss needs the assignment of these targets"),
    ("loss with a wrong assignment", lambda: criterion("rtmdet").loss(*given("rtmdet"), assignment()), ValueError, r"batch shape \(3,\) of the assignment must end with \(2,\)"),
    ("loss with assignments in a list", lambda: criterion("detr").loss(*given("detr"), [assignment()]), TypeError, "assignments must be a dict, as assign gives it, got list"),
    ("count of text", lambda: criterion("yolox")(*given("yolox"), global_count="many"), TypeError, "global_count must be a number, got str"),
    ("negative count", lambda: criterion("yolox")(*given("yolox"), global_count=-3), ValueError, "global_count must not be negative, got -3"),
    ("count of another name", lambda: criterion("yolox")(*given("yolox"), global_count={"boxes": 3}), KeyError, "global_count has no 'num_positives'"),
]
