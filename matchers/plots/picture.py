"""The image that a match is drawn on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ragged.values.checks import check_has_values


def picture_of(image: Any) -> Tensor:
    """(H, W) or (H, W, 3), in [0, 1]."""
    try:
        picture = torch.as_tensor(image).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"image must be a tensor or an array: {error}") from None
    check_has_values(picture, "a picture")
    picture = picture.cpu()
    if picture.dim() == 3 and picture.shape[-1] not in (1, 3):
        picture = picture.movedim(0, -1)
    if picture.dim() == 3 and picture.shape[-1] == 1:
        picture = picture.squeeze(-1)
    if picture.dim() not in (2, 3) or (picture.dim() == 3 and picture.shape[-1] != 3):
        raise ValueError(
            f"image must have shape (H, W), (H, W, 3) or (3, H, W), got {tuple(torch.as_tensor(image).shape)}"
        )
    if picture.dtype == torch.uint8:
        return picture / 255
    picture = picture.float().nan_to_num(0, 0, 0)
    low, high = (float(edge) for edge in picture.aminmax()) if picture.numel() else (0.0, 1.0)
    return picture if low >= 0 and high <= 1 else (picture - low) / max(high - low, 1e-12)
