"""Costs of pairs, computed image by image: in groups of images with about as many targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from matchers.pairs.groups import grouped
from matchers.pairs.pairs import Pairs

CostOfImages = Callable[[Pairs, Tensor, Tensor], Tensor]
"""Of pairs, rows (n, G) of the pairs, and images (n,): costs (n, G, P)."""

# So many pairs of filler take less than another group of images does.
_FILLER = 1 << 15


def cost_of_images(function: CostOfImages, pairs: Pairs) -> Tensor:
    """Costs (R, P) of a function of whole images. In a slot of filler stands the last target of the image again."""
    return (_packed if pairs.packed else _static)(function, pairs)


def _packed(function: CostOfImages, pairs: Pairs) -> Tensor:
    count, found = pairs.problem.num_predictions, None
    first, size = pairs.runs()
    sizes, order = size.sort(descending=True, stable=True)
    known = [each for each in sizes.tolist() if each]
    for group in grouped(known, max(sum(known) // 3, _FILLER // max(count, 1))):
        images = order[group.first : group.first + group.images]
        within = torch.minimum(torch.arange(group.most), (size[images] - 1).unsqueeze(-1))
        row = first[images].unsqueeze(-1) + within
        cost = function(pairs, row, images)
        found = cost.new_empty(len(pairs), count) if found is None else found
        found[row.flatten()] = cost.flatten(0, 1)
    return torch.zeros(0, count, device=pairs.sample.device) if found is None else found


def _static(function: CostOfImages, pairs: Pairs) -> Tensor:
    every = torch.arange(pairs.problem.num_samples, device=pairs.sample.device)
    rows = torch.arange(len(pairs), device=every.device).split([group.rows for group in pairs.groups])
    costs = [
        function(pairs, row.view(group.images, group.most), every[pairs.images_of(group)]).flatten(0, 1)
        for group, row in zip(pairs.groups, rows, strict=True)
    ]
    return costs[0] if len(costs) == 1 else torch.cat(costs)
