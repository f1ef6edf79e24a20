"""What the detectors are trained on: samples of any dataset, batched with ragged targets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

import ragged
from matchers import Targets
from ragged import RaggedBatch

Sample = tuple[Tensor, dict[str, Tensor]]
"""An image, (channels, size, size), float32 from 0 to 1; and ``{"boxes": (n, 4), "labels": (n,), "ignore": (n,)}``:
float32, xyxy in pixels; int64; bool, true for crowds, or left out where a dataset has none."""


@dataclass(frozen=True)
class Task:
    """What there is to detect.

    Args:
        class_names: By label.
        image_size: Height and width of all images, in pixels.
        channels: 1 for grey images, 3 for colours.
    """

    class_names: tuple[str, ...]
    image_size: int
    channels: int

    @property
    def num_classes(self) -> int:
        """C, without a background."""
        return len(self.class_names)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the levels that suit images of this size, in pixels."""
        return (8, 16) if self.image_size <= 128 else (8, 16, 32)


class Samples(Protocol):
    """A map-style dataset: anything with a length, samples by index, and a task."""

    task: Task

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """One of them."""

    def name(self, index: int) -> str:
        """What the image is called in pictures and tables."""


def make_loader(
    samples: Samples,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    num_ranks: int = 1,
    drop_last: bool = False,
) -> DataLoader[Sample]:
    """Batch samples into ``(images (B, C, H, W), {"boxes": RaggedBatch, "labels": RaggedBatch, …})``.

    Args:
        samples: What to load.
        batch_size: Samples in a step, of all ranks together.
        shuffle: Whether their order changes from epoch to epoch.
        seed: Chooses the order; the same on all ranks.
        workers: Processes that load.
        rank: Which share of the samples this process gets.
        num_ranks: Number of shares; they are of equal size.
        drop_last: Whether a last batch that is smaller than the others is left out, unless it is the only one.
    """
    if batch_size % num_ranks:
        raise ValueError(f"batch_size must be a multiple of the number of ranks, {num_ranks}, got {batch_size}")
    sampler: DistributedSampler[Sample] | None = None
    if num_ranks > 1:
        sampler = DistributedSampler(samples, num_ranks, rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
    return DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=batch_size // num_ranks,
        shuffle=shuffle if sampler is None else None,
        sampler=sampler,
        generator=torch.Generator().manual_seed(seed),
        num_workers=workers,
        drop_last=drop_last and len(samples) >= batch_size,
        collate_fn=partial(ragged.collate, stack=(0,)),
    )


def to_targets(batch: dict[str, RaggedBatch], task: Task, *, multiple_of: int = 1) -> Targets:
    """What the loader gives as targets, as matchers take it: xyxy boxes in pixels of a square canvas.

    Args:
        batch: Boxes, labels and, if there are crowds, what to ignore.
        task: Says how large the canvas is.
        multiple_of: Targets are padded to a multiple of this number: batches of few shapes are compiled seldom.
    """
    canvas_size = torch.tensor([task.image_size, task.image_size])
    targets = Targets(batch["boxes"], batch["labels"], ignore=batch.get("ignore"), canvas_size=canvas_size)
    return targets.with_max_num_targets(-(-targets.max_num_targets // multiple_of) * multiple_of)
