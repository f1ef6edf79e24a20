"""Costs of pairs, computed image by image: in groups of images with about as many targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from matchers.pairs.pairs import Pairs

CostOfImages = Callable[[Pairs, Tensor, Tensor], Tensor]
"""Of pairs, rows (n, G) of the pairs, and images (n,): costs (n, G, P)."""

# Images join a group as long as no more pairs than that are filler: computing them takes less than another group.
_FILLER = 1 << 15


def cost_of_images(function: CostOfImages, pairs: Pairs) -> Tensor:
    """Costs (R, P) of a function of whole images. In a slot of filler stands the last target of the image again."""
    return (_packed if pairs.packed else _static)(function, pairs)


def _packed(function: CostOfImages, pairs: Pairs) -> Tensor:
    count, found = pairs.problem.num_predictions, None
    first, size = pairs.runs()
    for images, most in _groups(size, count):
        within = torch.minimum(torch.arange(most), (size[images] - 1).unsqueeze(-1))
        row = first[images].unsqueeze(-1) + within
        cost = function(pairs, row, images)
        found = cost.new_empty(len(pairs), count) if found is None else found
        found[row.flatten()] = cost.flatten(0, 1)
    return torch.zeros(0, count, device=pairs.sample.device) if found is None else found


def _static(function: CostOfImages, pairs: Pairs) -> Tensor:
    first, count = pairs.images
    row = torch.arange(len(pairs), device=pairs.sample.device).view(count, len(pairs) // max(count, 1))
    images = torch.arange(first, first + count, device=row.device)
    return function(pairs, row, images).flatten(0, 1)


def _groups(sizes: Tensor, num_predictions: int) -> Iterator[tuple[Tensor, int]]:
    """Images with targets, the most crowded first, and how many targets those of a group have at most."""
    ordered, order = sizes.sort(descending=True, stable=True)
    counts = [size for size in ordered.tolist() if size]
    start = 0
    while start < len(counts):
        stop, filler = start + 1, 0
        while stop < len(counts):
            filler += (counts[start] - counts[stop]) * num_predictions
            if filler > _FILLER and 4 * counts[stop] < 3 * counts[start]:
                break
            stop += 1
        yield order[start:stop], counts[start]
        start = stop
