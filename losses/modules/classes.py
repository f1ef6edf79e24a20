"""Losses as modules: what criteria and matchers are configured with.

Criteria take any callable of one of two kinds, and sum up what it gives for a prediction:

* a box loss is called with predicted and target boxes (R, 4) and gives (R,) or (R, 4);
* a class loss is called as ``loss(logits, labels, scores=scores)`` with logits (…, C), labels (…), where -1 is the
  background, and scores (…) of the labelled classes; it gives (…, C) or (…). ``sigmoid_focal_loss``,
  ``quality_focal_loss``, ``varifocal_loss`` and ``binary_cross_entropy`` are of this kind, and so are the modules here.

Modules of torch work as well, with ``reduction="none"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from losses.functional.boxes import MODES, ciou_loss, diou_loss, giou_loss, iou_loss, l1_loss
from losses.functional.numerics import check_share
from losses.functional.sigmoid import (
    binary_cross_entropy,
    check_form,
    check_target_values,
    matchability_aware_loss,
    quality_focal_loss,
    sigmoid_focal_loss,
    varifocal_loss,
)
from losses.modules.closed_forms import can_sum_classes, summed_over_classes
from ragged.values.checks import check_flag, check_is_sequence, check_not_negative, check_number, check_one_of
from ragged.values.precision import WideModule, wide

BoxLoss = Callable[[Tensor, Tensor], Tensor]
ClassLoss = Callable[..., Tensor]


class LossModule(nn.Module):
    """What the modules have in common.

    Args:
        reduction: ``"none"``, ``"mean"`` or ``"sum"``. Criteria and matchers need ``"none"``.
        loss_weight: A factor.

    Raises:
        ValueError: An unknown reduction, or a weight that is negative or not finite.
    """

    def __init__(self, *, reduction: str = "none", loss_weight: float = 1.0) -> None:
        super().__init__()
        check_not_negative(loss_weight, "loss_weight")
        self.reduction, self.loss_weight = reduction, loss_weight

    @property
    def reduction(self) -> str:
        """See the class. It can be set; another word is a ``ValueError``."""
        return self._reduction

    @reduction.setter
    def reduction(self, reduction: str) -> None:
        if not isinstance(reduction, str) or reduction not in ("none", "mean", "sum"):
            raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
        self._reduction = reduction

    def reduced(self, loss: Tensor) -> Tensor:
        """The loss with its weight, reduced as asked for."""
        if self.loss_weight != 1:
            loss = loss * self.loss_weight
        return loss if self.reduction == "none" else loss.mean() if self.reduction == "mean" else loss.sum()


class IoULoss(LossModule):
    """``iou_loss`` of xyxy boxes: linear, square (YOLOX) or log.

    >>> IoULoss(mode="square")(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1]]))
    tensor([0.7500])
    """

    def __init__(self, *, mode: str = "linear", eps: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_one_of(mode, MODES, "mode")
        check_number(eps, "eps")
        if not eps < 1:
            raise ValueError(f"eps must lie between 0 and 1, got {eps}")
        self.mode, self.eps = mode, eps

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…)."""
        return self.reduced(iou_loss(pred, target, mode=self.mode, eps=self.eps))


class GIoULoss(LossModule):
    """``giou_loss`` of xyxy boxes.

    >>> GIoULoss(loss_weight=2.0)(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1]]))
    tensor([1.])
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…)."""
        return self.reduced(giou_loss(pred, target))


class DIoULoss(LossModule):
    """``diou_loss`` of xyxy boxes.

    >>> DIoULoss()(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([0.5312])
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…)."""
        return self.reduced(diou_loss(pred, target))


class CIoULoss(LossModule):
    """``ciou_loss`` of xyxy boxes.

    Args:
        detach_trade_off: Whether the weight of the aspect ratio is a constant for the gradient, as in the paper.

    >>> CIoULoss()(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([0.5345])
    """

    def __init__(self, *, detach_trade_off: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_flag(detach_trade_off, "detach_trade_off")
        self.detach_trade_off = bool(detach_trade_off)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…)."""
        return self.reduced(ciou_loss(pred, target, detach_trade_off=self.detach_trade_off))


class L1Loss(LossModule):
    """``l1_loss`` of every coordinate.

    >>> L1Loss()(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([[0., 0., 0., 1.]])
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…, 4)."""
        return self.reduced(l1_loss(pred, target))


class BinaryCrossEntropy(LossModule):
    """``binary_cross_entropy`` of logits with labels and scores, or with dense targets.

    >>> BinaryCrossEntropy()(torch.zeros(1, 2), torch.tensor([1]))
    tensor([[0.6931, 0.6931]])
    """

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        return self.reduced(binary_cross_entropy(logits, targets, scores=scores))


class QualityFocalLoss(LossModule):
    """``quality_focal_loss`` of logits with labels and scores, or with dense targets.

    >>> QualityFocalLoss()(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.75]))
    tensor([[0.1733, 0.0433]])
    """

    def __init__(self, *, beta: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_not_negative(beta, "beta")
        self.beta = beta

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        return self.reduced(quality_focal_loss(logits, targets, scores=scores, beta=self.beta))


class FocalLoss(LossModule):
    """``sigmoid_focal_loss`` of logits with labels and scores, or with dense targets, one value for each class.

    >>> FocalLoss()(torch.zeros(1, 2), torch.tensor([1]))
    tensor([[0.1300, 0.0433]])
    """

    def __init__(self, *, alpha: float | None = 0.25, gamma: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_share(alpha, "alpha")
        check_not_negative(gamma, "gamma")
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        return self.reduced(sigmoid_focal_loss(logits, targets, scores=scores, alpha=self.alpha, gamma=self.gamma))


class VarifocalLoss(LossModule):
    """``varifocal_loss`` of logits with labels and scores, or with dense targets.

    >>> VarifocalLoss()(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.75]))
    tensor([[0.1300, 0.5199]])
    """

    def __init__(self, *, alpha: float = 0.75, gamma: float = 2.0, detach_weights: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_not_negative(alpha, "alpha")
        check_not_negative(gamma, "gamma")
        check_flag(detach_weights, "detach_weights")
        self.alpha, self.gamma, self.detach_weights = alpha, gamma, bool(detach_weights)

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        loss = varifocal_loss(
            logits, targets, scores=scores, alpha=self.alpha, gamma=self.gamma, detach_weights=self.detach_weights
        )
        return self.reduced(loss)


class MatchabilityAwareLoss(LossModule):
    """``matchability_aware_loss`` of logits with labels and scores, or with dense targets.

    >>> MatchabilityAwareLoss()(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.75]))
    tensor([[0.2451, 0.6931]])
    """

    def __init__(self, *, gamma: float = 1.5, detach_weights: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_not_negative(gamma, "gamma")
        check_flag(detach_weights, "detach_weights")
        self.gamma, self.detach_weights = gamma, bool(detach_weights)

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        loss = matchability_aware_loss(
            logits, targets, scores=scores, gamma=self.gamma, detach_weights=self.detach_weights
        )
        return self.reduced(loss)


class MultipleObjectiveLoss(WideModule):
    """Weighted sum of several loss modules of one kind, such as L1 and GIoU.

    Each gets the same arguments; results (…, 4) or (…, C) are summed over their last dimension where others have one
    dimension less.

    Args:
        losses: Modules, or a mapping of them by name.
        weights: One for each, in the order of ``losses`` or by name; 1 if not given.

    Raises:
        ValueError: There is no loss, or weights are not one for each.
        KeyError: A weight is of a loss that there is not.

    >>> loss = MultipleObjectiveLoss([nn.L1Loss(reduction="none"), GIoULoss()], [5.0, 2.0])
    >>> loss(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1]]))
    tensor([6.])
    """

    def __init__(
        self,
        losses: Sequence[nn.Module] | Mapping[str, nn.Module],
        weights: Sequence[float] | Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(losses, Mapping):
            check_is_sequence(losses, "losses", "loss modules, or a dict of them")
        named = dict(losses) if isinstance(losses, Mapping) else {str(k): loss for k, loss in enumerate(losses)}
        if not named:
            raise ValueError("MultipleObjectiveLoss needs one loss at least, got none")
        for name, loss in named.items():
            if not isinstance(name, str):
                raise TypeError(f"the names of losses must be strings, got {name!r}")
            if not isinstance(loss, nn.Module):
                raise TypeError(f"the loss {name!r} must be a module, got {type(loss).__name__}")
        self.losses = nn.ModuleDict(named)
        self.weights = _weights_by_name(weights, list(named))

    @property
    def reduction(self) -> str:
        """That of the losses, or "mixed" if they differ."""
        found = {getattr(loss, "reduction", "none") for loss in self.losses.values()}
        return found.pop() if len(found) == 1 else "mixed"

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The weighted sum; arguments as for each of the losses, which see float32 at least."""
        args = tuple(wide(each) if isinstance(each, Tensor) and each.is_floating_point() else each for each in args)
        values = [loss(*args, **kwargs) for loss in self.losses.values()]
        fewest = min(value.dim() for value in values)
        values = [value.sum(-1) if value.dim() > fewest else value for value in values]
        total: Any = 0
        for value, weight in zip(values, self.weights.values(), strict=True):
            total = total + value * weight
        return total


def box_values(loss: BoxLoss, pred: Tensor, target: Tensor) -> Tensor:
    """What a box loss gives for boxes (R, 4), in float32 at least: (R,)."""
    values = loss(wide(pred), wide(target))
    return values.sum(-1) if values.dim() > 1 else values


def class_values(
    loss: ClassLoss,
    logits: Tensor,
    labels: Tensor,
    scores: Tensor | None = None,
    *,
    class_mask: Tensor | None = None,
) -> Tensor:
    """What a class loss gives for predictions with logits (…, C) and labels (…), summed over the classes: (…).

    Whatever dtype the logits have, the loss is given float32 at least.

    Args:
        loss, logits, labels, scores: See the module.
        class_mask: Broadcasts to (…, C): which classes count.

    Raises:
        ValueError: There is a mask, and the loss does not give a value for each class; or it gives something else.
    """
    background = _of_background(loss)
    if background is not None and class_mask is None and can_sum_classes(labels):
        check_form(logits, labels, scores)
        exponent, scale, detach = background
        return summed_over_classes(
            logits, labels, scores, own=loss, exponent=exponent, scale=scale, detach_weights=detach
        )
    check_form(logits, labels, scores)
    check_target_values(labels, scores, logits.shape[-1])
    logits = wide(logits)
    if class_mask is not None:  # what does not count may be anything, NaN too
        logits = logits.masked_fill(class_mask == 0, 0)
    if isinstance(loss, nn.BCEWithLogitsLoss):
        values = loss(logits, soft_one_hot(labels, scores, logits))
    else:
        values = loss(logits, labels, scores=scores)
    return sum_of_classes(values, logits, class_mask)


def sum_of_classes(values: Tensor, logits: Tensor, class_mask: Tensor | None = None) -> Tensor:
    """What a class loss gave for logits (…, C), a value for each class or for each prediction, as (…).

    Raises:
        ValueError: It is neither, or there is a mask of classes and no value for each of them.
    """
    if values.shape not in (logits.shape, logits.shape[:-1]):
        raise ValueError(
            f"a class loss of logits {tuple(logits.shape)} must give a value for each class or each prediction, "
            f"got {tuple(values.shape)}"
        )
    if values.dim() < logits.dim():
        if class_mask is not None:
            raise ValueError("a mask of classes needs a class loss (…, C) with a value for each class, got (…)")
        return values
    return (values if class_mask is None else values * class_mask).sum(-1)


def _of_background(loss: ClassLoss) -> tuple[float, float, bool] | None:
    """Exponent and scale of a loss that is ``scale p^exponent BCE(x, 0)`` for a class that is not labelled.

    The third says whether the power is a constant for the gradient.
    """
    # Of these very types: what is derived from them may compute something else.
    if type(loss) is BinaryCrossEntropy:
        return 0.0, loss.loss_weight, False
    if type(loss) is QualityFocalLoss:
        return loss.beta, loss.loss_weight, False
    if type(loss) is FocalLoss:
        return loss.gamma, loss.loss_weight * (1.0 if loss.alpha is None else 1 - loss.alpha), False
    if type(loss) is VarifocalLoss:
        return loss.gamma, loss.loss_weight * loss.alpha, loss.detach_weights
    if type(loss) is MatchabilityAwareLoss:
        return loss.gamma, loss.loss_weight, loss.detach_weights
    return None


def soft_one_hot(labels: Tensor, scores: Tensor | None, logits: Tensor) -> Tensor:
    """Targets (…, C): the score, or 1, at the label, 0 elsewhere."""
    valid = (labels >= 0) & (labels < logits.shape[-1])
    values = valid.to(logits.dtype) if scores is None else scores.to(logits.dtype).masked_fill(~valid, 0)
    index = labels.masked_fill(~valid, 0).unsqueeze(-1)
    return torch.zeros_like(logits).scatter(-1, index, values.unsqueeze(-1))


def _weights_by_name(weights: Sequence[float] | Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    if weights is None:
        weights = [1.0] * len(names)
    if isinstance(weights, Mapping):
        unknown = [name for name in weights if name not in names]
        if unknown:
            raise KeyError(f"there is a weight for {unknown[0]!r}, but the losses are {names}")
        weights = [weights.get(name, 1.0) for name in names]
    check_is_sequence(weights, "weights", "numbers, or a dict of them")
    if len(weights) != len(names):
        raise ValueError(f"weights must be {len(names)}, one for each loss, got {len(weights)}")
    for weight in weights:
        check_not_negative(weight, "weights")
    return dict(zip(names, map(float, weights), strict=True))
