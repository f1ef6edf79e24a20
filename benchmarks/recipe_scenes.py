"""Made-up data for the losses of ``example/recipes``, and what they and the loops of tests/reference compute of it."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from example.recipes import boxes3d, keypoints, point_sets, tags, tracking

Truth = list[dict[str, Any]]
Losses = Mapping[str, Any]

NUM_CLASSES_3D, NUM_TAGS = 10, 12


def loops(name: str) -> Any:
    """A module of tests/reference/recipes."""
    folder = str(Path(__file__).parent.parent / "tests")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(f"reference.recipes.{name}")


@dataclass(frozen=True)
class RecipeScene:
    """A recipe and its loop on the same data; both give terms of the same names.

    Args:
        recipe, loop: Compute the terms.
        leaves: What the terms have gradients for.
    """

    recipe: Callable[[], Losses]
    loop: Callable[[], Losses]
    leaves: Sequence[Tensor]


def truth_of_boxes3d(sizes: Sequence[int], generator: Generator) -> Truth:
    """Boxes with a yaw and a velocity, which nobody knows of one in ten."""
    found = []
    for size in sizes:
        yaw = torch.rand(size, 1, generator=generator) * 2 * math.pi
        place, speed = torch.rand(size, 6, generator=generator) + 0.1, torch.randn(size, 2, generator=generator)
        speed[torch.rand(size, generator=generator) < 0.1] = math.nan
        boxes = torch.cat([place, yaw, speed], -1)
        found.append({"boxes3d": boxes, "labels": torch.randint(NUM_CLASSES_3D, (size,), generator=generator)})
    return found


def truth_of_keypoints(sizes: Sequence[int], generator: Generator) -> Truth:
    """Persons; of the first one of many, no keypoint is visible."""
    found = []
    for size in sizes:
        boxes = boxes_of(size, generator)
        places = boxes[:, None, :2] + (torch.rand(size, 17, 2, generator=generator) - 0.5) * boxes[:, None, 2:]
        visible = torch.randint(3, (size, 17, 1), generator=generator).float()
        visible[: size // 3] = 0
        person = {"boxes": boxes, "labels": torch.zeros(size, dtype=torch.int64), "area": boxes[:, 2:].prod(-1) / 2}
        found.append({**person, "keypoints": torch.cat([places, visible], -1)})
    return found


def truth_of_tags(sizes: Sequence[int], generator: Generator) -> Truth:
    """Objects with tags, and with one or two spans of tokens each."""
    found = []
    for size in sizes:
        tokens = int(torch.randint(6, tags.NUM_TOKENS + 1, (), generator=generator))
        starts = torch.randint(tokens - 2, (size, 2), generator=generator).tolist()
        spans = [[(start, start + 1 + start % 3) for start in own[: 1 + row % 2]] for row, own in enumerate(starts)]
        has_tag = (torch.rand(size, NUM_TAGS, generator=generator) < 0.25).float()
        found.append({"boxes": boxes_of(size, generator), "tags": has_tag, "spans": spans, "tokens": tokens})
    return found


def truth_of_frame(sizes: Sequence[int], generator: Generator, before: Truth | None = None, number: int = 0) -> Truth:
    """Objects with ids; those of the frame before may be gone, and some are new."""
    found = []
    for image, size in enumerate(sizes):
        labels = torch.randint(3, (size,), generator=generator)
        own = {"boxes": boxes_of(size, generator), "labels": labels, "ids": 100 * number + torch.arange(size)}
        if before is not None:
            stays = torch.rand(len(before[image]["ids"]), generator=generator) < 0.7
            own = {name: torch.cat([value, before[image][name][stays]]) for name, value in own.items()}
        found.append(own)
    return found


def boxes_of(size: int, generator: Generator) -> Tensor:
    """Boxes (size, 4), cxcywh, in fractions of the image."""
    centre, extent = torch.rand(2, size, 2, generator=generator).unbind(0)
    return torch.cat([0.2 + 0.6 * centre, 0.05 + 0.3 * extent], -1)


def leaf(*shape: int, generator: Generator, boxes: bool = False) -> Tensor:
    """Numbers that a head could give, of normal distribution or boxes, with a gradient."""
    if boxes:
        return (torch.rand(*shape, generator=generator) * 0.4 + 0.1).requires_grad_()
    return torch.randn(*shape, generator=generator).requires_grad_()


def scene_of_boxes3d(sizes: Sequence[int], generator: Generator, queries: int = 50, layers: int = 2) -> RecipeScene:
    truth, batch = truth_of_boxes3d(sizes, generator), (layers, len(sizes))
    numbers = queries, 2 * boxes3d.NUM_GROUPS * max(sizes)
    outputs, denoising = (
        {
            "pred_logits": leaf(*batch, number, NUM_CLASSES_3D, generator=generator),
            "boxes3d": leaf(*batch, number, 10, generator=generator),
        }
        for number in numbers
    )
    return RecipeScene(
        lambda: boxes3d.boxes3d_loss(outputs, denoising, boxes3d.collate(truth)),
        lambda: loops("boxes3d").boxes3d_loss(outputs, denoising, truth),
        [value for each in (outputs, denoising) for value in each.values()],
    )


def scene_of_keypoints(sizes: Sequence[int], generator: Generator, queries: int = 50) -> RecipeScene:
    truth = truth_of_keypoints(sizes, generator)
    outputs = {
        "pred_logits": leaf(len(sizes), queries, 1, generator=generator),
        "pred_boxes": leaf(len(sizes), queries, 4, generator=generator, boxes=True),
        "keypoints": leaf(len(sizes), queries, 17, 2, generator=generator, boxes=True),
    }
    return RecipeScene(
        lambda: keypoints.criterion(outputs, keypoints.collate(truth)),
        lambda: loops("keypoints").keypoint_loss(outputs, truth),
        list(outputs.values()),
    )


def scene_of_tags(sizes: Sequence[int], generator: Generator, queries: int = 50) -> RecipeScene:
    truth = truth_of_tags(sizes, generator)
    outputs = {
        "pred_logits": leaf(len(sizes), queries, tags.NUM_TOKENS, generator=generator),
        "pred_boxes": leaf(len(sizes), queries, 4, generator=generator, boxes=True),
        "tags": leaf(len(sizes), queries, NUM_TAGS, generator=generator),
    }
    return RecipeScene(
        lambda: tags.tag_loss(outputs, *tags.collate(truth)),
        lambda: loops("tags").tag_loss(outputs, truth),
        list(outputs.values()),
    )


class Decoder(nn.Module):
    """A decoder of one layer."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(width, 4, 64, 0.0, batch_first=True)
        self.logits, self.boxes = nn.Linear(width, 3), nn.Linear(width, 4)

    def forward(self, queries: Tensor, memory: Tensor, ignored: Tensor | None) -> dict[str, Tensor]:
        """Logits, boxes and hidden states of the queries."""
        hidden = self.layer(queries, memory, tgt_key_padding_mask=ignored)
        # Far apart: of boxes that all lie to one side of the targets, each pairing has the same L1 distance.
        boxes = (3 * self.boxes(hidden)).sigmoid()
        return {"logits": self.logits(hidden), "boxes": boxes, "hidden": hidden}


def scene_of_tracking(sizes: Sequence[int], generator: Generator, queries: int = 30, frames: int = 2) -> RecipeScene:
    clip = [truth_of_frame(sizes, generator)]
    for number in range(1, frames):
        clip.append(truth_of_frame([size // 3 for size in sizes], generator, clip[-1], number))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        decoder = Decoder()
    detect = leaf(queries, 32, generator=generator)
    memory = leaf(frames, len(sizes), 30, 32, generator=generator)
    return RecipeScene(
        lambda: tracking.clip_loss(decoder, detect, memory, [tracking.collate(frame) for frame in clip]),
        lambda: loops("tracking").clip_loss(decoder, detect, memory, clip),
        [detect, memory, *decoder.parameters()],
    )


def scene_of_point_sets(sizes: Sequence[int], generator: Generator) -> RecipeScene:
    """Clouds of so many points, around up to six points to be found."""
    clouds, points = [], []
    for size in sizes:
        own = torch.randn(int(torch.randint(7, (), generator=generator)), 2, generator=generator)
        base = own[torch.randint(len(own), (size,), generator=generator)] if len(own) else torch.zeros(size, 2)
        feature = torch.randn(size, 1, generator=generator)
        clouds.append(torch.cat([base + 0.1 * torch.randn(size, 2, generator=generator), feature], -1))
        points.append(own if size else own[:0])
    cut = (len(sizes) + 1) // 2  # two cameras
    data = [[each[:cut], each[cut:]] if cut < len(each) else [each] for each in (clouds, points)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        model = point_sets.PointDecoder()
    return RecipeScene(
        lambda: point_sets.point_set_loss(model, *data),
        lambda: loops("point_sets").point_set_loss(model, *data),
        list(model.parameters()),
    )


SCENES: dict[str, Callable[..., RecipeScene]] = {
    "boxes3d": scene_of_boxes3d,
    "keypoints": scene_of_keypoints,
    "tracking": scene_of_tracking,
    "point_sets": scene_of_point_sets,
    "tags": scene_of_tags,
}
"""Made of sizes of samples and a generator, by the name of the recipe."""
