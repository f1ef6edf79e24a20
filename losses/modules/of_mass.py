"""Class losses of labels that are not one but a distribution: how the loss of each class is known at once.

With a soft plan a prediction has many labels, each with some mass. Most class losses need no value for each of these
pairs. The loss with label y is ``own_y + sum of others_c over all other classes c``, so that what counts of a plan is
the mass of each class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ClassLosses:
    """What a class contributes to the loss of a prediction, if it is the label and if it is not.

    Args:
        own: (…, C), if it is.
        others: (…, C), if it is not; None stands for 0.
    """

    own: Tensor
    others: Tensor | None = None

    def of_label(self, label: int) -> Tensor:
        """The losses (…) with one label for all; -1 is that of no class."""
        if label < 0:
            return self.own.new_zeros(self.own.shape[:-1]) if self.others is None else self.others.sum(-1)
        own = self.own[..., label]
        if self.others is None:
            return own
        return own + self.others[..., :label].sum(-1) + self.others[..., label + 1 :].sum(-1)

    def of_mass(self, mass: Tensor, total: Tensor) -> Tensor:
        """The losses (…) summed over labels.

        Args:
            mass: (…, C), that of each class; a constant.
            total: (…), the mass of all classes and of no class.
        """
        values = _weighted(self.own, mass)
        return values if self.others is None else values + _weighted(self.others, total.unsqueeze(-1) - mass)

    def scaled(self, factor: float) -> ClassLosses:
        """All losses times a factor."""
        if factor == 1:
            return self
        return ClassLosses(self.own * factor, None if self.others is None else self.others * factor)

    def __add__(self, other: ClassLosses) -> ClassLosses:
        if self.others is None or other.others is None:
            return ClassLosses(self.own + other.own, other.others if self.others is None else self.others)
        return ClassLosses(self.own + other.own, self.others + other.others)


def of_elements(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor) -> ClassLosses:
    """The losses of a loss with a value for each class, which depends on this class alone, of logits (…, C)."""
    return ClassLosses(loss(logits, torch.ones_like(logits)), loss(logits, torch.zeros_like(logits)))


def _weighted(values: Tensor, mass: Tensor) -> Tensor:
    """Sums over the classes. What has no mass may be infinite, as it is where a logit is."""
    mass = mass.to(values.dtype)
    return (values.masked_fill(mass == 0, 0) * mass).sum(-1)
