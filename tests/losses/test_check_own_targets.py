"""``check_matcher`` and ``check_criterion`` for targets that are no boxes: keypoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from losses import AssignedTargets, Criterion, l1_loss, sigmoid_focal_loss
from losses.core.terms import Term
from losses.testing import CRITERION_PROPERTIES, check_criterion
from matchers import Hungarian, Predictions, Targets, batched_cost, focal_class_cost
from matchers.testing import MATCHER_PROPERTIES, check_matcher, scenes_of
from ragged.testing import PropertyViolation

TRACED = ("compilation",)
OF_BOXES = ("formats", "crowd", "axes", "mirror", "shift", "scale", "region", "large images")
POINTS = 5


def make_targets(sizes: list[int], generator: torch.Generator) -> Targets:
    images = [
        {
            "labels": torch.randint(3, (size,), generator=generator),
            "keypoints": torch.rand(size, POINTS, 2, generator=generator),
            "visible": torch.rand(size, POINTS, generator=generator) < 0.7,
        }
        for size in sizes
    ]
    return Targets.of(images, fields=("keypoints", "visible"))


def predict(targets: Targets, seed: int) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    shape = (*targets.batch_shape, 8)
    points = torch.rand(*shape, POINTS, 2, generator=generator)
    own = targets.fields["keypoints"].with_padded_set_to(0.5).tensor[..., :4, :, :]
    points[..., : own.shape[-3], :, :] = own + torch.randn(own.shape, generator=generator) / 50
    return Predictions(torch.randn(*shape, 3, generator=generator), fields={"keypoints": points})


def cost(gt: Any, predicted: Any) -> Tensor:
    distance = torch.cdist(gt["keypoints"].flatten(-2).float(), predicted["keypoints"].flatten(-2).float(), p=1)
    return focal_class_cost(predicted["logits"], gt["labels"]) + distance


class Keypoints(Criterion):
    """Focal loss, and L1 of the keypoints that are visible."""

    def match(self, predictions: Predictions, targets: Targets) -> Any:
        return self.call_matcher(predictions, targets)

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        distance = l1_loss(rows.of_predictions(predictions.fields["keypoints"]), assigned.fields["keypoints"])
        distance = (distance.sum(-1) * assigned.fields["visible"]).sum(-1)
        classes = sigmoid_focal_loss(predictions.logits, assigned.labels).sum(-1)
        return {
            "loss_cls": Term(assigned.counted(classes), count),
            "loss_keypoints": Term(assigned.counted_rows(distance), count, rows),
        }


class Unmasked(Keypoints):
    """Divides by the width of the padding."""

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        terms = super().terms(predictions, assigned)
        width = torch.full_like(assigned.num_positives(), float(self.width))
        return terms | {"loss_cls": Term(terms["loss_cls"].values, {"width": width})}

    def match(self, predictions: Predictions, targets: Targets) -> Any:
        self.width = targets.max_num_targets + 1
        return super().match(predictions, targets)


def test_a_matcher_of_keypoints_is_checked() -> None:
    names = check_matcher(Hungarian(batched_cost(cost)), make_targets=make_targets, predict=predict, without=TRACED)
    assert names == tuple(name for name in MATCHER_PROPERTIES if name not in (*TRACED, *OF_BOXES))
    assert names.not_checked["axes"] == "targets have no boxes"


def test_a_matcher_that_reads_filler_is_found() -> None:
    def spoilt(predictions: Predictions, targets: Targets) -> Any:
        points = targets.fields["keypoints"].tensor.flatten(-2).nan_to_num(9.0, 9.0, -9.0)
        shift = points.sum((-1, -2)).sign().view(-1, *(1,) * 3)
        moved = predictions.fields["keypoints"] * shift
        return Hungarian(batched_cost(cost))(Predictions(predictions.logits, fields={"keypoints": moved}), targets)

    with pytest.raises(PropertyViolation, match=r"keypoints"):
        check_matcher(spoilt, make_targets=make_targets, predict=predict, without=TRACED)


def test_a_criterion_of_keypoints_is_checked() -> None:
    criterion = Keypoints(3, matcher=Hungarian(batched_cost(cost)))
    names = check_criterion(criterion, predict, make_targets=make_targets, without=TRACED)
    # It has three classes, of five that are usual.
    others = (*TRACED, *OF_BOXES, "prediction order", "negatives", "classes", "layers")
    assert names == tuple(name for name in CRITERION_PROPERTIES if name not in others)


def test_a_criterion_that_looks_at_the_padding_is_found() -> None:
    criterion = Unmasked(3, matcher=Hungarian(batched_cost(cost)))
    with pytest.raises(PropertyViolation, match="loss_cls"):
        check_criterion(criterion, predict, make_targets=make_targets, without=TRACED)


def test_scenes_hold_fields() -> None:
    scenes = scenes_of(make_targets, predict)
    for name, scene in scenes.items():
        assert set(scene.targets.fields) == {"keypoints", "visible"}, name
        taken = scene.take([0])
        assert taken.targets.fields["keypoints"].batch_shape == (1,)
        assert taken.predictions.fields["keypoints"].shape[-4] == 1
        assert scene.cast(torch.float64).predictions.fields["keypoints"].dtype == torch.float64
    padding = ~scenes["padded"].targets.mask
    assert bool(scenes["padded"].targets.fields["keypoints"].tensor[padding].isnan().all())
    assert bool(scenes["ignored"].targets.ignored.any())


def test_wrong_functions_are_named() -> None:
    criterion, matcher = Keypoints(3, matcher=Hungarian(batched_cost(cost))), Hungarian(batched_cost(cost))
    with pytest.raises(ValueError, match=r"give predict\(targets, seed\) as well"):
        check_criterion(criterion, make_targets=make_targets)
    with pytest.raises(ValueError, match="make_targets and predict go together"):
        check_matcher(matcher, make_targets=make_targets)
    with pytest.raises(ValueError, match=r"make_targets\(\[3, 0, 1, 6\], generator\) must give so many targets"):
        check_criterion(criterion, predict, make_targets=lambda sizes, generator: make_targets(sizes[1:], generator))
    with pytest.raises(TypeError, match="make_targets must give Targets, got list"):
        check_matcher(matcher, make_targets=lambda sizes, generator: [], predict=predict)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="predict must give Predictions, got dict"):
        check_matcher(matcher, make_targets=make_targets, predict=lambda targets, seed: {})  # type: ignore[arg-type, return-value]
