"""Random scenes of dense heads, whose predictions belong to points: boxes of all sizes, twins, extreme logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from matchers.pairs.predictions import Predictions
from matchers.testing.random_scenes import make_scene
from matchers.testing.scene import CANVAS, Scene
from ragged.testing import refilled

ODD_BOXES = ((-900.0, -900.0, 900.0, 900.0), (200.0, 210.0, 230.0, 260.0), (30.0, 30.0, 30.001, 30.002), (8, 8, 8, 40))
"""Huge, outside, tiny, without area."""

SCENES: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd": {"odd": True},
    "twins": {"twins": True},
    "ties": {"steps": 8, "degenerate": 0.2},
    "many ties": {"steps": 4, "twins": True, "ignored": 0.3},
    "extreme": {"extreme": True},
    "bad": {"bad": 0.3, "twins": True},
    "all bad": {"bad": 1.0},
    "layers": {"layers": (2,), "ignored": 0.4, "slack": 2, "filler": "nan", "objectness": False},
}
"""Options of ``dense_scene`` by name."""


def dense_scene(
    sizes: Sequence[Any],
    points: Tensor,
    seed: int = 0,
    *,
    odd: bool = False,
    twins: bool = False,
    bad: float = 0.0,
    objectness: bool = True,
    extreme: bool = False,
    num_classes: int = 4,
    **options: Any,
) -> Scene:
    """A scene of ``make_scene`` whose boxes are mostly those of the target nearest to their points.

    Args:
        sizes, seed, num_classes, options: As for ``make_scene``.
        points: (P, ≥ 2).
        odd: The first targets of each image are ``ODD_BOXES``.
        twins: Every second target duplicates the one before.
        bad: Fraction of predictions with a non-finite box coordinate or NaN logits.
        objectness: Whether predictions have objectness.
        extreme: Logits are so large that a sigmoid or softmax of them is 0 or 1, of either sign.
    """
    scene = make_scene(sizes, len(points), num_classes, seed, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    own, boxes, logits = scene.targets, scene.boxes.clone(), scene.logits.clone()
    gt, labels = own.boxes.with_padded_set_to(0).tensor.clone(), own.labels.with_padded_set_to(0).tensor.clone()
    if odd:
        first = min(len(ODD_BOXES), gt.shape[-2])
        gt[..., :first, :] = torch.tensor(ODD_BOXES)[:first]
    if twins:
        half = gt.shape[-2] // 2
        gt[..., 1 : 2 * half : 2, :] = gt[..., 0 : 2 * half : 2, :]
        labels[..., 1 : 2 * half : 2] = labels[..., 0 : 2 * half : 2]
    if gt.shape[-2] and len(points):
        centers = (gt[..., :2] + gt[..., 2:]) / 2
        distance = torch.cdist(points[:, :2].expand(*gt.shape[:-2], -1, 2), centers)
        nearest = distance.masked_fill(~own.mask.unsqueeze(-2), math.inf).argmin(-1, keepdim=True)
        guess = gt.gather(-2, nearest.expand(*nearest.shape[:-1], 4)).expand_as(boxes)
        width = (guess[..., 2:] - guess[..., :2]).repeat_interleave(2, -1).roll(1, -1).clamp(max=CANVAS)
        shift = torch.randn(boxes.shape, generator=generator) * 0.08 * (options.get("steps") is None)
        guess = guess + shift * width
        guess = torch.cat([guess[..., :2], torch.maximum(guess[..., :2], guess[..., 2:])], -1)
        chosen = (torch.rand(boxes.shape[:-1], generator=generator) < 0.7) & (own.num_targets > 0).unsqueeze(-1)
        boxes = torch.where(chosen.unsqueeze(-1), guess, boxes)
    hit = torch.rand(boxes.shape[:-1], generator=generator)
    boxes[..., 2] = torch.where(hit < bad / 3, math.nan, boxes[..., 2])
    boxes[..., 1] = torch.where((hit > bad / 3) & (hit < bad / 2), -math.inf, boxes[..., 1])
    logits[..., 1] = torch.where((hit > bad / 2) & (hit < bad), math.nan, logits[..., 1])
    if extreme:
        logits = logits * 1e4
    confidence = torch.randn(boxes.shape[:-1], generator=generator) if objectness else None
    if confidence is not None and options.get("steps") is not None:
        confidence = confidence.round()
    filled = own.boxes.create_with_sample_sizes_like_self(gt), own.labels.create_with_sample_sizes_like_self(labels)
    filler = options.get("filler", "zeros")
    targets = replace(own, boxes=refilled(filled[0], filler), labels=refilled(filled[1], filler))
    return Scene(Predictions(logits, boxes, confidence), targets)
