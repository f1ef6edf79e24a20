"""Scenes made of handwritten digits: a plain map-style dataset with a different number of objects per image."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

from example.data import Sample, Task

IMAGE_SIZE = 96
"""Height and width of a scene, in pixels."""
MAX_DIGITS = 8
"""Largest number of digits in a scene."""
DIGITS = Task(tuple("0123456789"), IMAGE_SIZE, channels=1)

Split = Literal["train", "val"]

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


def load_glyphs(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits of a split, (N, 8, 8) with values in [0, 1], and their classes (N,)."""
    digits, chosen = load_digits(), digit_indices(split)
    return (digits.images[chosen] / 16.0).astype(np.float32), digits.target[chosen]


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


def find_place(
    rng: np.random.Generator, size: tuple[int, int], taken: np.ndarray, canvas: tuple[int, int]
) -> np.ndarray | None:
    """Look for a free place for a patch.

    Args:
        rng: Source of randomness.
        size: Height and width of the patch, in pixels.
        taken: Boxes that are already in the scene, shape (n, 4), xyxy in pixels.
        canvas: As `size`, of the scene.

    Returns:
        A box (4,), xyxy in pixels, of which at most a small share is covered; None if none was found.
    """
    height, width = size
    area = (taken[:, 2] - taken[:, 0]) * (taken[:, 3] - taken[:, 1])
    for _ in range(_PLACING_ATTEMPTS):
        x, y = rng.integers(0, canvas[1] - width + 1), rng.integers(0, canvas[0] - height + 1)
        box = np.array([x, y, x + width, y + height])
        sides = np.minimum(taken[:, 2:], box[2:]) - np.maximum(taken[:, :2], box[:2])
        shared = sides.clip(min=0).prod(axis=1)
        if (shared <= _MAX_OVERLAP * np.minimum(area, height * width)).all():
            return box
    return None


def render_scene(
    rng: np.random.Generator,
    glyphs: np.ndarray,
    classes: np.ndarray,
    *,
    canvas: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE),
    max_digits: int = MAX_DIGITS,
) -> Sample:
    """Render one scene with any number of digits.

    Args:
        rng: Source of randomness; the scene is a function of its state alone.
        glyphs: The digits to choose from, shape (N, 8, 8), values in [0, 1].
        classes: Their classes, shape (N,).
        canvas: Height and width of the scene, in pixels.
        max_digits: At most so many of them, and as few as 0.

    Returns:
        The image, (1, height, width) float32, and ``{"boxes": (n, 4) float32 xyxy in pixels, "labels": (n,) int64}``.
    """
    image = rng.normal(0.0, _NOISE, size=canvas).astype(np.float32)
    boxes, labels = np.zeros((0, 4), dtype=np.int64), []
    for chosen in rng.integers(len(glyphs), size=rng.integers(max_digits + 1)):
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


class DigitScenes(Dataset[Sample]):
    """Scenes of one split, each a function of ``(seed, split, index)`` only; rendered once and kept in memory.

    Args:
        num_scenes: Number of scenes.
        split: ``"train"`` or ``"val"``; the two share no digit image.
        seed: Chooses the scenes.
    """

    task = DIGITS

    def __init__(self, num_scenes: int, *, split: Split, seed: int = 0) -> None:
        if num_scenes < 1:
            raise ValueError(f"expected num_scenes to be at least 1, got {num_scenes}")
        glyphs, classes = load_glyphs(split)
        generators = (np.random.default_rng((seed, _SPLIT_KEY[split], index)) for index in range(num_scenes))
        self._scenes = [render_scene(rng, glyphs, classes) for rng in generators]

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Sample:
        return self._scenes[index]

    def name(self, index: int) -> str:
        """What the scene is called in pictures and tables."""
        return f"scene {index}"
