"""Losses of keypoints: those of YOLO-pose, objects without a visible keypoint, small errors, and modules."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import posed
from reference import keypoints as reference

from losses import OKSLoss, binary_cross_entropy, keypoint_l1_loss, oks_loss
from matchers import oks
from ragged import combine_data


def test_agrees_with_yolo_pose() -> None:
    """Both parts: OKS of visible keypoints, and whether each is visible."""
    (pred,), constants = posed((6,), 0)
    target, area = constants["target"], constants["area"]
    rows = zip(pred.tolist(), target.tolist(), area.tolist(), strict=True)
    expected = torch.tensor([reference.pose_loss(*row) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(oks_loss(pred, target, area), expected, rtol=1e-6, atol=1e-8)
    logits = torch.randn(6, 17, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    visibility = binary_cross_entropy(logits, target[..., 2] > 0).mean(-1)
    p, seen = logits.sigmoid(), target[..., 2] > 0
    torch.testing.assert_close(visibility, -torch.where(seen, p.log(), (1 - p).log()).mean(-1))


def test_an_object_without_a_visible_keypoint_has_no_loss() -> None:
    (pred,), constants = posed((4,), 0)
    target = constants["target"].clone()
    target[1, :, 2] = 0
    target[1, :, :2] = math.nan
    pred.requires_grad_()
    for loss in (oks_loss(pred, target, constants["area"]), keypoint_l1_loss(pred, target)):
        assert loss[1] == 0 and (loss[[0, 2, 3]] > 0).all()
        (gradient,) = torch.autograd.grad(loss.sum(), pred)
        assert gradient.isfinite().all() and not gradient[1].any() and gradient[0].any()


def test_it_is_1_minus_oks_where_something_is_visible() -> None:
    (pred,), constants = posed((20,), 5)
    torch.testing.assert_close(oks_loss(pred, **constants), 1 - oks(pred, constants["target"], constants["area"]))


def test_small_errors_keep_their_digits() -> None:
    """``1 - exp`` in float32 would say 0."""
    target = torch.tensor([[0.5, 0.5, 2.0]])
    pred = torch.tensor([[0.5 + 2**-20, 0.5]], requires_grad=True)
    loss = oks_loss(pred, target, torch.tensor(1.0), sigmas=(0.1,))
    torch.testing.assert_close(loss, torch.tensor(2**-40 / 0.08), rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(loss, pred)
    torch.testing.assert_close(gradient[0, 0], torch.tensor(2 * 2**-20 / 0.08), rtol=1e-5, atol=0)


@pytest.mark.parametrize("sigmas", [None, (0.3, 0.05, 0.1)])
def test_gradients(sigmas: tuple[float, ...] | None) -> None:
    (pred,), constants = posed((3,), 7, 17 if sigmas is None else 3)
    options = {} if sigmas is None else {"sigmas": sigmas}
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: oks_loss(x, **constants, **options), pred)
    assert torch.autograd.gradgradcheck(lambda x: oks_loss(x, **constants, **options), pred)
    assert torch.autograd.gradcheck(lambda x: keypoint_l1_loss(x, constants["target"]), pred)


def test_the_module_weighs_and_reduces() -> None:
    (pred,), constants = posed((5,), 0)
    values = oks_loss(pred, **constants)
    assert OKSLoss(loss_weight=12.0)(pred, **constants).equal(12 * values)
    torch.testing.assert_close(OKSLoss(reduction="mean")(pred, **constants), values.mean())
    ragged = [combine_data([each[:3], each[3:5], each[:0]]) for each in (pred, *constants.values())]
    torch.testing.assert_close(OKSLoss(reduction="sum")(*ragged), values.sum())
