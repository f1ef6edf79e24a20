"""The criterion of YOLOv10 and YOLO26, of a pair of heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cases.common import CLASSES, STRIDES, call, given, whole
from cases.criteria.yolov8 import RATES, REG_MAX, of_head
from cases.criteria.yolov8 import predictions as of_one_head
from losses import YOLOv10Criterion
from losses.testing import CriterionCase
from matchers import Targets
from tests.mutation.planting import Mutant

PROVES = ("YOLOv10Criterion",)


def predictions(boxes: list[Tensor], seed: int, reg_max: int = REG_MAX) -> dict[str, list[Tensor]]:
    """Both heads, of other noise."""
    return {name: of_one_head(boxes, seed + k, reg_max) for k, name in enumerate(("one2many", "one2one"))}


def make(**options: Any) -> YOLOv10Criterion:
    return YOLOv10Criterion(CLASSES, **({"reg_max": REG_MAX, "strides": STRIDES} | options))


CASES: dict[str, CriterionCase] = {
    "yolov10": CriterionCase(make, predictions),
    "yolo26": CriterionCase(
        lambda **options: make(reg_max=1, **options), lambda boxes, seed: predictions(boxes, seed, 1)
    ),
}
VARIANTS = {"yolo26"}


def reference(criterion: YOLOv10Criterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    found = criterion.assign(predictions, targets)
    heads = zip(predictions.values(), found.target_index, found.quality, strict=True)
    many, one = (of_head(maps, targets, *of, reg_max=criterion.reg_max) for maps, *of in heads)
    return {name: criterion.one_to_many_rate * many[name] + criterion.one_to_one_rate * one[name] for name in many}


TAKES = ("by cost", "points")
DEFAULT = "TaskAligned"
CALLS = {
    "YOLOv10Criterion": whole(
        YOLOv10Criterion,
        CASES["yolov10"],
        num_classes=CLASSES,
        reg_max=REG_MAX,
        strides=STRIDES,
        times_batch_size=True,
        one_to_many_rate=0.8,
        one_to_one_rate=0.2,
        **RATES,
    ),
}
HEAD = given(CASES["yolov10"])[0]["one2many"]
# fmt: off
BAD_INPUTS = [
    ("one head of two", lambda: call(CASES["yolov10"], {"one2many": HEAD}), KeyError, "predictions must have 'one2one', got .'one2many'."),
    ("misspelt head", lambda: call(CASES["yolov10"], {"one2many": HEAD, "one2One": HEAD}), KeyError, "nobody reads 'one2One' of predictions: did you mean 'one2one'"),
    ("heads of other numbers of images", lambda: call(CASES["yolov10"], (HEAD, [each[:1] for each in HEAD])), ValueError, "both heads must agree in .B, P, C. and in their maps"),
    ("no heads", lambda: call(CASES["yolov10"], 3.0), TypeError, "predictions must be a dict with 'one2many' and 'one2one', or both heads; got float"),
    ("negative rate of a head", lambda: YOLOv10Criterion(CLASSES, one_to_one_rate=-1), ValueError, "one_to_one_rate must not be negative, got -1"),
    ("a second matcher that is none", lambda: YOLOv10Criterion(CLASSES, one_to_one_matcher=1), TypeError, "one_to_one_matcher must be a matcher, got int"),
]
# fmt: on
BUGS = [
    Mutant(
        "choice",
        "the one-to-one head at the rate of the other",
        "losses.criteria.dense.yolov10",
        "self.one_to_one_rate * second",
        "self.one_to_many_rate * second",
        "yolov10",
        "reference",
    )
]
