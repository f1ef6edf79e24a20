"""Scenes made of handwritten digits: a plain map-style dataset with a different number of objects per image."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

import ragged
from matchers import Targets
from ragged import RaggedBatch

IMAGE_SIZE = 96
"""Height and width of a scene, in pixels."""
MAX_DIGITS = 8
"""Largest number of digits in a scene."""
NUM_CLASSES = 10

Split = Literal["train", "val"]
Target = dict[str, Tensor]
Scene = tuple[Tensor, Target]

_VISIBLE = 0.2
_NOISE = 0.06
_MAX_OVERLAP = 0.15
_PLACING_ATTEMPTS = 12
_SPLIT_KEY: dict[str, int] = {"train": 0, "val": 1}


def digit_indices(split: Split) -> np.ndarray:
    """Return which of the bundled digits a split draws from: every fifth for ``"val"``, the others for ``"train"``."""
    if split not in _SPLIT_KEY:
        raise ValueError(f"expected split to be 'train' or 'val', got {split!r}")
    is_val = np.arange(len(load_digits().target)) % 5 == 0
    return np.flatnonzero(is_val if split == "val" else ~is_val)


def draw_digit(rng: np.random.Generator, glyph: np.ndarray) -> np.ndarray:
    """Enlarge one digit to a random size and brightness, and crop it to what can be seen.

    Args:
        rng: Source of randomness.
        glyph: The digit, shape (8, 8), values in [0, 1].

    Returns:
        The cropped patch, shape (height, width), in pixels of the scene.
    """
    height = int(rng.integers(16, 37))
    width = max(12, round(height * rng.uniform(0.8, 1.2)))
    source = torch.from_numpy(glyph)[None, None]
    patch = F.interpolate(source, size=(height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
    rows, columns = np.nonzero(patch > _VISIBLE)
    cropped = patch[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return cropped * rng.uniform(0.7, 1.0)


def find_place(rng: np.random.Generator, size: tuple[int, int], taken: np.ndarray, canvas: int) -> np.ndarray | None:
    """Look for a free place for a patch.

    Args:
        rng: Source of randomness.
        size: Height and width of the patch, in pixels.
        taken: Boxes that are already in the scene, shape (n, 4), xyxy in pixels.
        canvas: Height and width of the scene, in pixels.

    Returns:
        A box (4,), xyxy in pixels, of which at most a small share is covered; None if none was found.
    """
    height, width = size
    area = (taken[:, 2] - taken[:, 0]) * (taken[:, 3] - taken[:, 1])
    for _ in range(_PLACING_ATTEMPTS):
        x, y = rng.integers(0, canvas - width + 1), rng.integers(0, canvas - height + 1)
        box = np.array([x, y, x + width, y + height])
        sides = np.minimum(taken[:, 2:], box[2:]) - np.maximum(taken[:, :2], box[:2])
        shared = sides.clip(min=0).prod(axis=1)
        if (shared <= _MAX_OVERLAP * np.minimum(area, height * width)).all():
            return box
    return None


def render_scene(
    rng: np.random.Generator, glyphs: np.ndarray, classes: np.ndarray, *, canvas: int = IMAGE_SIZE
) -> Scene:
    """Render one scene with 0 to `MAX_DIGITS` digits.

    Args:
        rng: Source of randomness; the scene is a function of its state alone.
        glyphs: The digits to choose from, shape (N, 8, 8), values in [0, 1].
        classes: Their classes, shape (N,).
        canvas: Height and width of the scene, in pixels.

    Returns:
        The image, (1, canvas, canvas) float32, and ``{"boxes": (n, 4) float32 xyxy in pixels, "labels": (n,) int64}``.
    """
    image = rng.normal(0.0, _NOISE, size=(canvas, canvas)).astype(np.float32)
    boxes, labels = np.zeros((0, 4), dtype=np.int64), []
    for chosen in rng.integers(len(glyphs), size=rng.integers(MAX_DIGITS + 1)):
        patch = draw_digit(rng, glyphs[chosen])
        box = find_place(rng, (patch.shape[0], patch.shape[1]), boxes, canvas)
        if box is None:
            continue
        x1, y1, x2, y2 = box
        image[y1:y2, x1:x2] = np.maximum(image[y1:y2, x1:x2], patch)
        boxes = np.concatenate([boxes, box[None]])
        labels.append(int(classes[chosen]))
    target = {"boxes": torch.from_numpy(boxes).float(), "labels": torch.tensor(labels, dtype=torch.int64)}
    return torch.from_numpy(image)[None], target


class DigitScenes(Dataset[Scene]):
    """Scenes of one split, each a function of ``(seed, split, index)`` only; rendered once and kept in memory.

    Args:
        num_scenes: Number of scenes.
        split: ``"train"`` or ``"val"``; the two share no digit image.
        seed: Chooses the scenes.
    """

    def __init__(self, num_scenes: int, *, split: Split, seed: int = 0) -> None:
        if num_scenes < 1:
            raise ValueError(f"expected num_scenes to be at least 1, got {num_scenes}")
        digits, chosen = load_digits(), digit_indices(split)
        glyphs = (digits.images[chosen] / 16.0).astype(np.float32)
        generators = (np.random.default_rng((seed, _SPLIT_KEY[split], index)) for index in range(num_scenes))
        self._scenes = [render_scene(rng, glyphs, digits.target[chosen]) for rng in generators]

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Scene:
        return self._scenes[index]


def make_loader(
    scenes: DigitScenes,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    num_ranks: int = 1,
) -> DataLoader[Scene]:
    """Batch scenes into ``(images (B, 1, H, W), {"boxes": RaggedBatch, "labels": RaggedBatch})``.

    Args:
        scenes: What to load.
        batch_size: Scenes in a step, of all ranks together.
        shuffle: Whether their order changes from epoch to epoch.
        seed: Chooses the order; the same on all ranks.
        workers: Processes that load.
        rank: Which share of the scenes this process gets.
        num_ranks: Number of shares; they are of equal size.
    """
    if batch_size % num_ranks:
        raise ValueError(f"batch_size must be a multiple of the number of ranks, {num_ranks}, got {batch_size}")
    sampler: DistributedSampler[Scene] | None = None
    if num_ranks > 1:
        sampler = DistributedSampler(scenes, num_ranks, rank, shuffle=shuffle, seed=seed)
    return DataLoader(
        scenes,
        batch_size=batch_size // num_ranks,
        shuffle=shuffle if sampler is None else None,
        sampler=sampler,
        generator=torch.Generator().manual_seed(seed),
        num_workers=workers,
        collate_fn=partial(ragged.collate, stack=(0,)),
    )


def to_targets(batch: dict[str, RaggedBatch]) -> Targets:
    """What the loader gives as targets, as matchers take it: xyxy boxes in pixels of a square canvas."""
    return Targets(batch["boxes"], batch["labels"], canvas_size=torch.tensor([IMAGE_SIZE, IMAGE_SIZE]))
