"""A detector that proposes boxes, and looks at each of them again."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from example.anchor_heads import centers_of, square_anchors
from example.data import Task
from example.detector import Detector, detections, flat
from example.model import DenseModel, Pyramid
from losses import DeltaXYWHCoder, RoICriterion, RPNCriterion
from matchers import Assignment, Predictions, RandomSampler, Targets

# In strides; digits are 16 to 36 pixels high.
_SIDES = (3.0,)
_PROPOSALS, _CELLS, _HIDDEN = 48, 5, 128
_ANCHOR_CODER, _BOX_CODER = DeltaXYWHCoder(), DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))


class TwoStageModel(nn.Module):
    """A region proposal network, and a head for the proposals with the highest objectness (Faster R-CNN, 2015).

    Nothing is left out because it overlaps: so many proposals of all levels are looked at.
    """

    priors: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.proposing = DenseModel(task, {"classes": 1, "boxes": 4})
        self.pyramid: Pyramid = self.proposing.pyramid
        self.register_buffer("priors", square_anchors(task, _SIDES), persistent=False)
        self.look = nn.Sequential(nn.Linear(self.pyramid.channels * _CELLS**2, _HIDDEN), nn.ReLU(inplace=True))
        self.classes = nn.Linear(_HIDDEN, task.num_classes + 1)
        self.boxes = nn.Linear(_HIDDEN, 4)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Objectness and boxes of anchors as maps, and class scores and boxes of proposals (B, K, 4)."""
        features = self.pyramid(images)
        maps = self.proposing.of_features(features)
        with torch.no_grad():
            proposals = self._proposals(maps)
        seen = self.look(self._cut_out(features[0], proposals).flatten(2))
        return {
            "objectness": maps["classes"],
            "anchor_boxes": maps["boxes"],
            "proposals": proposals,
            "classes": self.classes(seen),
            "boxes": self.boxes(seen),
        }

    def _proposals(self, maps: dict[str, list[Tensor]]) -> Tensor:
        size = float(self.task.image_size)
        boxes = _ANCHOR_CODER.decode(self.priors, flat(maps["boxes"], 4).float(), canvas_size=(size, size))
        best = flat(maps["classes"], 1).squeeze(-1).topk(_PROPOSALS, -1).indices
        chosen = boxes.gather(1, best.unsqueeze(-1).expand(-1, -1, 4))
        # A box of some size, whose middle is in the image.
        middle = centers_of(chosen).clamp(1.0, size - 1.0)
        half = (chosen[..., 2:] - chosen[..., :2]).clamp(min=4.0) / 2
        return torch.cat([middle - half, middle + half], -1)

    def _cut_out(self, features: Tensor, proposals: Tensor) -> Tensor:
        """Features (B, K, cells, channels) in the middle of the cells of each proposal, interpolated (RoI align)."""
        steps = (torch.arange(_CELLS, device=proposals.device) + 0.5) / _CELLS
        first, size = proposals[..., None, :2], proposals[..., None, 2:] - proposals[..., None, :2]
        x, y = (first + size * steps.unsqueeze(-1)).unbind(-1)
        grid = torch.stack(torch.broadcast_tensors(x.unsqueeze(-2), y.unsqueeze(-1)), -1).flatten(2, 3)
        grid = (grid * (2 / self.task.image_size) - 1).to(features.dtype)
        return F.grid_sample(features, grid, align_corners=False).permute(0, 2, 3, 1)


class TwoStageLoss(nn.Module):
    """The terms of both stages."""

    def __init__(self, task: Task, priors: Tensor, reduction: str) -> None:
        super().__init__()
        every_anchor = RandomSampler(num_samples=2 * len(priors), positive_fraction=1.0)
        self.proposing = RPNCriterion(anchors=priors, sampler=every_anchor, reduction=reduction)
        self.looking = RoICriterion(
            task.num_classes + 1,
            bg_class_position="last",
            sampler=RandomSampler(num_samples=2 * _PROPOSALS),
            reduction=reduction,
        )

    def forward(self, output: dict[str, Any], targets: Targets) -> dict[str, Tensor]:
        """The losses of an output of `TwoStageModel`."""
        first: dict[str, Tensor] = self.proposing((output["objectness"], output["anchor_boxes"]), targets)
        second: dict[str, Tensor] = self.looking(self._of_proposals(output), targets)
        return first | second

    def assign(self, output: dict[str, Any], targets: Targets) -> Assignment:
        """Which proposal learns which digit."""
        found: Assignment = self.looking.assign(self._of_proposals(output), targets)
        return found

    def _of_proposals(self, output: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        return output["classes"], output["boxes"], output["proposals"]


def faster_rcnn(task: Task) -> Detector:
    """Faster R-CNN: a network that proposes boxes, and a head that looks at the best of them."""
    model = TwoStageModel(task)
    priors = square_anchors(task, _SIDES)

    def decode(output: dict[str, Any]) -> Predictions:
        boxes = _BOX_CODER.decode(output["proposals"], output["boxes"].float())
        return detections(output["classes"].softmax(dim=-1)[..., :-1], boxes)

    return Detector(
        model=model,
        make_criterion=lambda reduction: TwoStageLoss(task, priors, reduction),
        inputs=lambda output: output,
        decode=decode,
        centers=lambda output: centers_of(output["proposals"]),
    )


DETECTORS = (faster_rcnn,)
