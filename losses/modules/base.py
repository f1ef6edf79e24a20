"""The base classes of loss modules."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from losses.modules.traits import LossTraits
from ragged import RaggedBatch
from ragged.values.checks import check_not_negative, check_one_of

BoxLoss = Callable[[Tensor, Tensor], Tensor]
ClassLoss = Callable[..., Tensor]


REDUCTIONS = ("none", "mean", "sum")


class LossModule(LossTraits, nn.Module):
    """A loss as a module: the base class of all modules here, and of your own.

    Write ``forward``, give what it computes to ``reduced``, and criteria and matchers take it. It may say more of
    itself, for speed: ``background``, the closed form for classes that are not labelled; ``per_class``, the losses of
    all classes at once; ``pair_cost``, the costs of pairs; and ``class_weights``. What is not said is not known, and
    computed the long way. A derived class with another ``forward`` or ``reduced`` has to say it again.

    Args:
        reduction: ``"none"``, ``"mean"`` or ``"sum"``. Criteria and matchers need ``"none"``.
        loss_weight: A factor.

    Raises:
        ValueError: An unknown reduction, or a weight that is negative or not finite.

    Example: focal loss on the background, binary cross entropy on labelled classes; a dense criterion computes it in
    blocks:

    >>> from losses import BinaryCrossEntropy, RTMDetCriterion
    >>> class FocalBackground(LossModule):
    ...     def forward(self, logits, targets, *, scores=None):
    ...         values = BinaryCrossEntropy()(logits, targets, scores=scores)
    ...         labelled = targets.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)
    ...         return self.reduced(torch.where(labelled, values, logits.sigmoid() ** 2 * values))
    ...
    ...     def background(self):  # exponent, scale, whether the power is a constant for the gradient
    ...         return 2.0, self.loss_weight, False
    >>> maps = [torch.zeros(1, 3, 4, 4)], [torch.full((1, 4, 4, 4), 8.0)]
    >>> targets = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
    >>> criterion = RTMDetCriterion(3, loss_cls=FocalBackground(loss_weight=0.5), strides=(8,))
    >>> criterion(maps, targets)["loss_cls"]
    tensor(4.4188)
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
        check_one_of(reduction, REDUCTIONS, "reduction")
        self._reduction = reduction

    def reduced(self, loss: Tensor) -> Tensor:
        """The loss with its weight, reduced as asked for; for a ragged batch over its valid entries."""
        if self.loss_weight != 1:
            loss = loss * self.loss_weight
        if self.reduction == "none":
            return loss
        if isinstance(loss, RaggedBatch):
            return over_entries(loss, self.reduction)
        return loss.mean() if self.reduction == "mean" else loss.sum()

    def with_labels(self, logits: Tensor, labels: Tensor, *, one_hot: bool) -> Tensor:
        """Call the loss with labels, where -1 means no class."""
        values: Tensor = self(logits, labels)
        return values


def over_entries(values: RaggedBatch, reduction: str) -> Tensor:
    """The ``"mean"`` or ``"sum"`` of all numbers of the valid entries; the mean of none is NaN, as torch's."""
    added = values.with_padded_set_to(0).tensor.sum()
    if reduction == "sum":
        return added
    return added / (values.sample_sizes.sum() * (values.tensor.numel() // max(values.mask.numel(), 1)))
