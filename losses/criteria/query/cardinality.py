"""How many objects a decoder sees, against how many there are: a number to log, and not to learn from."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.heads.decoder import DecoderOutputs
from matchers.targets.targets import Targets
from ragged.values.precision import wide


@torch.no_grad()
def cardinality_errors(
    outputs: DecoderOutputs, targets: Targets, has_background: bool, num_groups: int
) -> dict[str, Tensor]:
    """See ``DetrCriterion.cardinality_error``."""
    there = wide(targets.matchable.sum(-1).float())
    found = {}
    for layers in outputs.groups:
        if layers.denoising:
            continue
        logits = layers.logits
        seen = logits.argmax(-1) != logits.shape[-1] - 1 if has_background else logits.amax(-1) > 0
        if layers.sizes is not None:
            seen &= torch.arange(seen.shape[-1], device=seen.device) < layers.sizes.unsqueeze(-1)
        counts = seen.unflatten(-1, (num_groups, seen.shape[-1] // num_groups)).sum(-1)
        errors = (counts - there.unsqueeze(-1)).abs().flatten(1).mean(-1)
        for suffix, error in zip(layers.suffixes, errors, strict=True):
            found[f"cardinality_error{suffix}"] = error
    return found
