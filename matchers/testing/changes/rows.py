"""Targets, predictions and classes in another order, and targets that are added: of any scene, whatever reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from matchers.targets.targets import Targets
from matchers.testing.scene import with_batches
from ragged import RaggedBatch


def reversed_order(targets: Targets) -> Tensor:
    """``(B, G)``: the places of the targets of each image, last one first; filler stays where it is."""
    count = targets.num_targets.unsqueeze(-1)
    place = torch.arange(targets.max_num_targets).expand(len(count), -1)
    return torch.where(place < count, count - 1 - place, place)


def rows_of(batch: RaggedBatch, order: Tensor) -> RaggedBatch:
    """The rows ``order`` (B, G) of a batch (B, G, …)."""
    image = torch.arange(len(order)).unsqueeze(-1)
    return batch.create_with_sample_sizes_like_self(batch.tensor[image, order])


def in_target_order(targets: Targets, order: Tensor) -> Targets:
    """Targets whose j-th one is what was at ``order[:, j]``."""
    return with_batches(targets, lambda batch: rows_of(batch, order))


def kept_targets(targets: Targets, kept: Sequence[Sequence[int]]) -> Targets:
    """Some of the targets of each image, without padding that none of them needs."""
    sizes = torch.tensor([len(each) for each in kept], dtype=torch.int64)
    width = int(sizes.max()) if len(kept) else 0
    index = torch.tensor([[*each, *[0] * (width - len(each))] for each in kept], dtype=torch.int64)
    index = index.reshape(len(kept), width)
    image = torch.arange(len(kept)).unsqueeze(-1)

    def rows(batch: RaggedBatch) -> RaggedBatch:
        return RaggedBatch(batch.tensor[image, index], sample_sizes=sizes)

    return with_batches(targets, rows)


def images_of(targets: Targets, images: Sequence[int]) -> Targets:
    """Some of the images, in that order, as wide as the largest of them."""
    where = torch.tensor(list(images), dtype=torch.int64)
    width = int(targets.num_targets[where].max()) if len(where) else 0

    def rows(batch: RaggedBatch) -> RaggedBatch:
        return RaggedBatch(batch.tensor[where, :width], sample_sizes=batch.sample_sizes[where])

    canvas = targets.canvas_size
    return with_batches(targets, rows, canvas_size=None if canvas is None else canvas[where])


def class_order(num_classes: int) -> Tensor:
    """``(C,)``: the new number of each class. All but the last move, for the last may be a background."""
    moving = max(num_classes - 1, min(num_classes, 2)) if num_classes > 2 else num_classes
    return torch.cat([torch.arange(moving).roll(-1), torch.arange(moving, num_classes)])


def renamed_labels(targets: Targets, order: Tensor) -> Targets:
    """Labels, of any shape, of which class c is called ``order[c]``; what is no class, of ignored targets, stays."""
    labels = targets.labels
    if targets.is_multi_hot:
        return replace(targets, labels=labels.apply(lambda tensor: renamed_columns(tensor, order)))
    known = (labels.tensor >= 0) & (labels.tensor < len(order))
    found = torch.where(known, order[labels.tensor.clamp(0, len(order) - 1)], labels.tensor)
    return replace(targets, labels=labels.create_with_sample_sizes_like_self(found))


def renamed_columns(logits: Tensor, order: Tensor) -> Tensor:
    """Logits ``(…, C)`` of which class c is called ``order[c]``."""
    return logits[..., order.argsort()]


def with_weights(targets: Targets, seed: int = 0) -> Targets:
    """The same with weights from 1/2 to 2 and, in images of more than two targets, one that is ignored."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randint(2, 9, targets.mask.shape, generator=generator) / 4
    place = torch.arange(targets.max_num_targets)
    ignore = (place == 2) & (targets.num_targets > 2).unsqueeze(-1)
    sizes = targets.num_targets
    return replace(
        targets,
        weights=RaggedBatch(weights.to(_dtype_of(targets)), sample_sizes=sizes),
        ignore=RaggedBatch(ignore, sample_sizes=sizes),
    )


def with_ignored_target(targets: Targets, box: Tensor | None) -> Targets:
    """The same with a target more in front of each image, which is ignored, of class 0 and ``box`` (B, 4)."""
    flags = targets.ignored if targets.ignore is None else targets.ignore.tensor
    sizes = targets.num_targets + 1

    def in_front(name: str, batch: RaggedBatch) -> RaggedBatch:
        first = batch.tensor.new_zeros((len(sizes), 1, *batch.tensor.shape[2:]))
        if name == "boxes" and box is not None:
            first = box.to(first).unsqueeze(1)
        return RaggedBatch(torch.cat([first, batch.tensor], 1), sample_sizes=sizes)

    full = replace(targets, ignore=RaggedBatch(flags, sample_sizes=targets.num_targets))
    parts: dict[str, Any] = {name: in_front(name, batch) for name, batch in full.parts.items()}
    front = parts["ignore"].tensor.clone()
    front[:, 0] = True
    parts["ignore"] = RaggedBatch(front, sample_sizes=sizes)
    fields = {name: parts.pop(name) for name in targets.fields}
    return replace(full, fields=fields, **parts)


def with_targets_as_filler(targets: Targets, boxes: Tensor | None) -> list[tuple[Targets, str]]:
    """The same targets with filler that nothing but the sizes tells from them, and what it holds, in words.

    Args:
        targets: (B, G).
        boxes: (B, P, 4), predicted ones in format and unit of the targets, if there are any.
    """
    largest = int(targets.num_targets.argmax()) if targets.num_targets.numel() else 0
    most = int(targets.num_targets.max()) if targets.num_targets.numel() else 0
    if not most:
        return []
    width, place = targets.max_num_targets + most, torch.arange(targets.max_num_targets + most) % most

    def rows(batch: RaggedBatch) -> RaggedBatch:
        wide = batch.with_max_sample_size(width)
        filler = batch.tensor[largest, place].expand_as(wide.tensor)
        return wide.create_with_sample_sizes_like_self(torch.where(wide.aligned_mask, wide.tensor, filler))

    of_others = with_batches(targets, rows)
    found = [(of_others, "targets of another image")]
    if boxes is not None and targets.boxes is not None and boxes.shape[1]:
        own = of_others.boxes
        rows_of_boxes = boxes.detach().to(own.dtype)[:, torch.arange(width) % boxes.shape[1]]
        near = own.create_with_sample_sizes_like_self(torch.where(own.aligned_mask, own.tensor, rows_of_boxes))
        found.append((replace(of_others, boxes=near), "predicted boxes"))
    return found


def with_other_ignored(targets: Targets) -> Targets:
    """The same regions with other labels and weights of the ignored targets."""
    ignored = targets.ignored
    parts: dict[str, Any] = {}
    if targets.labels is not None and not targets.is_multi_hot:
        labels = targets.labels
        other = torch.where(ignored, (labels.tensor.clamp(min=0) == 0).to(labels.tensor.dtype), labels.tensor)
        parts["labels"] = labels.create_with_sample_sizes_like_self(other)
    if targets.weights is not None:
        weights = targets.weights
        parts["weights"] = weights.create_with_sample_sizes_like_self(torch.where(ignored, 7, weights.tensor))
    return replace(targets, **parts)


def _dtype_of(targets: Targets) -> torch.dtype:
    return torch.float32 if targets.boxes is None else targets.boxes.dtype
