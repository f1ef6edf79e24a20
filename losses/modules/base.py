"""What loss modules have in common."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ragged.values.checks import check_not_negative

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
