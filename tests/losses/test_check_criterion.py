"""``check_criterion`` accepts criteria of ours and of users, and says what is wrong with one that is not right."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from versions import needs_torch_for

from losses import DetectionLoss, DetrCriterion, GIoULoss, YOLOXCriterion, l1_loss
from losses.testing import CRITERION_PROPERTIES, CriterionCase, applicable, check_criterion, queries
from matchers import Hungarian, Targets, detr_costs
from ragged import RaggedBatch, batched_indexing_access, sum_over_targets
from ragged.testing import PropertyViolation

WEIGHTS = {"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
QUERIES: dict[str, Any] = {"box_format": "cxcywh", "normalized": True}


def weights_of(targets: Targets) -> RaggedBatch:
    if targets.weights is not None:
        return targets.weights
    return targets.labels.apply(lambda labels: torch.ones_like(labels, dtype=torch.float32))


class BoxLoss(nn.Module):
    """A user's own criterion, right: the mean distance of each target to its prediction, averaged over images."""

    def __init__(self) -> None:
        super().__init__()
        self.matcher = Hungarian(detr_costs())

    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        pairs = self.matcher(predictions, targets).pairs()
        boxes = batched_indexing_access(predictions["pred_boxes"].float(), pairs[1])
        wanted = batched_indexing_access(targets.boxes.with_padded_set_to(0), pairs[0])
        weights = batched_indexing_access(weights_of(targets), pairs[0])
        distance = self.distance(boxes, wanted)
        sums = sum_over_targets(distance * weights) / sum_over_targets(weights).clamp(min=1)
        of_images = sums.mean()
        return {"loss_bbox": of_images + 0 * predictions["pred_logits"].float().sum()}

    def distance(self, boxes: Any, wanted: Any) -> Any:
        return boxes.apply(lambda tensor: l1_loss(tensor, wanted.tensor).sum(-1))


class Unmasked(BoxLoss):
    """Means over all slots."""

    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        pairs = self.matcher(predictions, targets).pairs()
        boxes = batched_indexing_access(predictions["pred_boxes"], pairs[1])
        wanted = batched_indexing_access(targets.boxes, pairs[0])
        loss = (boxes.tensor - wanted.tensor).abs().mean()
        return {"loss_bbox": loss + 0 * predictions["pred_logits"].sum()}


class Weighted(BoxLoss):
    """Multiplies with the mask, so that NaN in the filler stays NaN."""

    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        boxes = targets.boxes.tensor * targets.mask.unsqueeze(-1)
        total = predictions["pred_boxes"].float().sum() * boxes.sum()
        return {"loss_bbox": total + 0 * predictions["pred_logits"].float().sum()}


class Disconnected(BoxLoss):
    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        return {"loss_bbox": predictions["pred_boxes"].float().sum()}


class MeanOfNothing(BoxLoss):
    """Divides by the number of targets."""

    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        count = targets.num_targets.sum()
        return {name: predictions[name].float().sum() / count for name in predictions}


class FirstImage(BoxLoss):
    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        return {name: value[0].float().sum() for name, value in predictions.items()}


class InHalf(BoxLoss):
    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        return {name: value.square().sum().float() for name, value in predictions.items()}


class NoTerms(BoxLoss):
    """Leaves terms out where there is nothing to say."""

    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        terms = {name: value.float().sum() for name, value in predictions.items()}
        return terms if targets.max_num_targets else {"pred_logits": sum(terms.values())}


class Looks(BoxLoss):
    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        scale = float(targets.num_targets.sum().clamp(min=1).item())
        return {name: value.sum() / scale for name, value in predictions.items() if value.float().sum() is not None}


class OfTheBatch(DetrCriterion):
    """Says "sample", and divides by the count of the batch."""

    def loss(self, *arguments: Any, **options: Any) -> Any:
        terms = super().loss(*arguments, **options)
        return (
            {name: value / (1 + value.sum()) for name, value in terms.items()} if self.reduction == "sample" else terms
        )


class Mutates(YOLOXCriterion):
    """Takes two steps that are not the call."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return {name: value * 2 for name, value in super().forward(*arguments, **options).items()}


@needs_torch_for("RaggedBatch.apply of a function made in the graph")
def test_a_right_criterion_is_accepted() -> None:
    names = check_criterion(BoxLoss(), **QUERIES)
    assert names == tuple(applicable(CriterionCase(BoxLoss, partial(queries, **QUERIES), reductions=(), **QUERIES)))
    assert "padding" in names and "compilation" in names and "images alone" not in names
    assert names.not_checked["images alone"] == "there is no attribute reduction"


def test_everything_is_checked_of_ours() -> None:
    names = check_criterion(DetrCriterion(WEIGHTS, num_classes=5), **QUERIES)
    assert names == tuple(name for name in CRITERION_PROPERTIES if name not in ("large images", "layers"))
    assert names.not_checked.keys() == {"divides by", "reference", "large images", "layers"}


def test_another_form_of_result() -> None:
    loss = DetectionLoss(
        nn.CrossEntropyLoss(reduction="none"), GIoULoss(), Hungarian(loc_match_module=GIoULoss()), "last"
    )

    def predict(boxes: list[Tensor], seed: int) -> dict[str, Tensor]:
        return queries(boxes, seed, num_classes=6)

    names = check_criterion(loss, predict, as_terms=lambda value: {"loss": value}, without=["compilation"])
    assert CRITERION_PROPERTIES.keys() - names == {"compilation", "scale", "layers"}
    assert names.not_checked["scale"] == "lengths in pixels grow with the image"


BROKEN = {
    "unmasked": (Unmasked, "loss_bbox.*targets padded by 3 slots"),
    "weighted": (Weighted, 'loss_bbox at .* is nan.*padded by 3 slots of "nan"'),
    "disconnected": (Disconnected, "prediction 0 is not in the graph"),
    "mean of nothing": (MeanOfNothing, r"pred_logits is (nan|-?inf).* with \[0\] objects"),
    "first image": (FirstImage, "images in the order"),
    "in half": (InHalf, "predictions, then float32|gradient not finite|not finite"),
    "no terms": (NoTerms, r"has terms \['pred_logits'\] with \[0\] objects"),
    "looks": (Looks, "depends on data"),
}
# What they are broken for; the first that is found may be another.
SHOWN_BY = {"in half": {"half precision"}, "looks": {"synchronisation"}}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_criterion_is_found(name: str) -> None:
    kind, message = BROKEN[name]
    others = CRITERION_PROPERTIES.keys() - SHOWN_BY.get(name, CRITERION_PROPERTIES.keys())
    with pytest.raises(PropertyViolation, match=message) as caught:
        check_criterion(kind(), **QUERIES, without={"compilation", *others})
    assert "Reproduce with" in str(caught.value) and "targets = Targets(" in str(caught.value)


def test_a_sum_that_is_not_of_the_sample() -> None:
    with pytest.raises(PropertyViolation, match="image 0 in a batch, then alone"):
        check_criterion(OfTheBatch(WEIGHTS, num_classes=5), **QUERIES, without=["compilation"])


def test_two_steps_that_are_not_the_call() -> None:
    from cases.criteria.yolox import CASES

    case = CASES["yolox"]
    broken = CriterionCase(lambda **options: Mutates(5, strides=(8, 16), **options), case.predict)
    with pytest.raises(PropertyViolation, match="two steps, then one"):
        check_criterion(broken, without=["compilation", "synchronisation", "any number of objects"])


def test_a_graph_break_is_found() -> None:
    class Breaks(BoxLoss):
        def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
            torch._dynamo.graph_break()
            return super().forward(predictions, targets)

    others = [name for name in CRITERION_PROPERTIES if name != "compilation"]
    with pytest.raises(PropertyViolation, match="cannot compile it as one graph"):
        check_criterion(Breaks(), **QUERIES, without=others)


def test_unknown_properties_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown property 'speed'; there are result, repeatable"):
        check_criterion(BoxLoss(), without=["speed"])
