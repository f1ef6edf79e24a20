"""Wrong arguments for ``losses``: what is called, which error it must raise, and what the message must say."""

from __future__ import annotations

import numpy as np
import torch
from cases import CRITERIA, EVERY_CRITERION, WITHOUT_LABELS
from cases.common import call, criterion_of, given, with_label
from cases.finding import listed
from reliability.arguments import boxes, keypoints, labels, posed, targets
from reliability.calls_losses import (
    BINS,
    BOXES,
    IN_BINS,
    LABELS,
    LOGITS,
    POINTS,
    levels,
    maps,
    of_public_class,
)

import losses
from losses import AssignedTargets, GIoULoss, Normalizer, Positives, Vec2Box
from matchers import Assignment

META = LABELS.to("meta")


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
    ("scores of each class", lambda: losses.binary_cross_entropy(LOGITS, LOGITS, scores=LOGITS), ValueError, r"scores must have the shape of the logits without their classes, \(3,\), got \(3, 5\)"),
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
    ("keypoints of boxes", lambda: losses.oks_loss(BOXES, posed()[:, 0], torch.ones(3)), ValueError, r"pred must have shape \(…, K, 2\), x and y, got \(3, 4\)"),
    ("keypoints with an area of integers", lambda: losses.OKSLoss(sigmas=[0.1] * 3)(keypoints(3, 2), posed(), torch.ones(3, 2).long()), TypeError, "area must have a floating dtype, got torch.int64"),
    ("sigmas of text", lambda: losses.OKSLoss(sigmas="coco"), TypeError, "sigmas must be a list of numbers, got str"),
    ("keypoints with none of targets", lambda: losses.keypoint_l1_loss(keypoints(3, 2), None), TypeError, "target must be a torch.Tensor, got NoneType"),
    ("3D box without yaw", lambda: losses.Box3DCoder().encode(torch.ones(3, 6)), ValueError, r"boxes must have shape \(…, 7\), or \(…, 9\) with a velocity, got \(3, 6\)"),
    ("codes of boxes", lambda: losses.Box3DCoder().decode(torch.ones(3, 9)), ValueError, r"codes must have shape \(…, 8\), or \(…, 10\) with a velocity, got \(3, 9\)"),
    ("integer 3D boxes", lambda: losses.Box3DCoder().encode(torch.ones(3, 9).long()), TypeError, "boxes must have a floating dtype, got torch.int64"),
    ("3D boxes of other length", lambda: losses.box3d_l1_loss(torch.ones(3, 10), torch.ones(3, 8)), ValueError, r"pred and target must have as many parameters D, got shapes \(3, 10\) and \(3, 8\)"),
    ("3D boxes that do not broadcast", lambda: losses.box3d_l1_loss(torch.ones(3, 8), torch.ones(2, 8)), ValueError, r"pred and target must have shapes that broadcast, got \(3, 8\) and \(2, 8\)"),
    ("code weights of a tensor", lambda: losses.Box3DL1Loss(code_weights=torch.ones(10)), TypeError, "code_weights must be a list of numbers, got Tensor"),
    ("centerness of boxes in integers", lambda: losses.centerness(BOXES.long()), TypeError, "distances must have a floating dtype"),
    ("centerness of other points", lambda: losses.centerness_of_points(POINTS[:2, :2], BOXES), ValueError, "must have shapes that broadcast"),
    ("points for a coder", lambda: losses.DeltaXYWHCoder().encode(POINTS[:, :2], BOXES), ValueError, r"priors must have shape \(…, 4\), got \(3, 2\)"),
    ("coder without strides", lambda: losses.DistanceCoder(scale_by_stride=True).decode(POINTS[:, :2], IN_BINS), ValueError, r"grid points \(…, 4\), x, y and strides, got \(3, 2\)"),
    ("coder with other priors", lambda: losses.SSDCoder().decode(BOXES[:2], BOXES), ValueError, r"priors and deltas must have shapes that broadcast, got \(2, 4\) and \(3, 4\)"),
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
    # --- criteria: their own, and what each of them must say
    *listed(CRITERIA, "BAD_INPUTS"),
    *[(f"unknown reduction of {name}", lambda case=case: case.make(reduction="avg"), ValueError, "reduction must be one of 'mean', 'sum', 'sample', 'none', got 'avg'") for name, case in EVERY_CRITERION.items()],
    *[(f"normalizer of {name}", lambda case=case: case.make(normalizer=3), TypeError, "normalizer must be a Normalizer, got int") for name, case in EVERY_CRITERION.items()],
    *[(f"label of no class, {name}", lambda case=case: call(case, of=with_label(case, 99)), ValueError, "label 99 at position 0 of sample 0 is out of range") for name, case in EVERY_CRITERION.items() if name not in WITHOUT_LABELS],
    *[(f"predictions of None, {name}", lambda case=case: criterion_of(case)(None, given(case)[1]), TypeError, "got NoneType") for name, case in EVERY_CRITERION.items() if of_public_class(name)],
    *[(f"targets of None, {name}", lambda case=case: criterion_of(case)(given(case)[0], None), TypeError, "targets must be Targets, .*got NoneType") for name, case in EVERY_CRITERION.items()],
    *[(f"fewer images, {name}", lambda case=case: call(case, of=case.targets([2], 0)), ValueError, r"batch|images|\(1,\)") for name, case in EVERY_CRITERION.items()],
]
