"""The detection loss, with a hard assignment and with a soft plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import reference.detection_loss as loops
import torch
from torch import Tensor, nn

from cases.common import CLASSES, call, given, whole, with_label
from losses import (
    DeltaXYWHCoder,
    DetectionLoss,
    GIoULoss,
    MultipleObjectiveLoss,
    NegativeProbLoss,
    SigmoidFocalCost,
    SigmoidFocalLoss,
)
from losses.testing import CriterionCase, near
from matchers import Assignment, BalancedSinkhorn, Hungarian, Plan, Targets
from matchers.testing import make_scene
from ragged import RaggedBatch
from tests.mutation.planting import Case, Mutant

PROVES = ("DetectionLoss",)
PREDICTIONS = 12


def predictions(boxes: list[Tensor], seed: int, *, classes: int = CLASSES + 1) -> dict[str, Tensor]:
    """Logits and boxes of images with these target boxes."""
    generator = torch.Generator().manual_seed(seed + 2)
    predicted = near(boxes, PREDICTIONS, generator)
    return {
        "pred_logits": torch.randn(len(boxes), PREDICTIONS, classes, generator=generator),
        "pred_boxes": predicted,
    }


def hard(matcher: Any = None, **options: Any) -> DetectionLoss:
    boxes = MultipleObjectiveLoss([nn.L1Loss(reduction="none"), GIoULoss()], [0.05, 2.0])
    own = Hungarian(cls_match_module=NegativeProbLoss(), loc_match_module=boxes)
    return DetectionLoss(nn.CrossEntropyLoss(reduction="none"), boxes, matcher or own, "last", **options)


def soft(matcher: Any = None, **options: Any) -> DetectionLoss:
    own = BalancedSinkhorn(
        cls_match_module=SigmoidFocalCost(alpha=0.25), loc_match_module=GIoULoss(), background_cost=0.8, num_iter=10
    )
    return DetectionLoss(SigmoidFocalLoss(alpha=0.25), GIoULoss(), matcher or own, "none", True, 2.0, **options)


def _as_terms(result: Any) -> dict[str, Any]:
    return {"loss": result}


CASES: dict[str, CriterionCase] = {
    "detection": CriterionCase(hard, predictions, as_terms=_as_terms),
    "detection soft": CriterionCase(
        soft,
        lambda boxes, seed: predictions(boxes, seed, classes=CLASSES),
        as_terms=_as_terms,
        without=dict.fromkeys(("weights", "negatives"), "there are as many hard negatives as positives allow"),
    ),
}
VARIANTS = {"detection"}
# Hard negatives of a soft plan need a sum of floats up to each place.
RAISES_ON_CUDA = {"detection soft"}


def images_of(inputs: dict[str, Tensor], targets: Targets, match: Assignment | Plan) -> list[loops.MatchedImage]:
    """Every image, without padding."""
    plan = match.plan() if isinstance(match, Assignment) else match
    images = []
    for image, size in enumerate(targets.num_targets.tolist()):
        ignored = targets.ignore.tensor[image, :size] if targets.ignore is not None else torch.zeros(size).bool()
        weights = torch.ones(size) if targets.weights is None else targets.weights.tensor[image, :size]
        shares = plan.weights.tensor[image, :, :size].masked_fill(ignored, 0)
        images.append(
            loops.MatchedImage(
                inputs["pred_logits"][image],
                inputs["pred_boxes"][image],
                targets.boxes.tensor[image, :size],
                targets.labels.tensor[image, :size].tolist(),
                weights.tolist(),
                shares.double().tolist(),
                plan.background[image].double().tolist(),
            )
        )
    return images


def reference(criterion: DetectionLoss, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    images = images_of(predictions, targets, criterion.assign(predictions, targets))
    if criterion.use_hard_negative_mining:
        found = loops.detection_loss(images, loops.focal(0.25), loops.giou, background=None, ratio=2.0)
    else:
        boxes = lambda box, target: 0.05 * loops.l1(box, target) + 2 * loops.giou(box, target)  # noqa: E731
        found = loops.detection_loss(images, loops.cross_entropy(), boxes, background=CLASSES)
    return {"loss": found["mean"]}


TAKES = ("by cost", "MaxIoU", "soft plan")
DEFAULT = None
CALLS = {
    "DetectionLoss": whole(
        DetectionLoss,
        CASES["detection"],
        cls_loss_module=nn.CrossEntropyLoss(reduction="none"),
        loc_loss_module=GIoULoss(),
        matching_method=Hungarian(),
        bg_class_position="last",
        use_hard_negative_mining=True,
        neg_to_pos_ratio=3.0,
        size_average=None,
        reduce=None,
        bbox_coder=None,
        negatives_without_positives=1.0,
    )
}
# fmt: off
BAD_INPUTS = [
    ("unknown place of the background", lambda: DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIoULoss(), Hungarian(), "middle"), ValueError, "bg_class_position must be one of .*got 'middle'"),
    ("a coder without anchors", lambda: hard(bbox_coder=DeltaXYWHCoder())(*given(CASES["detection"])), ValueError, "DetectionLoss with a bbox_coder needs anchors"),
    ("a coder that is none", lambda: hard(bbox_coder=3), TypeError, "bbox_coder must be a coder, with encode and decode, got int"),
    ("background for a label", lambda: call(CASES["detection"], of=with_label(CASES["detection"], CLASSES)), ValueError, "label 5|background"),
]
# fmt: on


def of_given_plans(code: Callable[[str], Any]) -> Callable[..., Any]:
    """Logits, boxes, targets, weights and background to a value for each image."""
    loss = code(_LOSS).DetectionLoss(
        torch.nn.CrossEntropyLoss(reduction="none"),
        GIoULoss(reduction="none"),
        lambda *_: None,
        bg_class_position="last",
        reduction="sample",
    )

    def op(logits: Tensor, boxes: Tensor, targets: Targets, weights: RaggedBatch, background: Tensor) -> Any:
        plan = Plan(weights, background, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
        return loss.loss({"pred_logits": logits, "pred_boxes": boxes}, targets, plan)

    return op


def images() -> list[tuple[Any, ...]]:
    scene = make_scene([3, 0, 1, 2], 6, seed=3, slack=1)
    weights = torch.rand(4, 6, scene.targets.max_num_targets) + 0.1
    mass = scene.targets.labels.create_with_sample_sizes_like_self(weights, 2)
    logits = torch.randn(4, 6, 6)  # one class more than there are labels
    return [(logits, scene.predictions.boxes, scene.targets, mass, torch.rand(4, 6))]


_LOSS, _TERMS = "losses.criteria.detection", "losses.criteria.detection_terms"
OPERATIONS = {
    # What targets and plans hold is a constant: it has no gradient to be checked.
    "detection loss": Case(of_given_plans, images, without=frozenset({"gradients"}))
}
BUGS = [
    Mutant(
        "batch-global",
        "each image divided by the count of all",
        "losses.core.terms",
        'if reduction == "mean" else counts',
        "",
        "detection loss",
        "independence",
        (_TERMS, "losses.core.criterion", _LOSS),
    ),
    Mutant(
        "batch-global",
        "mass of all images in the divisor",
        _TERMS,
        "self._num_classified(counted.sum(-1).view(shape[:-1]), plan",
        "self._num_classified(counted.sum().expand(shape[:-1]), plan",
        "detection loss",
        "independence",
        (_LOSS,),
    ),
    Mutant(
        "filler read",
        "mass of padding",
        _TERMS,
        "plan.weights.tensor.detach().flatten(0, -3).masked_fill(without.unsqueeze(1), 0)",
        "plan.weights.tensor.detach().flatten(0, -3)",
        "detection loss",
        "filler",
        (_LOSS,),
    ),
]
