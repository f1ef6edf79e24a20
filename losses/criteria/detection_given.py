"""The arguments of ``DetectionLoss`` besides targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from losses.heads.class_masks import checked_class_mask, without_others
from matchers.geometry.boxes import check_boxes
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.precision import wide


@dataclass(frozen=True)
class Given:
    """The arguments of a call besides targets.

    Args:
        predictions: Those of a head.
        anchors: As given; None for none.
        class_mask: ``(*batch, C)``, booleans, which classes count in which images; None for all.
    """

    predictions: Predictions
    anchors: Tensor | None = None
    class_mask: Tensor | None = None

    def need_anchors(self) -> Tensor:
        """The anchors, or a ``ValueError``."""
        if self.anchors is None:
            raise ValueError("DetectionLoss with a bbox_coder needs anchors (P, 4) or (B, P, 4) in each call, got none")
        check_boxes(self.anchors, "anchors")
        return self.anchors

    def with_class_mask(self, mask: Tensor) -> Given:
        """The same with a mask."""
        logits = self.predictions.logits
        if logits is None:
            return self
        shape = (*logits.shape[:-2], logits.shape[-1])
        return replace(self, class_mask=checked_class_mask(mask, shape, logits.device, only_flags=True))

    def logits_of(self, targets: Targets, background: int) -> Tensor:
        """The logits, float32 at least, of the classes that count; those of the targets and the background do."""
        assert self.predictions.logits is not None
        logits = wide(self.predictions.logits)
        if self.class_mask is None:
            return logits
        labels = targets.labels.tensor.masked_fill(~targets.matchable, background)
        return without_others(logits, self.class_mask, labels, background)
