"""A criterion of one's own reads fields of targets by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from losses import AssignedTargets, Criterion, l1_loss, sigmoid_focal_loss
from losses.core import positives
from losses.core.terms import Term
from matchers import Hungarian, Predictions, Targets, batched_cost, focal_class_cost

FIELDS = ("boxes3d", "track_id")


def cost(gt: Any, predicted: Any) -> Tensor:
    return focal_class_cost(predicted["logits"], gt["labels"]) + torch.cdist(gt["boxes3d"], predicted["boxes3d"], p=1)


class Boxes3D(Criterion):
    """Focal loss, and L1 of ten parameters."""

    def read(self, predictions: Any) -> Predictions:
        return Predictions.of(predictions, fields=() if isinstance(predictions, Predictions) else ("boxes3d",))

    def read_targets(self, targets: Any, predictions: Predictions) -> Targets:
        return targets if isinstance(targets, Targets) else Targets.of(targets, fields=FIELDS)

    def match(self, predictions: Predictions, targets: Targets) -> Any:
        return self.call_matcher(predictions, targets)

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        boxes = l1_loss(rows.of_predictions(predictions.fields["boxes3d"]), assigned.fields["boxes3d"]).sum(-1)
        scores = sigmoid_focal_loss(predictions.logits, assigned.labels).sum(-1)
        return {
            "loss_cls": Term(assigned.counted(scores), count),
            "loss_bbox": Term(assigned.counted_rows(boxes), count, rows),
        }


def scene(sizes: list[int]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    outputs = {
        "pred_logits": torch.randn(len(sizes), 8, 3, generator=generator).requires_grad_(),
        "boxes3d": torch.rand(len(sizes), 8, 10, generator=generator).requires_grad_(),
    }
    truth = [
        {
            "boxes3d": torch.rand(size, 10, generator=generator),
            "labels": torch.randint(3, (size,), generator=generator),
            "track_id": torch.arange(size),
        }
        for size in sizes
    ]
    return outputs, truth


@pytest.mark.parametrize("is_readable", [True, False])
@pytest.mark.parametrize("sizes", [[3, 0, 5, 1], [0, 0], [9, 1]])
def test_terms_of_fields(monkeypatch: Any, sizes: list[int], is_readable: bool) -> None:
    monkeypatch.setattr(positives, "values_are_readable", lambda _: is_readable)
    outputs, truth = scene(sizes)
    criterion = Boxes3D(3, matcher=Hungarian(batched_cost(cost)))
    losses = criterion(outputs, truth)
    index = criterion.assign(outputs, truth).target_index
    boxes, focal, count = 0, 0, max(int((index >= 0).sum()), 1)
    for sample, own in enumerate(truth):
        labels = torch.full((8,), -1)
        for prediction, target in enumerate(index[sample].tolist()):
            if target >= 0:
                labels[prediction] = own["labels"][target]
                boxes = boxes + (outputs["boxes3d"][sample, prediction] - own["boxes3d"][target]).abs().sum()
        focal = focal + sigmoid_focal_loss(outputs["pred_logits"][sample], labels).sum()
    torch.testing.assert_close(losses["loss_cls"], focal / count)
    torch.testing.assert_close(losses["loss_bbox"], torch.as_tensor(boxes / count))
    sum(losses.values()).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in outputs.values())


def test_fields_are_looked_up_for_positives() -> None:
    outputs, truth = scene([2, 0])
    criterion = Boxes3D(3, matcher=Hungarian(batched_cost(cost)))
    targets = Targets.of(truth, fields=FIELDS)
    assigned = AssignedTargets.of(targets, criterion.assign(outputs, truth))
    assert assigned.boxes is None
    assert sorted(assigned.fields["track_id"].tolist()) == [0, 1]
    assert torch.equal(truth[0]["boxes3d"][assigned.fields["track_id"]], assigned.fields["boxes3d"])


def test_targets_without_labels_are_of_class_0() -> None:
    outputs, truth = scene([2, 0])
    targets = Targets.of([{"boxes3d": each["boxes3d"]} for each in truth], fields=("boxes3d",))
    matcher = Hungarian(batched_cost(lambda gt, predicted: torch.cdist(gt["boxes3d"], predicted["boxes3d"])))
    match = matcher(Predictions(fields={"boxes3d": outputs["boxes3d"]}), targets)
    assert torch.equal(AssignedTargets.of(targets, match).labels, match.target_index.clamp(-1, 0))


class BoxesAsSaid(Criterion):
    """Keeps the boxes that its terms were given."""

    CLASSES_OF_PREDICTIONS = True
    given: Any = None

    def match(self, predictions: Any, targets: Targets) -> Any:
        return self.call_matcher(predictions, targets)

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        self.given = assigned.boxes
        values = predictions.boxes.sum(-1) * assigned.is_positive
        return {"loss": Term(values, {"num_positives": assigned.num_positives()})}


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ({}, [8.0, 16.0, 24.0, 48.0]),
        ({"box_format": "cxcywh", "normalized": True}, [0.25, 0.5, 0.25, 0.5]),
        ({"box_format": "xywh", "normalized": None}, [0.125, 0.25, 0.25, 0.5]),
    ],
)
def test_boxes_of_terms_are_as_the_criterion_says(boxes: dict[str, Any], expected: list[float]) -> None:
    own = Targets.of(
        [{"boxes": torch.tensor([[0.25, 0.5, 0.25, 0.5]]), "kind": torch.tensor([1])}],
        fields=("kind",),
        box_format="cxcywh",
        normalized=True,
        canvas_size=(64, 64),
    )
    cls = type("Said", (BoxesAsSaid,), {"BOXES": boxes} if boxes else {})
    criterion = cls(None, matcher=Hungarian(lambda pairs: (pairs.gt.x1 - pairs.predicted.x1).abs()))
    criterion(Predictions(boxes=torch.rand(1, 3, 4)), own)
    torch.testing.assert_close(criterion.given, torch.tensor([expected]))


def test_without_labels_a_criterion_of_classes_is_an_error() -> None:
    outputs, truth = scene([1, 2])
    without = [{name: value for name, value in image.items() if name != "labels"} for image in truth]
    matcher = Hungarian(batched_cost(lambda gt, own: torch.cdist(gt["boxes3d"], own["boxes3d"])))
    with pytest.raises(ValueError, match="needs 'labels' of the targets"):
        Boxes3D(3, matcher=matcher)(outputs, without)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_costs_of_images_are_given_one_precision(dtype: torch.dtype) -> None:
    seen = []

    def own(gt: Any, predicted: Any) -> Tensor:
        seen.extend(value.dtype for value in (*gt.values(), *predicted.values()) if value.is_floating_point())
        assert gt["track_id"].dtype == torch.int64
        return cost(gt, predicted)

    outputs, truth = scene([3, 0, 2])
    targets = Targets.of(truth, fields=FIELDS)
    predictions = Predictions.of(outputs, fields=("boxes3d",)).to(dtype)
    found = Hungarian(batched_cost(own))(predictions, targets)
    assert set(seen) == {torch.float64 if dtype == torch.float64 else torch.float32}
    wide = Predictions(predictions.logits.float(), fields={"boxes3d": predictions.fields["boxes3d"].float()})
    assert torch.equal(found.target_index, Hungarian(batched_cost(cost))(wide, targets).target_index)
