"""A criterion of queries in a training loop as DETR has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from losses.criteria.query.detr import DetrCriterion
from losses.drop_in.checks import check_mean


class SetCriterion(nn.Module):
    """A query criterion for training loops that weight the terms themselves, such as DETR's and rf-detr's.

    Such a loop adds up ``terms[name] * criterion.weight_dict[name]`` over the names in ``weight_dict``. Our terms are
    weighted, and the weights of a ``DetrCriterion`` have the names of its last layer alone: so the loop would weight
    them twice and drop the other layers. Here ``weight_dict`` has the weight 1 for every term::

        module.criterion = SetCriterion(query_criterion("rf-detr", num_classes=91))

    Args:
        criterion: ``DetrCriterion``, or one derived from it, with the reduction ``"mean"``.

    Raises:
        TypeError: ``criterion`` is not a ``DetrCriterion``.
        ValueError: The criterion has another reduction.

    >>> outputs = {"pred_logits": torch.zeros(1, 4, 3), "pred_boxes": torch.full((1, 4, 4), 0.5)}
    >>> targets = [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.25]]), "labels": torch.tensor([2])}]
    >>> criterion = SetCriterion(DetrCriterion({"loss_bbox": 5.0, "loss_giou": 2.0}, num_classes=3))
    >>> terms = criterion(outputs, targets)
    >>> sum(terms[name] * criterion.weight_dict[name] for name in terms if name in criterion.weight_dict)
    tensor(2.2500)
    """

    def __init__(self, criterion: DetrCriterion) -> None:
        super().__init__()
        check_mean(criterion, DetrCriterion, "of queries, as query_criterion makes them")
        self.criterion, self.weight_dict = criterion, _Ones()

    @property
    def num_classes(self) -> int:
        """C, of the criterion."""
        return self.criterion.num_classes

    def forward(self, outputs: Mapping[str, Any], targets: Any) -> dict[str, Tensor]:
        """The terms, weighted. Arguments as for the criterion."""
        terms: dict[str, Tensor] = self.criterion(outputs, targets)
        return terms


class _Ones(Mapping[str, float]):
    """The weight 1 for every term. Which terms there are depends on the layers of the outputs, so none is listed."""

    def __getitem__(self, name: str) -> float:
        if not isinstance(name, str):
            raise KeyError(name)
        return 1.0

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True
