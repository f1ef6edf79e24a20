"""The network of detection transformers: cells propose boxes, the best become queries, decoder layers refine them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from example.data import Task
from example.model import WIDTH, Pyramid, start_unlikely
from losses import distance2bbox, integral, weighting_function
from matchers import grid_points

NUM_QUERIES, NUM_LAYERS, NUM_HEADS = 40, 2, 4
NUM_GROUPS = 3
"""Of queries, in training."""
REG_MAX, UP, REG_SCALE = 8, 0.5, 4.0
"""Of D-FINE: its bins to a side are one more than the first; the others say how wide they are."""

# Side of the box that a cell starts from, in strides.
_FIRST_SIDE = 2.5


class Proposals(NamedTuple):
    """What the cells know and propose, and the queries made of the best."""

    memory: Tensor
    """(B, N, D), of all cells."""
    places: Tensor
    """(N, 4), their boxes before anything is learnt, cxcywh in fractions of the image."""
    cells: dict[str, Tensor]
    """Logits and boxes of all cells, as criteria take them."""
    queries: Tensor
    """(B, Q, D)."""
    boxes: Tensor
    """(B, Q, 4), from which the decoder starts; constants."""
    chosen: Tensor
    """(B, Q), which cells they come from."""
    apart: Tensor | None = None
    """(Q, Q), which queries do not see each other."""


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the image."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.among = nn.MultiheadAttention(size, NUM_HEADS, batch_first=True)
        self.across = nn.MultiheadAttention(size, NUM_HEADS, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(size, 2 * size), nn.ReLU(), nn.Linear(2 * size, size))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))

    def forward(
        self, queries: Tensor, at: Tensor, memory: Tensor, memory_at: Tensor, apart: Tensor | None = None
    ) -> Tensor:
        """Queries (B, Q, D) and memory (B, N, D), with where they are, embedded alike; ``apart`` (Q, Q), bool, says
        which queries do not see each other."""
        placed = queries + at
        seen = self.among(placed, placed, queries, attn_mask=apart, need_weights=False)[0]
        queries = self.norms[0](queries + seen)
        found = self.across(queries + at, memory + memory_at, memory, need_weights=False)[0]
        queries = self.norms[1](queries + found)
        return self.norms[2](queries + self.feed(queries))


class QueryModel(nn.Module):
    """What DETR and D-FINE have in common (Zhao et al., RT-DETR, 2024: queries are the best cells)."""

    def __init__(self, task: Task, width: int = WIDTH, *, groups: int = 1) -> None:
        super().__init__()
        self.task, self.pyramid = task, Pyramid(task, width)
        size = self.pyramid.channels
        self.of_cell = nn.Sequential(nn.Linear(size, size), nn.LayerNorm(size))
        self.cell_classes, self.cell_boxes = nn.Linear(size, groups * task.num_classes), box_head(size, groups * 4)
        self.place = nn.Linear(size, size)
        self.layers = nn.ModuleList(DecoderLayer(size) for _ in range(NUM_LAYERS))
        self.classes = nn.ModuleList(nn.Linear(size, task.num_classes) for _ in range(NUM_LAYERS))
        for head in (self.cell_classes, *self.classes):
            start_unlikely(head)

    def look(self, images: Tensor) -> Tensor:
        """What all cells of images (B, C, H, W) know, (B, N, D)."""
        features = self.pyramid(images)
        memory: Tensor = self.of_cell(torch.cat([level.flatten(2) for level in features], dim=-1).mT)
        return memory

    def propose(self, images: Tensor) -> Proposals:
        """Proposals for images (B, C, H, W)."""
        memory = self.look(images)
        places = cell_places(self.task, memory.device)
        logits = self.cell_classes(memory)
        boxes = (self.cell_boxes(memory).float() + places.logit()).sigmoid()
        chosen = logits.amax(dim=-1).topk(min(NUM_QUERIES, logits.shape[1]), dim=1).indices
        queries = memory.gather(1, chosen.unsqueeze(-1).expand(-1, -1, memory.shape[-1]))
        own = boxes.detach().gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
        return Proposals(memory, places, {"pred_logits": logits, "pred_boxes": boxes}, queries, own, chosen)

    def refine(self, layer: nn.Module, queries: Tensor, boxes: Tensor, found: Proposals) -> Tensor:
        """The queries (B, Q, D) after a layer, given where they are, (B, Q, 4)."""
        size = found.memory.shape[-1]
        at, memory_at = self.place(embed_boxes(boxes, size)), self.place(embed_boxes(found.places, size))
        return layer(queries, at, found.memory, memory_at, found.apart)


class DetrModel(QueryModel):
    """Each layer moves the boxes of the one before."""

    def __init__(self, task: Task, width: int = WIDTH, *, groups: int = 1) -> None:
        super().__init__(task, width, groups=groups)
        self.boxes = nn.ModuleList(box_head(self.pyramid.channels, 4) for _ in range(NUM_LAYERS))

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Outputs as `DetrCriterion` takes them, and the cells that queries come from as ``"chosen"`` (B, Q)."""
        found = self.propose(images)
        queries, boxes, outputs = found.queries, found.boxes, []
        for layer, classes, move in zip(self.layers, self.classes, self.boxes, strict=True):
            queries = self.refine(layer, queries, boxes, found)
            moved = (move(queries).float() + boxes.logit(eps=1e-5)).sigmoid()
            outputs.append({"pred_logits": classes(queries), "pred_boxes": moved})
            boxes = moved.detach()
        return {**outputs[-1], "aux_outputs": outputs[:-1], "enc_aux_outputs": [found.cells], "chosen": found.chosen}


class GroupedDetrModel(DetrModel):
    """As `DetrModel`; in training several groups of queries, which do not see each other, and in evaluation the first.

    Each group has a head of its own for the cells, and contents that are learned (Chen et al., Group DETR, 2023, and
    LW-DETR, 2024).
    """

    def __init__(self, task: Task, width: int = WIDTH, *, groups: int = NUM_GROUPS) -> None:
        super().__init__(task, width, groups=groups)
        self.groups = groups
        self.contents = nn.Parameter(torch.randn(groups, NUM_QUERIES, self.pyramid.channels))

    def propose(self, images: Tensor) -> Proposals:
        """Proposals for images (B, C, H, W): of each group its best cells."""
        groups, memory = self.groups if self.training else 1, self.look(images)
        places = cell_places(self.task, memory.device)
        logits = self.cell_classes(memory).unflatten(-1, (self.groups, -1))[..., :groups, :].movedim(2, 1)
        moves = self.cell_boxes(memory).float().unflatten(-1, (self.groups, 4))[..., :groups, :].movedim(2, 1)
        boxes = (moves + places.logit()).sigmoid()
        chosen = logits.amax(dim=-1).topk(min(NUM_QUERIES, logits.shape[2]), dim=-1).indices
        best = {
            name: values.gather(2, chosen.unsqueeze(-1).expand(-1, -1, -1, values.shape[-1])).flatten(1, 2)
            for name, values in (("pred_logits", logits), ("pred_boxes", boxes))
        }
        queries = self.contents[:groups, : chosen.shape[-1]].flatten(0, 1).expand(len(images), -1, -1)
        own = torch.arange(groups, device=images.device).repeat_interleave(chosen.shape[-1])
        apart = own.unsqueeze(0) != own.unsqueeze(1)
        return Proposals(memory, places, best, queries, best["pred_boxes"].detach(), chosen.flatten(1), apart)


class DFineModel(QueryModel):
    """Each layer refines distributions of where the sides of the first boxes are (Peng et al., D-FINE, 2024)."""

    def __init__(self, task: Task, width: int = WIDTH) -> None:
        super().__init__(task, width)
        size = self.pyramid.channels
        self.first_classes, self.first_boxes = nn.Linear(size, task.num_classes), box_head(size, 4)
        start_unlikely(self.first_classes)
        self.corners = nn.ModuleList(box_head(size, 4 * (REG_MAX + 1)) for _ in range(NUM_LAYERS))
        self.register_buffer("up", torch.tensor([UP]))
        self.register_buffer("reg_scale", torch.tensor([REG_SCALE]))

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Outputs as `DFINECriterion` takes them, and the cells that queries come from as ``"chosen"`` (B, Q)."""
        found = self.propose(images)
        queries, boxes = found.queries, found.boxes
        bins = weighting_function(REG_MAX, UP, REG_SCALE, device=images.device)
        corners: Any = 0.0
        first: dict[str, Tensor] = {}
        outputs: list[dict[str, Tensor]] = []
        for layer, classes, shift in zip(self.layers, self.classes, self.corners, strict=True):
            queries = self.refine(layer, queries, boxes, found)
            if not first:
                guess = (self.first_boxes(queries).float() + boxes.logit(eps=1e-5)).sigmoid()
                first = {"pred_logits": self.first_classes(queries), "pred_boxes": guess}
            reference = first["pred_boxes"].detach()
            corners = corners + shift(queries).float()
            sides = integral(corners.unflatten(-1, (4, REG_MAX + 1)), bins)
            moved = distance2bbox(reference, sides, reg_scale=REG_SCALE)
            layer_output = {"pred_logits": classes(queries), "pred_boxes": moved}
            outputs.append({**layer_output, "pred_corners": corners, "ref_points": reference})
            boxes = moved.detach().clamp(0, 1)
        teacher = {"teacher_corners": corners, "teacher_logits": outputs[-1]["pred_logits"]}
        auxiliary = [output | teacher for output in outputs[:-1]]
        constants = {"up": self.up, "reg_scale": self.reg_scale, "chosen": found.chosen}
        others = {"aux_outputs": auxiliary, "pre_outputs": first, "enc_aux_outputs": [found.cells]}
        return {**outputs[-1], **others, **constants}


def box_head(size: int, channels: int) -> nn.Sequential:
    """Two linear layers that start by moving nothing."""
    last = nn.Linear(size, channels)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), last)


def cell_places(task: Task, device: torch.device) -> Tensor:
    """A box (N, 4) around the centre of each cell, cxcywh in fractions of the image."""
    points = grid_points((task.image_size, task.image_size), task.strides, device=device) / task.image_size
    return torch.cat([points[:, :2], (_FIRST_SIDE * points[:, 2:]).clamp(max=0.95)], dim=-1)


def embed_boxes(boxes: Tensor, size: int) -> Tensor:
    """Sines and cosines (…, size) of boxes (…, 4), which tell places apart coarsely and finely."""
    waves = size // 8
    frequencies = math.pi * 2.0 ** torch.linspace(0, 6, waves, device=boxes.device)
    angles = (boxes.unsqueeze(-1) * frequencies).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
