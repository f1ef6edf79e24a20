"""Detection losses on variable-size ground truth. Builds on ``ragged`` and ``matchers``."""

from losses.coders.boxes import BoxCoder, DeltaXYWHCoder, SSDCoder, clip_to_canvas
from losses.coders.boxes3d import Box3DCoder
from losses.coders.dfine_bins import BinTargets, bbox2distance, distance2bbox, weighting_function
from losses.coders.distribution import DecodedLevels, DistributionCoder, Vec2Box, integral
from losses.coders.points import CenterLogSizeCoder, DistanceCoder
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.normalizer import Normalizer
from losses.core.positives import Positives
from losses.core.terms import detached, total
from losses.criteria.dense.atss import ATSSCriterion
from losses.criteria.dense.fcos import FCOSCriterion
from losses.criteria.dense.retinanet import RetinaNetCriterion
from losses.criteria.dense.rtmdet import RTMDetCriterion
from losses.criteria.dense.ssd import SSDCriterion
from losses.criteria.dense.ssd_flat import SSDLoss
from losses.criteria.dense.yolov8 import YOLOv8Criterion
from losses.criteria.dense.yolov9 import YOLOv9Criterion
from losses.criteria.dense.yolov10 import YOLOv10Criterion
from losses.criteria.dense.yolox import YOLOXCriterion, YOLOXLoss
from losses.criteria.detection import DetectionLoss
from losses.criteria.query.deim import DEIMCriterion
from losses.criteria.query.detr import DetrCriterion
from losses.criteria.query.dfine import DFINECriterion
from losses.criteria.query.presets import query_criterion
from losses.criteria.two_stage.roi import RoICriterion
from losses.criteria.two_stage.rpn import RPNCriterion
from losses.drop_in.set_criterion import SetCriterion
from losses.drop_in.torchvision import TorchvisionLoss
from losses.drop_in.transformers import TransformersLoss
from losses.drop_in.ultralytics import UltralyticsLoss
from losses.functional.boxes import (
    centerness,
    centerness_of_points,
    ciou_loss,
    diou_loss,
    giou_loss,
    iou_loss,
    l1_loss,
    smooth_l1_loss,
)
from losses.functional.boxes3d import box3d_l1_loss
from losses.functional.distribution import (
    decoupled_distillation_loss,
    distribution_focal_loss,
    fine_grained_localization_loss,
)
from losses.functional.hard_mining import HardMiningCrossEntropyLoss
from losses.functional.iou_aware import iou_aware_binary_cross_entropy
from losses.functional.keypoints import keypoint_l1_loss, oks_loss
from losses.functional.mining import hard_negative_mining
from losses.functional.sigmoid import (
    binary_cross_entropy,
    matchability_aware_loss,
    quality_focal_loss,
    sigmoid_focal_cost,
    sigmoid_focal_loss,
    varifocal_loss,
)
from losses.functional.softmax import cross_entropy, negative_probability, softmax_focal_loss
from losses.heads.decoder import DecoderLayers, DecoderOutputs
from losses.heads.levels import DensePredictions, flatten_levels, image_size_of
from losses.modules.base import LossModule
from losses.modules.boxes import Box3DL1Loss, CIoULoss, DIoULoss, GIoULoss, IoULoss, L1Loss
from losses.modules.classes import (
    BinaryCrossEntropy,
    FocalLoss,
    IoUAwareBinaryCrossEntropy,
    MatchabilityAwareLoss,
    QualityFocalLoss,
    VarifocalLoss,
)
from losses.modules.combined import MultipleObjectiveLoss
from losses.modules.keypoints import OKSLoss
from losses.modules.per_prediction import CrossEntropy, NegativeProbLoss, SigmoidFocalCost, SigmoidFocalLoss
from losses.modules.weighted import WeightedClasses

__all__ = [
    "ATSSCriterion",
    "AssignedTargets",
    "BinTargets",
    "BinaryCrossEntropy",
    "Box3DCoder",
    "Box3DL1Loss",
    "BoxCoder",
    "CIoULoss",
    "CenterLogSizeCoder",
    "Criterion",
    "CrossEntropy",
    "DEIMCriterion",
    "DFINECriterion",
    "DIoULoss",
    "DecodedLevels",
    "DecoderLayers",
    "DecoderOutputs",
    "DeltaXYWHCoder",
    "DensePredictions",
    "DetectionLoss",
    "DetrCriterion",
    "DistanceCoder",
    "DistributionCoder",
    "FCOSCriterion",
    "FocalLoss",
    "GIoULoss",
    "HardMiningCrossEntropyLoss",
    "IoUAwareBinaryCrossEntropy",
    "IoULoss",
    "L1Loss",
    "LossModule",
    "MatchabilityAwareLoss",
    "MultipleObjectiveLoss",
    "NegativeProbLoss",
    "Normalizer",
    "OKSLoss",
    "Positives",
    "QualityFocalLoss",
    "RPNCriterion",
    "RTMDetCriterion",
    "RetinaNetCriterion",
    "RoICriterion",
    "SSDCoder",
    "SSDCriterion",
    "SSDLoss",
    "SetCriterion",
    "SigmoidFocalCost",
    "SigmoidFocalLoss",
    "TorchvisionLoss",
    "TransformersLoss",
    "UltralyticsLoss",
    "VarifocalLoss",
    "Vec2Box",
    "WeightedClasses",
    "YOLOXCriterion",
    "YOLOXLoss",
    "YOLOv8Criterion",
    "YOLOv9Criterion",
    "YOLOv10Criterion",
    "bbox2distance",
    "binary_cross_entropy",
    "box3d_l1_loss",
    "centerness",
    "centerness_of_points",
    "ciou_loss",
    "clip_to_canvas",
    "cross_entropy",
    "decoupled_distillation_loss",
    "detached",
    "diou_loss",
    "distance2bbox",
    "distribution_focal_loss",
    "fine_grained_localization_loss",
    "flatten_levels",
    "giou_loss",
    "hard_negative_mining",
    "image_size_of",
    "integral",
    "iou_aware_binary_cross_entropy",
    "iou_loss",
    "keypoint_l1_loss",
    "l1_loss",
    "matchability_aware_loss",
    "negative_probability",
    "oks_loss",
    "quality_focal_loss",
    "query_criterion",
    "sigmoid_focal_cost",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_focal_loss",
    "total",
    "varifocal_loss",
    "weighting_function",
]
