"""Float32 inside, whatever the predictions are in and whatever a model is cast to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION
from torch import Tensor, nn

from losses import (
    ATSSCriterion,
    DetectionLoss,
    GIoULoss,
    MultipleObjectiveLoss,
    RTMDetCriterion,
    SSDCriterion,
    SSDLoss,
    Vec2Box,
    YOLOv9Criterion,
    YOLOXCriterion,
    binary_cross_entropy,
    distribution_focal_loss,
    giou_loss,
)
from matchers import Hungarian, Targets, anchors, cxcywh_to_xyxy
from ragged.values.precision import WideModule

HALVES = [torch.float16, torch.bfloat16]
TRUTH = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])


class Seen(nn.Module):
    """A loss or a coder that says which dtypes it was given."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.dtypes = function, set[torch.dtype]()

    def forward(self, *args: Tensor, **kwargs: Any) -> Tensor:
        self.dtypes |= {each.dtype for each in args if each.is_floating_point()}
        return self.function(*args, **kwargs)


class SeenClasses(Seen):
    def forward(self, logits: Tensor, labels: Tensor, *, scores: Tensor | None = None) -> Tensor:
        return super().forward(logits, labels, scores=scores)


class SeenCoder:
    def __init__(self) -> None:
        self.dtypes: set[torch.dtype] = set()

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        self.dtypes |= {priors.dtype, boxes.dtype}
        return boxes - priors

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        self.dtypes |= {priors.dtype, deltas.dtype}
        return deltas + priors


@pytest.mark.parametrize("dtype", HALVES)
def test_a_loss_of_torch_on_maps_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    sides = (80, 40, 20)
    levels = [(torch.randn(1, 80, n, n).to(dtype), torch.randn(1, 16, 4, n, n).to(dtype)) for n in sides]
    criterion = YOLOv9Criterion(
        80, Vec2Box(image_size=(640, 640), strides=(8, 16, 32)), loss_cls=nn.BCEWithLogitsLoss(reduction="none")
    )
    truth = ([torch.tensor([[100.0, 100.0, 300.0, 300.0]])], [torch.tensor([5])])
    found = criterion(levels, truth)
    assert found["loss_cls"] > 65504  # what float16 cannot hold
    torch.testing.assert_close(found, criterion([tuple(each.float() for each in level) for level in levels], truth))


@pytest.mark.parametrize("dtype", HALVES)
def test_modules_that_are_handed_in_see_float32(dtype: torch.dtype) -> None:
    maps = [[torch.zeros(1, channels, 4, 4, dtype=dtype)] for channels in (3, 4, 1)]
    classes, boxes = SeenClasses(binary_cross_entropy), Seen(giou_loss)
    dense: dict[str, Any] = {"loss_cls": classes, "loss_bbox": boxes, "strides": (8,)}
    coders = [SeenCoder() for _ in range(3)]
    RTMDetCriterion(3, bbox_coder=coders[0], **dense)(maps[:2], TRUTH)
    YOLOXCriterion(3, bbox_coder=coders[1], loss_obj=classes, loss_l1=boxes, use_l1=True, **dense)(maps, TRUTH)
    ATSSCriterion(3, bbox_coder=coders[2], loss_centerness=classes, reg_decoded_bbox=False, **dense)(maps, TRUTH)
    distributions = Seen(distribution_focal_loss)
    levels = [(torch.zeros(1, 3, 4, 4, dtype=dtype), torch.zeros(1, 16, 4, 4, 4, dtype=dtype))]
    YOLOv9Criterion(
        3, Vec2Box(image_size=(32, 32), strides=(8,)), loss_cls=classes, loss_iou=boxes, loss_dfl=distributions
    )(levels, TRUTH)
    for seen in (classes, boxes, distributions, *coders):
        assert seen.dtypes == {torch.float32}, seen


CASTS = [
    lambda model: model.bfloat16(),
    lambda model: model.half(),
    lambda model: model.to(torch.bfloat16),
    lambda model: model.to("cpu", torch.float16),
]


@pytest.mark.parametrize("cast", CASTS)
def test_class_weights_of_a_cast_model(cast: Any) -> None:
    weight = torch.tensor([0.1, 1.001, 3.003])
    loss = MultipleObjectiveLoss([nn.CrossEntropyLoss(weight=weight, reduction="none")])
    matcher = Hungarian(
        cls_match_module=nn.CrossEntropyLoss(weight=weight, reduction="none"), loc_match_module=GIoULoss()
    )
    criterion = DetectionLoss(loss, GIoULoss(), matcher, bg_class_position="last")
    predictions = {
        "pred_logits": torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).bfloat16(),
        "pred_boxes": cxcywh_to_xyxy(torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(1))).bfloat16(),
    }
    truth = [{"boxes": torch.tensor([[0.0, 0.0, 0.5, 0.5]]), "labels": torch.tensor([label])} for label in (0, 1)]
    expected = criterion(predictions, truth)
    assert criterion(predictions, truth).dtype == torch.float32
    torch.testing.assert_close(cast(nn.Sequential(criterion))[0](predictions, truth), expected, rtol=0, atol=0)


@pytest.mark.parametrize("cast", CASTS)
def test_anchors_and_default_boxes_of_a_cast_model(cast: Any) -> None:
    """At 1,024 pixels, bfloat16 rounds to 4: other anchors would be positive."""
    own = anchors((1024, 1024), (32, 64), scales=(4.0,))
    boxes = torch.tensor([[301.0, 407.0, 433.0, 529.0], [77.0, 801.0, 322.0, 1003.0]])
    truth = Targets.of(([boxes], [torch.tensor([0, 1])]))
    predictions = (torch.zeros(1, len(own), 3), torch.zeros(1, len(own), 4))
    for criterion in (SSDCriterion(3, anchors=own), ATSSCriterion(2, anchors=own, strides=(32, 64))):
        model = cast(nn.Sequential(criterion, nn.Linear(2, 2)))
        assert model[1].weight.dtype != torch.float32
        torch.testing.assert_close(criterion.anchors, own, rtol=0, atol=0)
    criterion = SSDCriterion(3, anchors=own)
    expected = criterion.assign(predictions, truth).target_index
    assert torch.equal(cast(criterion).assign(predictions, truth).target_index, expected) and (expected >= 0).sum() > 4
    default = torch.rand(5, 4)
    torch.testing.assert_close(cast(SSDLoss(default)).dboxes, default, rtol=0, atol=0)


def test_casts_that_lose_nothing_are_made() -> None:
    module = WideModule()
    module.register_buffer("numbers", torch.tensor([0.1]))
    module.register_buffer("rounded", torch.tensor([0.5]).half())
    assert module.double().numbers.dtype == torch.float64
    assert module.float().numbers.dtype == module.rounded.dtype == torch.float32
    assert module.to("meta").numbers.is_meta


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_targets_that_require_a_gradient_receive_none(name: str) -> None:
    case = EVERY_CRITERION[name]
    predictions, plain = case.predictions([2, 0, 3]), case.targets([2, 0, 3])
    weights = torch.ones(3, plain.max_num_targets)
    given = Targets(
        plain.boxes.clone().requires_grad_(),
        plain.labels,
        plain.boxes.create_with_sample_sizes_like_self(weights, 1).requires_grad_(),
        box_format=plain.box_format,
        normalized=plain.normalized,
        canvas_size=plain.canvas_size,
    )
    for reduction in case.reductions or ("mean",):
        criterion = case.make(reduction=reduction) if case.reductions else case.make()
        losses = case.losses(criterion, predictions, given)
        values = [value.tensor if hasattr(value, "tensor") else value for value in losses.values()]
        total: Any = sum(value.sum() for value in values)
        if total.requires_grad:  # predictions do not, here
            raise AssertionError(f"{name} has a gradient in its targets")
        assert torch.isfinite(total)
