"""The parts of assignments and plans, for code that reads them without the classes themselves."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ragged import RaggedBatch

BACKGROUND = -1
"""Target index of a prediction that must find nothing."""
IGNORED = -2
"""Target index of a prediction that is neither positive nor negative."""


class AssignmentParts(Protocol):
    """The parts of an ``Assignment``; see there."""

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
        """The largest number of positives of an image."""

    @property
    def is_background(self) -> Tensor:
        """``(*batch, P)``."""

    @property
    def is_ignored(self) -> Tensor:
        """``(*batch, P)``."""


class PlanParts(Protocol):
    """The parts of a ``Plan``; see there."""

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
