"""Seeded inputs for criteria: what the heads of detectors say, as tensors that need a gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.scenes import NUM_CLASSES, STRIDES, Scene, Size, dense_scene, normalized, set_scene
from losses import CenterLogSizeCoder, DistanceCoder
from matchers import grid_points

LAYERS = 4
REG_MAX = 32
BINS = 16
ATSS_STRIDES = (8, 16, 32, 64, 128)
SSD_LEVELS = ((16, 4), (32, 5))
DN_QUERIES = 100


@dataclass(frozen=True)
class CriterionScene:
    """Ground truth (xyxy, pixels) as lists, and the output of a head.

    Args:
        truth: Where the ground truth is from.
        output: What the criterion is called with.
        leaves: Tensors in it that need a gradient.
    """

    truth: Scene
    output: Any
    leaves: list[Tensor] = field(default_factory=list)

    @property
    def boxes(self) -> list[Tensor]:
        """xyxy, pixels."""
        return self.truth.boxes

    @property
    def labels(self) -> list[Tensor]:
        """Of each image (n,)."""
        return self.truth.labels

    @property
    def num_predictions(self) -> int:
        """Of an image; for a head with several layers, of one."""
        assert self.truth.predictions.boxes is not None
        return self.truth.predictions.boxes.shape[1]

    @property
    def fractions(self) -> list[Tensor]:
        """The boxes as cxcywh, fractions of the image."""
        return normalized(self.truth)


class _Leaves(list[Tensor]):
    def add(self, tensor: Tensor) -> Tensor:
        self.append(tensor.detach().clone(memory_format=torch.contiguous_format).requires_grad_())
        return self[-1]

    def maps(self, values: Tensor, canvas: int) -> list[Tensor]:
        """Values (B, P, K) as maps of the levels (B, K, h, w)."""
        sides = [canvas // stride for stride in STRIDES]
        parts = values.split([side * side for side in sides], 1)
        return [self.add(part.mT.unflatten(-1, (side, side))) for part, side in zip(parts, sides, strict=True)]


def set_outputs(size: Size, layers: int = 1) -> CriterionScene:
    """Queries of a decoder; those of the layers before the last are less sure."""
    scene, leaves = set_scene(size), _Leaves()
    boxes = _boxes(scene).clamp(1e-3, 1 - 1e-3)
    generator = torch.Generator().manual_seed(4)
    before = [_guess(leaves, boxes, len(scene.boxes), generator) for _ in range(layers - 1)]
    output: dict[str, Any] = {"pred_logits": leaves.add(_logits(scene)), "pred_boxes": leaves.add(boxes)}
    return CriterionScene(scene, output | {"aux_outputs": before} if before else output, leaves)


def refined_outputs(size: Size, layers: int = LAYERS) -> CriterionScene:
    """Layers of queries that refine distributions, an encoder's, and a first guess."""
    scene, leaves = set_scene(size), _Leaves()
    generator = torch.Generator().manual_seed(5)
    output, boxes = _refined(leaves, (len(scene.boxes), _boxes(scene).shape[1]), layers, generator)
    output["enc_aux_outputs"] = [_guess(leaves, boxes, len(scene.boxes), generator)]
    output["up"], output["reg_scale"] = torch.tensor([0.5]), torch.tensor([4.0])
    return CriterionScene(scene, output, leaves)


def decoder_outputs(size: Size, layers: int = LAYERS) -> CriterionScene:
    """As ``refined_outputs``, and denoising queries."""
    made = refined_outputs(size, layers)
    scene, output, leaves = made.truth, made.output, _Leaves(made.leaves)
    generator = torch.Generator().manual_seed(6)
    counts = [len(each) for each in scene.boxes]
    images, most = len(counts), max(counts)
    groups = max(DN_QUERIES // max(most, 1), 1)
    denoised, _ = _refined(leaves, (images, 2 * most * groups), layers, generator)
    output["dn_pre_outputs"] = denoised.pop("pre_outputs")
    output["dn_outputs"] = [*denoised.pop("aux_outputs"), denoised]
    denoised |= {"teacher_corners": denoised["pred_corners"], "teacher_logits": denoised["pred_logits"]}
    positive = [torch.cat([torch.arange(count) + 2 * most * k for k in range(groups)]) for count in counts]
    output["dn_meta"] = {
        "dn_positive_idx": positive,
        "dn_num_group": groups,
        "dn_num_split": [2 * most * groups, made.num_predictions],
    }
    return CriterionScene(scene, output, leaves)


def _guess(leaves: _Leaves, boxes: Tensor, images: int, generator: torch.Generator) -> dict[str, Tensor]:
    logits = torch.randn(images, boxes.shape[1], NUM_CLASSES, generator=generator) - 2
    near = (boxes + 0.02 * torch.randn(boxes.shape, generator=generator)).clamp(1e-3, 1 - 1e-3)
    return {"pred_logits": leaves.add(logits), "pred_boxes": leaves.add(near)}


def _refined(
    leaves: _Leaves, shape: tuple[int, int], num_layers: int, generator: torch.Generator
) -> tuple[dict[str, Any], Tensor]:
    images, queries = shape
    centre = torch.rand(images, queries, 2, generator=generator)
    boxes = torch.cat([centre, torch.rand(images, queries, 2, generator=generator) * 0.4 + 0.02], -1)
    layers: list[dict[str, Tensor]] = []
    for _ in range(num_layers):
        corners = torch.randn(images, queries, 4 * (REG_MAX + 1), generator=generator)
        layers.append(_guess(leaves, boxes, images, generator))
        layers[-1] |= {"pred_corners": leaves.add(corners), "ref_points": boxes}
    teacher = {"teacher_corners": layers[-1]["pred_corners"], "teacher_logits": layers[-1]["pred_logits"]}
    aux = [layer | teacher for layer in layers[:-1]]
    return {**layers[-1], "aux_outputs": aux, "pre_outputs": _guess(leaves, boxes, images, generator)}, boxes


def yolox_maps(size: Size) -> CriterionScene:
    """Class scores, centres with logarithms of sizes, and objectness."""
    scene, leaves = dense_scene(size), _Leaves()
    points = grid_points((scene.canvas, scene.canvas), STRIDES, offset=0.0)
    deltas = CenterLogSizeCoder().encode(points, _boxes(scene))
    output = tuple(leaves.maps(each, scene.canvas) for each in (_logits(scene), deltas, _logits(scene)[..., :1] + 1))
    return CriterionScene(scene, output, leaves)


def rtmdet_maps(size: Size) -> CriterionScene:
    """Class scores and distances in pixels."""
    scene, leaves = dense_scene(size), _Leaves()
    points = grid_points((scene.canvas, scene.canvas), STRIDES, offset=0.0)
    distances = DistanceCoder().encode(points, _boxes(scene)).clamp(min=1)
    output = tuple(leaves.maps(each, scene.canvas) for each in (_logits(scene), distances))
    return CriterionScene(scene, output, leaves)


def yolov9_maps(size: Size) -> CriterionScene:
    """Class scores and distributions of distances in strides."""
    scene, leaves = dense_scene(size), _Leaves()
    generator = torch.Generator().manual_seed(7)
    points = grid_points((scene.canvas, scene.canvas), STRIDES)
    distances = DistanceCoder(scale_by_stride=True).encode(points, _boxes(scene)).clamp(0, BINS - 1)
    near = -2 * (torch.arange(BINS).unsqueeze(-1) - distances.unsqueeze(-2)).abs()
    noise = 0.3 * torch.randn(near.shape, generator=generator)
    distributions = leaves.maps((near + noise).flatten(-2), scene.canvas)
    scores = leaves.maps(_logits(scene), scene.canvas)
    levels = [(each, maps.unflatten(1, (BINS, 4))) for each, maps in zip(scores, distributions, strict=True)]
    return CriterionScene(scene, levels, leaves)


def yolov8_head(size: Size) -> CriterionScene:
    """Flat maps of class scores and distributions, and the maps that say how the cells lie."""
    scene = yolov9_maps(size)
    leaves = _Leaves()
    scores = leaves.add(torch.cat([level[0].flatten(2) for level in scene.output], -1))
    # Of each side its bins, and not the other way round.
    boxes = leaves.add(torch.cat([level[1].transpose(1, 2).flatten(3).flatten(1, 2) for level in scene.output], -1))
    feats = [level[0].detach() for level in scene.output]
    return CriterionScene(scene.truth, {"scores": scores, "boxes": boxes, "feats": feats}, leaves)


def yolo26_heads(size: Size) -> CriterionScene:
    """Two heads of class scores and distances in strides."""
    scene, leaves = dense_scene(size), _Leaves()
    points = grid_points((scene.canvas, scene.canvas), STRIDES)
    distances = DistanceCoder(scale_by_stride=True).encode(points, _boxes(scene))
    feats = [torch.zeros(len(scene.boxes), 1, *[scene.canvas // stride] * 2) for stride in STRIDES]
    heads = {
        name: {"scores": leaves.add(_logits(scene).mT), "boxes": leaves.add(distances.mT), "feats": feats}
        for name in ("one2many", "one2one")
    }
    return CriterionScene(scene, heads, leaves)


def atss_maps(size: Size) -> CriterionScene:
    """Class scores, deltas and centerness of five levels."""
    scene, leaves = dense_scene(size), _Leaves()
    generator = torch.Generator().manual_seed(8)
    output: tuple[list[Tensor], ...] = ([], [], [])
    for stride in ATSS_STRIDES:
        for maps, channels, scale, mean in zip(
            output, (NUM_CLASSES, 4, 1), (1.0, 0.5, 1.0), (-3.0, 0.0, -2.0), strict=True
        ):
            shape = (len(scene.boxes), channels, scene.canvas // stride, scene.canvas // stride)
            maps.append(leaves.add(torch.randn(shape, generator=generator) * scale + mean))
    return CriterionScene(scene, output, leaves)


def ssd_maps(size: Size) -> CriterionScene:
    """Class scores, with a background, and deltas, of four and five anchors to a cell of two levels."""
    scene, leaves = dense_scene(size), _Leaves()
    generator = torch.Generator().manual_seed(9)
    output: tuple[list[Tensor], ...] = ([], [])
    for stride, count in SSD_LEVELS:
        for maps, channels in zip(output, (NUM_CLASSES + 1, 4), strict=True):
            shape = (len(scene.boxes), count * channels, scene.canvas // stride, scene.canvas // stride)
            maps.append(leaves.add(torch.randn(shape, generator=generator)))
    return CriterionScene(scene, output, leaves)


def default_box_outputs(size: Size) -> CriterionScene:
    """Deltas (B, 4, D) and scores (B, C + 1, D) of the 8,732 default boxes of SSD300."""
    scene, leaves = dense_scene(size), _Leaves()
    generator = torch.Generator().manual_seed(9)
    shape = (len(scene.boxes), 4 + NUM_CLASSES + 1, 8732)
    boxes, scores = torch.randn(shape, generator=generator).split((4, NUM_CLASSES + 1), 1)
    return CriterionScene(scene, (leaves.add(boxes), leaves.add(scores)), leaves)


def pair_outputs(size: Size) -> CriterionScene:
    """300 queries with logits of 81 classes, the first the background, and xyxy boxes in fractions of the image."""
    scene, leaves = set_scene(size), _Leaves()
    generator = torch.Generator().manual_seed(6)
    boxes = _boxes(scene)
    logits = torch.randn(*boxes.shape[:2], NUM_CLASSES + 1, generator=generator) - 2
    corners = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
    return CriterionScene(scene, {"pred_logits": leaves.add(logits), "pred_boxes": leaves.add(corners)}, leaves)


def _logits(scene: Scene) -> Tensor:
    assert scene.predictions.logits is not None
    return scene.predictions.logits


def _boxes(scene: Scene) -> Tensor:
    assert scene.predictions.boxes is not None
    return scene.predictions.boxes
