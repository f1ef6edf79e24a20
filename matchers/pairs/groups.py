"""Images with about as many targets together, so that a crowded one pads few others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ragged.values.once import made_once

# So many pairs of filler cost an accelerator about as much as the launches that go without them.
FILLER = 1 << 21


class Group(NamedTuple):
    """Some images that follow each other in an order, how many rows each has, and of which target the first is."""

    first: int
    images: int
    most: int
    target: int = 0

    @property
    def rows(self) -> int:
        """How many rows all of them have."""
        return self.images * self.most


def static_groups(sizes: Sequence[int] | None, shape: Sequence[int], num_predictions: int) -> tuple[Group, ...]:
    """The groups of rows in static shape: those of ``grouped`` where sizes are known, or all images as one.

    Args:
        sizes: How many targets each image has.
        shape: (N, G).
        num_predictions: P.
    """
    num_samples, most = shape
    if sizes is not None:
        allowed = max(sum(sizes), FILLER // max(num_predictions, 1))
        groups = tuple(grouped(sorted(sizes, reverse=True), allowed))
        if len(groups) > 1:
            return groups
    return (Group(0, num_samples, most),)


@made_once
def all_slots(num_samples: int, most: int, device: torch.device) -> Tensor:
    """(3, N * G): the number, the image and the target of each slot of N images with room for G targets."""
    slots = torch.arange(num_samples * most, device=device)
    return torch.stack([slots, slots // max(most, 1), slots % max(most, 1)])


def slots_of(groups: Sequence[Group], order: Tensor, which: Tensor) -> Tensor:
    """(R,): which of the N * G slots of targets ``which`` the rows of groups are."""
    most = which.shape[1]
    within, first = torch.arange(most, device=which.device), order.unsqueeze(-1) * most
    return torch.cat(
        [(first[each.first : each.first + each.images] + within[: each.most]).flatten() for each in groups]
    )


def grouped(sizes: Sequence[int], allowed: int) -> list[Group]:
    """As few groups as it takes for at most ``allowed`` rows of filler; each is padded to its first image.

    Args:
        sizes: How many targets each image has, the most first.
        allowed: Rows that are no target. With as many groups as sizes there are none.
    """
    ends = [len(sizes)]

    def groups() -> list[Group]:
        starts = [0, *ends[:-1]]
        return [Group(start, end - start, sizes[start]) for start, end in zip(starts, ends, strict=True) if end > start]

    total = sum(sizes)
    while sum(group.rows for group in groups()) - total > allowed:
        # Cut where most rows are saved: all behind the cut are padded to the first of them from then on.
        _, cut = max(
            ((group.most - sizes[at]) * (group.first + group.images - at), at)
            for group in groups()
            for at in range(group.first + 1, group.first + group.images)
        )
        ends = sorted([*ends, cut])
    return groups()


def cut(groups: Sequence[Group], size: int) -> Iterator[list[tuple[int, Group]]]:
    """Blocks of at most ``size`` rows: of whole images, or within one, each piece with its first row.

    An image that is cut is a group of its own, with fewer rows.
    """
    block: list[tuple[int, Group]] = []
    room, row = size, 0
    for first, images, most, _ in groups:
        while images and most:
            if room < most and block:
                yield block
                block, room = [], size
            if most > size:
                pieces = -(-most // size)
                for piece in range(pieces):
                    start, stop = piece * most // pieces, (piece + 1) * most // pieces
                    yield [(row + start, Group(first, 1, stop - start, start))]
                taken = 1
            else:
                taken = min(images, room // most)
                block.append((row, Group(first, taken, most)))
                room -= taken * most
            first, images, row = first + taken, images - taken, row + taken * most
    if block:
        yield block
