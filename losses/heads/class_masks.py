"""Which classes count in which images: those that an image was annotated for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.functional.numerics import check_broadcasts
from ragged.values.checks import check_is_tensor, check_same_device, check_weights

# Far enough that no softmax sees the class, and finite in float16, so that 0 times it is 0.
_NOT_THERE = -1e4


def checked_class_mask(mask: Tensor, shape: Sequence[int], device: torch.device, *, only_flags: bool = False) -> Tensor:
    """A mask ``(*batch, C)`` of the classes of images, or what broadcasts to it, expanded to it.

    Args:
        mask: Booleans or weights; a dimension of 1 before the last may stand for the predictions.
        shape: ``(*batch, C)``.
        device: That of the predictions.
        only_flags: Whether it must be of booleans, as a softmax over the classes needs it.

    Raises:
        TypeError, ValueError: It is no tensor, does not broadcast, or a weight is negative or not finite.
    """
    check_is_tensor(mask, "valid_label_mask")
    check_same_device(mask.device, device, name="valid_label_mask", reference="predictions")
    if mask.dim() == len(shape) + 1 and mask.shape[-2] == 1:
        mask = mask.squeeze(-2)
    check_broadcasts(mask, shape, "valid_label_mask", "images and classes (B, C)")
    if mask.dtype != torch.bool:
        if only_flags:
            raise TypeError(
                f"valid_label_mask must be of booleans for a softmax over the classes that count, got {mask.dtype}"
            )
        check_weights(mask, "valid_label_mask")
    return mask.expand(tuple(shape))


def class_mask_of_points(mask: Tensor, logits: Tensor) -> Tensor:
    """The mask (B, 1, C) of logits ``(*layers, B, P, C)``, of one (B, C) or what broadcasts to it."""
    return checked_class_mask(mask, (logits.shape[-3], logits.shape[-1]), logits.device).unsqueeze(1)


def with_background(flags: Tensor, background: int) -> Tensor:
    """Flags ``(*batch, C)`` as those of C + 1 classes, of which the background always counts."""
    always = flags.new_ones(*flags.shape[:-1], 1)
    return torch.cat([always, flags] if background == 0 else [flags, always], -1)


def with_labels(flags: Tensor, labels: Tensor) -> Tensor:
    """Flags ``(*batch, C)`` of which those of labels ``(*batch, n)`` are true; a label below 0 is no class."""
    one_more = torch.cat([flags, flags.new_zeros(*flags.shape[:-1], 1)], -1)
    return one_more.scatter(-1, torch.where(labels >= 0, labels, flags.shape[-1]), True)[..., :-1]


def without_classes(logits: Tensor, flags: Tensor) -> Tensor:
    """Logits as if the classes that do not count could not be seen; their gradient is 0."""
    return logits.masked_fill(~flags, _NOT_THERE)


def without_others(logits: Tensor, flags: Tensor, labels: Tensor, background: int) -> Tensor:
    """Logits ``(*batch, P, C)`` of the classes that count, and of those of labels ``(…, G)`` and of the background."""
    labels = labels.expand(*logits.shape[:-2], -1)
    always = labels.new_full((*labels.shape[:-1], 1), background)
    return without_classes(logits, with_labels(flags, torch.cat([labels, always], -1)).unsqueeze(-2))
