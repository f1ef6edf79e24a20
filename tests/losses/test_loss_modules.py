"""Losses as modules: the functions that they call, what criteria ask of any loss, and the weighted sum of several."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import losses
from losses import MultipleObjectiveLoss
from losses.modules.base import LossModule
from losses.modules.boxes import box_values
from losses.modules.checks import check_loss
from losses.modules.classes import class_values
from losses.modules.traits import soft_one_hot
from matchers.geometry.boxes import coordinates

close = torch.testing.assert_close


def boxes(seed: int) -> Tensor:
    corners = torch.rand(6, 4, generator=torch.Generator().manual_seed(seed))
    return torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] + 0.1], -1)


LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, -1, 0, -1])
SCORES = torch.tensor([0.5, 0.2, 1.0, 0.7, 0.0, 0.3])

OF_BOXES: dict[str, tuple[LossModule, Any]] = {
    "iou": (losses.IoULoss(), losses.iou_loss),
    "iou, square": (losses.IoULoss(mode="square"), lambda a, b: losses.iou_loss(a, b, mode="square")),
    "iou, log": (losses.IoULoss(mode="log", eps=0.1), lambda a, b: losses.iou_loss(a, b, mode="log", eps=0.1)),
    "giou": (losses.GIoULoss(), losses.giou_loss),
    "diou": (losses.DIoULoss(), losses.diou_loss),
    "ciou": (losses.CIoULoss(), losses.ciou_loss),
    "l1": (losses.L1Loss(), losses.l1_loss),
}
OF_CLASSES: dict[str, tuple[LossModule, Any, dict[str, float]]] = {
    "bce": (losses.BinaryCrossEntropy(), losses.binary_cross_entropy, {}),
    "quality focal": (losses.QualityFocalLoss(beta=1.5), losses.quality_focal_loss, {"beta": 1.5}),
    "focal": (losses.FocalLoss(alpha=0.4, gamma=1.0), losses.sigmoid_focal_loss, {"alpha": 0.4, "gamma": 1.0}),
}


@pytest.mark.parametrize("name", ["giou", "diou", "ciou", "l1", "several"])
def test_coordinates_of_pairs(name: str) -> None:
    loss = (
        MultipleObjectiveLoss([losses.L1Loss(), losses.GIoULoss()], [5.0, 2.0])
        if name == "several"
        else OF_BOXES[name][0]
    )
    first, second = boxes(1), boxes(2)[:4]
    assert loss.of_coordinates is not None
    found = loss.of_coordinates(coordinates(first), coordinates(second.unsqueeze(1)))
    rows = box_values(loss, first.repeat(4, 1), second.repeat_interleave(6, 0))
    close(found, rows.view(4, 6))


def test_no_coordinates_of_a_loss_that_does_not_say_so() -> None:
    class Halved(losses.GIoULoss):
        def forward(self, pred: Tensor, target: Tensor) -> Tensor:
            return super().forward(pred, target) / 2

    assert Halved.of_coordinates is None
    assert MultipleObjectiveLoss([losses.L1Loss(), nn.SmoothL1Loss(reduction="none")]).of_coordinates is None


@pytest.mark.parametrize("name", OF_BOXES)
def test_box_losses(name: str) -> None:
    module, function = OF_BOXES[name]
    expected = function(boxes(1), boxes(2))
    close(module(boxes(1), boxes(2)), expected)
    close(box_values(module, boxes(1), boxes(2)), expected.reshape(6, -1).sum(-1))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        close(other(boxes(1), boxes(2)), expected)


@pytest.mark.parametrize("detach", [False, True])
def test_ciou_trade_off(detach: bool) -> None:
    pred = boxes(1).requires_grad_()
    found = torch.autograd.grad(losses.CIoULoss(detach_trade_off=detach)(pred, boxes(2)).sum(), pred)
    close(found, torch.autograd.grad(losses.ciou_loss(pred, boxes(2), detach_trade_off=detach).sum(), pred))
    other = torch.autograd.grad(losses.ciou_loss(pred, boxes(2), detach_trade_off=not detach).sum(), pred)
    assert not torch.allclose(found[0], other[0])


@pytest.mark.parametrize("name", OF_CLASSES)
def test_class_losses(name: str) -> None:
    module, function, options = OF_CLASSES[name]
    close(module(LOGITS, LABELS), function(LOGITS, LABELS, **options))
    close(module(LOGITS, LABELS, scores=SCORES), function(LOGITS, LABELS, scores=SCORES, **options))
    dense = soft_one_hot(LABELS, SCORES, LOGITS)
    close(module(LOGITS, dense), module(LOGITS, LABELS, scores=SCORES))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_weight_and_reduction(reduction: str) -> None:
    plain = losses.L1Loss()(boxes(1), boxes(2)) * 3
    expected = {"none": plain, "mean": plain.mean(), "sum": plain.sum()}[reduction]
    close(losses.L1Loss(reduction=reduction, loss_weight=3.0)(boxes(1), boxes(2)), expected)


def test_parameters_out_of_range() -> None:
    with pytest.raises(ValueError, match="reduction must be one of 'none', 'mean', 'sum', got 'average'"):
        losses.L1Loss(reduction="average")
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="loss_weight"):
            losses.GIoULoss(loss_weight=weight)
    with pytest.raises(ValueError, match="mode must be one of 'linear', 'square', 'log', got 'cube'"):
        losses.IoULoss(mode="cube")
    with pytest.raises(ValueError, match="beta"):
        losses.QualityFocalLoss(beta=-1.0)
    with pytest.raises(ValueError, match="alpha"):
        losses.FocalLoss(alpha=2.0)
    with pytest.raises(ValueError, match="gamma"):
        losses.FocalLoss(gamma=-1.0)


def test_soft_one_hot() -> None:
    expected = torch.zeros(6, 3)
    for row, (label, score) in enumerate(zip(LABELS.tolist(), SCORES.tolist(), strict=True)):
        if label >= 0:
            expected[row, label] = score
    close(soft_one_hot(LABELS, SCORES, LOGITS), expected)
    close(soft_one_hot(LABELS, None, LOGITS), (LABELS.unsqueeze(-1) == torch.arange(3)).float())
    garbage = SCORES.masked_fill(LABELS < 0, torch.nan)
    close(soft_one_hot(LABELS, garbage, LOGITS), expected)


class TestClassValues:
    def test_summed_over_the_classes(self) -> None:
        expected = losses.binary_cross_entropy(LOGITS, LABELS, scores=SCORES).sum(-1)
        for loss in (losses.BinaryCrossEntropy(), losses.binary_cross_entropy, nn.BCEWithLogitsLoss(reduction="none")):
            close(class_values(loss, LOGITS, LABELS, SCORES), expected)

    def test_one_value_for_each_prediction(self) -> None:
        def loss(logits: Tensor, labels: Tensor, *, scores: Tensor | None) -> Tensor:
            return logits[..., 0] + labels

        close(class_values(loss, LOGITS, LABELS), LOGITS[:, 0] + LABELS)
        with pytest.raises(ValueError, match="a mask of classes needs a class loss"):
            class_values(loss, LOGITS, LABELS, class_mask=torch.ones(3))

    def test_mask_of_classes(self) -> None:
        mask = torch.tensor([True, False, True])
        expected = losses.binary_cross_entropy(LOGITS, LABELS)[:, [0, 2]].sum(-1)
        close(class_values(losses.BinaryCrossEntropy(), LOGITS, LABELS, class_mask=mask), expected)

    def test_a_loss_of_another_shape(self) -> None:
        with pytest.raises(ValueError, match=r"a class loss of logits \(6, 3\) must give .*, got \(\)"):
            class_values(lambda logits, labels, scores: logits.sum(), LOGITS, LABELS)


def test_losses_that_reduce_are_refused() -> None:
    check_loss(nn.BCEWithLogitsLoss(reduction="none"), "loss_cls")
    check_loss(losses.giou_loss, "loss_bbox")
    with pytest.raises(ValueError, match="loss_cls must have reduction='none', got 'mean'"):
        check_loss(nn.BCEWithLogitsLoss(), "loss_cls")
    with pytest.raises(TypeError, match="loss_cls must be a loss module or function, got float"):
        check_loss(1.0, "loss_cls")
    with pytest.raises(ValueError, match="got 'mixed'"):
        check_loss(MultipleObjectiveLoss([losses.L1Loss(), losses.GIoULoss(reduction="sum")]), "loss_bbox")
    with pytest.raises(ValueError, match="got 'sum'"):
        check_loss(MultipleObjectiveLoss([losses.GIoULoss(reduction="sum")]), "loss_bbox")


class TestMultipleObjectiveLoss:
    parts = (losses.L1Loss(), losses.GIoULoss())

    def test_weighted_sum(self) -> None:
        l1, giou = (part(boxes(1), boxes(2)) for part in self.parts)
        close(MultipleObjectiveLoss(self.parts)(boxes(1), boxes(2)), l1.sum(-1) + giou)
        close(MultipleObjectiveLoss(self.parts, [5.0, 2.0])(boxes(1), boxes(2)), 5 * l1.sum(-1) + 2 * giou)
        named = MultipleObjectiveLoss({"l1": self.parts[0], "giou": self.parts[1]}, {"giou": 3.0})
        close(named(boxes(1), boxes(2)), l1.sum(-1) + 3 * giou)
        close(MultipleObjectiveLoss([self.parts[0]], [2.0])(boxes(1), boxes(2)), 2 * l1)

    def test_of_classes(self) -> None:
        both = MultipleObjectiveLoss([losses.BinaryCrossEntropy(), losses.FocalLoss()], [1.0, 0.5])
        expected = losses.binary_cross_entropy(LOGITS, LABELS) + 0.5 * losses.sigmoid_focal_loss(LOGITS, LABELS)
        close(class_values(both, LOGITS, LABELS), expected.sum(-1))

    def test_modules_are_found(self) -> None:
        assert len(next(MultipleObjectiveLoss(self.parts).children())) == 2
        assert MultipleObjectiveLoss(self.parts).reduction == "none"

    def test_weights_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="needs one loss at least"):
            MultipleObjectiveLoss([])
        with pytest.raises(ValueError, match="weights must be 2, one for each loss, got 1"):
            MultipleObjectiveLoss(self.parts, [1.0])
        with pytest.raises(KeyError, match=r"there is a weight for 'ciou', but the losses are \['l1'\]"):
            MultipleObjectiveLoss({"l1": self.parts[0]}, {"ciou": 1.0})
        with pytest.raises(ValueError, match="weights"):
            MultipleObjectiveLoss(self.parts, [1.0, float("nan")])
