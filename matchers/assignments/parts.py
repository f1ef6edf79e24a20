"""What assignments and plans are made of, for those who look at one: here the classes themselves are not needed."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ragged import RaggedBatch

BACKGROUND = -1
"""Target index of a prediction that shall find nothing."""
IGNORED = -2
"""Target index of a prediction that is neither positive nor negative."""


class AssignmentParts(Protocol):
    """What an ``Assignment`` says; see there."""

    @property
    def target_index(self) -> Tensor:
        """``(*batch, P)``."""

    @property
    def quality(self) -> Tensor:
        """``(*batch, P)``."""

    @property
    def num_targets(self) -> Tensor:
        """``(*batch,)``."""

    @property
    def num_invalid(self) -> Tensor:
        """``(*batch,)``."""

    @property
    def max_num_targets(self) -> int:
        """G."""

    @property
    def max_pairs(self) -> int:
        """At most so many positives has an image."""

    @property
    def is_background(self) -> Tensor:
        """``(*batch, P)``."""

    @property
    def is_ignored(self) -> Tensor:
        """``(*batch, P)``."""


class PlanParts(Protocol):
    """What a ``Plan`` says; see there."""

    @property
    def weights(self) -> RaggedBatch:
        """``(*batch, P, G)``."""

    @property
    def background(self) -> Tensor:
        """``(*batch, P)``."""

    @property
    def residual(self) -> Tensor | None:
        """``(*batch,)``, if anything was solved step by step."""

    @property
    def num_targets(self) -> Tensor:
        """``(*batch,)``."""
