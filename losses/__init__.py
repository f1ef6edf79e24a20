"""Detection losses on variable-size ground truth. Builds on ``ragged`` and ``matchers``."""

from losses.assigned import AssignedTargets
from losses.atss import ATSSCriterion
from losses.box_losses import (
    centerness,
    centerness_of_points,
    ciou_loss,
    diou_loss,
    giou_loss,
    iou_loss,
    l1_loss,
    smooth_l1_loss,
)
from losses.class_modules import NegativeProbLoss, SigmoidFocalCost, SigmoidFocalLoss
from losses.coders import (
    BoxCoder,
    CenterLogSizeCoder,
    DeltaXYWHCoder,
    DistanceCoder,
    SSDCoder,
    clip_to_canvas,
)
from losses.criterion import Criterion
from losses.decoder import DecoderLayers, DecoderOutputs
from losses.deim import DEIMCriterion
from losses.detection import DetectionLoss
from losses.detr import DetrCriterion
from losses.dfine import DFINECriterion
from losses.dfine_coders import BinTargets, bbox2distance, distance2bbox, weighting_function
from losses.distribution import (
    decoupled_distillation_loss,
    distribution_focal_loss,
    fine_grained_localization_loss,
)
from losses.distribution_coders import DecodedLevels, DistributionCoder, Vec2Box, integral
from losses.hard_mining import HardMiningCrossEntropyLoss
from losses.levels import DensePredictions, flatten_levels, image_size_of
from losses.mining import hard_negative_mining
from losses.modules import (
    BinaryCrossEntropy,
    CIoULoss,
    DIoULoss,
    FocalLoss,
    GIoULoss,
    IoULoss,
    L1Loss,
    MatchabilityAwareLoss,
    MultipleObjectiveLoss,
    QualityFocalLoss,
    VarifocalLoss,
)
from losses.normalizer import Normalizer
from losses.positives import Positives
from losses.rtmdet import RTMDetCriterion
from losses.sigmoid_losses import (
    binary_cross_entropy,
    matchability_aware_loss,
    quality_focal_loss,
    sigmoid_focal_cost,
    sigmoid_focal_loss,
    varifocal_loss,
)
from losses.softmax_losses import cross_entropy, negative_probability, softmax_focal_loss
from losses.ssd import SSDCriterion
from losses.ssd_flat import SSDLoss
from losses.terms import detached, total
from losses.yolov9 import YOLOv9Criterion
from losses.yolox import YOLOXCriterion, YOLOXLoss

__all__ = [
    "ATSSCriterion",
    "AssignedTargets",
    "BinTargets",
    "BinaryCrossEntropy",
    "BoxCoder",
    "CIoULoss",
    "CenterLogSizeCoder",
    "Criterion",
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
    "FocalLoss",
    "GIoULoss",
    "HardMiningCrossEntropyLoss",
    "IoULoss",
    "L1Loss",
    "MatchabilityAwareLoss",
    "MultipleObjectiveLoss",
    "NegativeProbLoss",
    "Normalizer",
    "Positives",
    "QualityFocalLoss",
    "RTMDetCriterion",
    "SSDCoder",
    "SSDCriterion",
    "SSDLoss",
    "SigmoidFocalCost",
    "SigmoidFocalLoss",
    "VarifocalLoss",
    "Vec2Box",
    "YOLOXCriterion",
    "YOLOXLoss",
    "YOLOv9Criterion",
    "bbox2distance",
    "binary_cross_entropy",
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
    "iou_loss",
    "l1_loss",
    "matchability_aware_loss",
    "negative_probability",
    "quality_focal_loss",
    "sigmoid_focal_cost",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_focal_loss",
    "total",
    "varifocal_loss",
    "weighting_function",
]
