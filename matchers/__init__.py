"""Matchers: which prediction is responsible for which target. They turn predictions and targets into an assignment."""

from matchers.assignments.assignment import Assignment, Plan
from matchers.assignments.denoising import denoising_assignment, denoising_indices, union_of_matches
from matchers.assignments.denoising_layout import denoising_attention_mask
from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.assignments.sampling import RandomSampler, sample_assignment
from matchers.by_cost.closest import ClosestPrediction, ClosestTarget, Min
from matchers.by_cost.hungarian import Hungarian
from matchers.by_cost.softmin import SoftMin
from matchers.by_cost.weighted import WeightedSum
from matchers.costs.batched import batched_cost
from matchers.costs.boxes import giou_cost, iou_cost, l1_cost, points_in_boxes, points_near_centers
from matchers.costs.boxes3d import box3d_l1_cost
from matchers.costs.classes import (
    alignment,
    alignment_metric,
    binary_class_cost,
    focal_class_cost,
    focal_cost,
    gather_labels,
    softlabel_class_cost,
    softmax_class_cost,
)
from matchers.costs.keypoints import keypoint_costs, keypoint_l1_cost, oks_cost
from matchers.costs.multi_hot import sum_over_labels
from matchers.costs.terms import detr_costs, module_costs
from matchers.dense.atss import ATSS
from matchers.dense.dynamic_soft_label import DynamicSoftLabel
from matchers.dense.fcos import FCOS
from matchers.dense.max_iou import MaxIoU
from matchers.dense.rule import Rule
from matchers.dense.simota import SimOTA
from matchers.dense.task_aligned import TaskAligned
from matchers.geometry.boxes import (
    convert,
    cxcywh_to_xywh,
    cxcywh_to_xyxy,
    denormalize,
    normalize,
    xywh_to_cxcywh,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from matchers.geometry.default_boxes import ssd_default_boxes
from matchers.geometry.keypoints import COCO_SIGMAS, oks, pairwise_oks
from matchers.geometry.maps import feature_sizes, level_sizes
from matchers.geometry.overlaps import area, ciou, diou, giou, iof, iou, pairwise
from matchers.geometry.priors import anchors, grid_points
from matchers.pairs.keys import match_by_key
from matchers.pairs.pairs import Pairs
from matchers.pairs.predictions import Predictions
from matchers.pairs.problem import Problem
from matchers.plots.match import plot_cost, plot_match
from matchers.solver.linear_assignment import batched_linear_sum_assignment
from matchers.solver.one_to_one import one_to_one_assignment
from matchers.targets.coco import targets_from_coco
from matchers.targets.flat import targets_from_flat
from matchers.targets.lists import targets_from_dicts, targets_from_lists
from matchers.targets.padded import targets_from_padded, targets_from_padded_tensor
from matchers.targets.read import read_targets
from matchers.targets.targets import Targets
from matchers.targets.ultralytics import targets_from_ultralytics
from matchers.transport.pot import BalancedPOT, UnbalancedPOT
from matchers.transport.sinkhorn import BalancedSinkhorn, UnbalancedSinkhorn

__all__ = [
    "ATSS",
    "BACKGROUND",
    "COCO_SIGMAS",
    "FCOS",
    "IGNORED",
    "Assignment",
    "BalancedPOT",
    "BalancedSinkhorn",
    "ClosestPrediction",
    "ClosestTarget",
    "DynamicSoftLabel",
    "Hungarian",
    "MaxIoU",
    "Min",
    "Pairs",
    "Plan",
    "Predictions",
    "Problem",
    "RandomSampler",
    "Rule",
    "SimOTA",
    "SoftMin",
    "Targets",
    "TaskAligned",
    "UnbalancedPOT",
    "UnbalancedSinkhorn",
    "WeightedSum",
    "alignment",
    "alignment_metric",
    "anchors",
    "area",
    "batched_cost",
    "batched_linear_sum_assignment",
    "binary_class_cost",
    "box3d_l1_cost",
    "ciou",
    "convert",
    "cxcywh_to_xywh",
    "cxcywh_to_xyxy",
    "denoising_assignment",
    "denoising_attention_mask",
    "denoising_indices",
    "denormalize",
    "detr_costs",
    "diou",
    "feature_sizes",
    "focal_class_cost",
    "focal_cost",
    "gather_labels",
    "giou",
    "giou_cost",
    "grid_points",
    "iof",
    "iou",
    "iou_cost",
    "keypoint_costs",
    "keypoint_l1_cost",
    "l1_cost",
    "level_sizes",
    "match_by_key",
    "module_costs",
    "normalize",
    "oks",
    "oks_cost",
    "one_to_one_assignment",
    "pairwise",
    "pairwise_oks",
    "plot_cost",
    "plot_match",
    "points_in_boxes",
    "points_near_centers",
    "read_targets",
    "sample_assignment",
    "softlabel_class_cost",
    "softmax_class_cost",
    "ssd_default_boxes",
    "sum_over_labels",
    "targets_from_coco",
    "targets_from_dicts",
    "targets_from_flat",
    "targets_from_lists",
    "targets_from_padded",
    "targets_from_padded_tensor",
    "targets_from_ultralytics",
    "union_of_matches",
    "xywh_to_cxcywh",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
