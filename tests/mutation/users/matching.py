"""Matchers that users may write, right ones: bugs are planted into copies of this module."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import pad

from matchers import Assignment, Plan, Predictions, Targets, convert, denormalize, giou, iou, pairwise
from ragged import RaggedBatch


def predicted_boxes(predictions: Predictions, targets: Targets) -> Tensor:
    """(*batch, P, 4), xyxy in pixels."""
    boxes = predictions.boxes.detach().float().nan_to_num(0, 0, 0)
    boxes = convert(boxes, predictions.box_format or targets.box_format, "xyxy")
    normalized = targets.normalized if predictions.normalized is None else predictions.normalized
    return denormalize(boxes, targets.canvas_size.to(boxes)) if normalized else boxes


def true_boxes(targets: Targets) -> Tensor:
    """(*batch, G, 4), xyxy in pixels."""
    return targets.boxes_as("xyxy", normalized=False).float()


def ignored_region(predictions: Predictions, targets: Targets) -> Tensor:
    """(*batch, P): whether at least half of the predicted box lies in an ignored target."""
    one, other = true_boxes(targets).unsqueeze(-2), predicted_boxes(predictions, targets).unsqueeze(-3)
    sides = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(min=0)
    share = sides.prod(-1) / (other[..., 2:] - other[..., :2]).prod(-1).clamp(min=1e-9)
    return ((share >= 0.5) & targets.ignored.unsqueeze(-1)).any(-2)


def filler_of(predictions: Predictions) -> Tensor:
    """(*batch, P), or (1,) where all images have P predictions."""
    mask = predictions.mask
    return torch.zeros(1, dtype=torch.bool, device=predictions.device) if mask is None else ~mask


def settled(index: Tensor, predictions: Predictions, region: Tensor) -> Tensor:
    """The index with -2 for background in an ignored region, and for filler of predictions."""
    return torch.where(region & (index == -1) | filler_of(predictions), -2, index)


class BestOverlap:
    """Each prediction goes to the target of best score, overlap times probability of its class, if that is enough."""

    def __init__(self, threshold: float = 0.3) -> None:
        self.threshold = threshold
        self.calls = 0

    def scores(self, predictions: Predictions, targets: Targets) -> Tensor:
        """(*batch, G, P), -1 for what is no target."""
        overlap = pairwise(iou, true_boxes(targets), predicted_boxes(predictions, targets))
        labels = targets.padded_labels()
        probability = predictions.logits.detach().float().nan_to_num(0, 0, 0).sigmoid()
        index = labels.unsqueeze(-2).expand(*probability.shape[:-1], -1)
        scores = (overlap + probability.gather(-1, index).mT) / 2 * (overlap > 0)
        scores = torch.where(filler_of(predictions).unsqueeze(-2), -1, scores)
        return torch.where(targets.matchable.unsqueeze(-1), scores, -1)

    def __call__(self, predictions: Predictions, targets: Targets) -> Assignment:
        """Match a batch."""
        table = self.scores(predictions, targets)
        best, index = pad(table, (0, 0, 0, 1), value=-1).max(-2)
        positive = best >= self.threshold
        quality = torch.where(positive, best, 0)
        index = settled(torch.where(positive, index, -1), predictions, ignored_region(predictions, targets))
        count = targets.max_num_targets
        return Assignment.from_index(index, num_targets=targets.num_targets, max_num_targets=count, quality=quality)


class OneToOne:
    """The cheapest matching of targets and predictions, image by image."""

    def costs(self, predictions: Predictions, targets: Targets) -> Tensor:
        """(*batch, G, P)."""
        predicted, wanted = predicted_boxes(predictions, targets), true_boxes(targets)
        return 1 - pairwise(giou, wanted, predicted)

    def __call__(self, predictions: Predictions, targets: Targets) -> Assignment:
        """Match a batch."""
        shape = predictions.batch_shape
        costs = self.costs(predictions, targets).expand(*shape, -1, -1)
        size = (math.prod(shape), *costs.shape[-2:])
        matchable = targets.matchable.expand(*shape, -1).reshape(size[:2])
        index = torch.full((size[0], size[2]), -1)
        real = ~filler_of(predictions).expand(*shape, size[2]).reshape(size[0], size[2])
        for image, (table, live) in enumerate(zip(costs.reshape(size), matchable, strict=True)):
            rows, columns = live.nonzero().flatten(), real[image].nonzero().flatten()
            found, places = linear_sum_assignment(table[rows][:, columns].numpy())
            index[image, columns[torch.as_tensor(places)]] = rows[torch.as_tensor(found)]
        index = settled(index.reshape(*shape, -1), predictions, ignored_region(predictions, targets))
        count = targets.max_num_targets
        return Assignment.from_index(index, num_targets=targets.num_targets, max_num_targets=count, per_target=1)


class Shares:
    """Each prediction is shared out among the targets of its image, and the background, by a softmax of overlaps."""

    def __call__(self, predictions: Predictions, targets: Targets) -> Plan:
        """Match a batch."""
        overlap = pairwise(iou, true_boxes(targets), predicted_boxes(predictions, targets)).mT
        level = torch.where(targets.matchable.unsqueeze(-2), overlap * 8, -math.inf)
        shares = pad(level, (0, 1), value=4.0).softmax(-1)
        shares = torch.where(filler_of(predictions).unsqueeze(-1), 0, shares)
        sizes = targets.num_targets.expand(shares.shape[:-2])
        weights = RaggedBatch(shares[..., :-1], sample_sizes=sizes, non_uniform_dim=shares.dim() - 1)
        background = torch.where(ignored_region(predictions, targets), 0, shares[..., -1])
        return Plan(weights, background, torch.zeros_like(sizes))


class Inside:
    """A point belongs to the smallest target that holds it."""

    def __call__(self, predictions: Any, targets: Targets, points: Tensor) -> Assignment:
        """Match a batch."""
        boxes = true_boxes(targets)
        x, y = points[:, 0], points[:, 1]
        x1, y1, x2, y2 = boxes.unsqueeze(-1).unbind(-2)
        inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
        area = (x2 - x1) * (y2 - y1)
        cost = torch.where(inside & targets.matchable.unsqueeze(-1), area, math.inf)
        best, index = pad(cost, (0, 0, 0, 1), value=math.inf).min(-2)
        index = torch.where(best.isfinite(), index, -1)
        region = (inside & targets.ignored.unsqueeze(-1)).any(-2)
        index = torch.where(region & (index == -1), -2, index)
        index = index.expand(*predictions.batch_shape, -1).clone()
        count = targets.max_num_targets
        return Assignment.from_index(index, num_targets=targets.num_targets, max_num_targets=count)
