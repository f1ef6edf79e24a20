"""What makes up a detector: a network, the loss that it is trained with, and how its output is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from losses import flatten_levels
from matchers import Assignment, Plan, Predictions, Targets

Maps = dict[str, list[Tensor]]
"""What a dense network says: of each name a map (B, channels, rows, columns) for each level."""

# A detection of less probability is not told apart from one of none.
_LEAST = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Detector:
    """A network and its loss.

    Args:
        model: Makes an output of images (B, C, H, W).
        make_criterion: Makes the criterion, given its reduction.
        inputs: Makes what the criterion is called with of the output.
        decode: Makes detections of the output, xyxy in pixels, with a logit for each class.
        centers: Where each prediction comes from, (P, 2) or (B, P, 2), x and y in pixels: for pictures.
        learning_rate: That suits it.
    """

    model: nn.Module
    make_criterion: Callable[[str], nn.Module]
    inputs: Callable[[Any], Any]
    decode: Callable[[Any], Predictions]
    centers: Callable[[Any], Tensor]
    learning_rate: float = 4e-3

    def losses(self, output: Any, targets: Targets, criterion: nn.Module) -> dict[str, Tensor]:
        """The terms of a criterion, for an output of the model."""
        terms: dict[str, Tensor] = criterion(self.inputs(output), targets)
        return terms

    def match(self, output: Any, targets: Targets, criterion: Any) -> Assignment | Plan:
        """Who learns which target; of a decoder, or of a pair of heads, the match of the last layer."""
        found = criterion.assign(self.inputs(output), targets)
        if isinstance(found, Assignment) and found.target_index.dim() > 2:
            found = found.unstack()[-1]
        return found if isinstance(found, (Assignment, Plan)) else found[""]


def flat(maps: list[Tensor], channels: int, name: str = "maps") -> Tensor:
    """All levels as one tensor (B, P, channels); a cell may have several predictions."""
    return flatten_levels(maps, channels=channels, name=name, num_per_cell=maps[0].shape[1] // channels)


def detections(probabilities: Tensor, boxes: Tensor) -> Predictions:
    """Predictions of class probabilities (B, P, C) and boxes (B, P, 4), xyxy in pixels."""
    return Predictions(probabilities.float().logit(_LEAST), boxes, box_format="xyxy", normalized=False)
