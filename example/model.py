"""A small convolutional detector: one prediction per grid cell, without anchors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from matchers import Predictions, grid_points

STRIDE = 8
"""Side of a grid cell, in pixels."""

_TYPICAL_SIDE = 20.0
_PRIOR_PROBABILITY = 0.01


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut; shape (B, channels, H, W) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the convolutions of x, (B, channels, H, W), to x itself."""
        return torch.relu(x + self.body(x))


def conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def backbone(width: int) -> nn.Sequential:
    """Features (B, 4 * width, H / `STRIDE`, W / `STRIDE`) of images (B, 1, H, W).

    Args:
        width: Number of channels at the finest level; the coarser levels have two and four times as many.
    """
    return nn.Sequential(
        conv(1, width, stride=2),
        conv(width, 2 * width, stride=2),
        Residual(2 * width),
        conv(2 * width, 4 * width, stride=2),
        Residual(4 * width),
        Residual(4 * width),
    )


class GridDetector(nn.Module):
    """Predict classes and a box in every cell of a grid with stride `STRIDE`.

    Args:
        num_classes: Number of classes C.
        width: As for `backbone`.
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.backbone = backbone(width)
        self.class_head = nn.Sequential(conv(4 * width, 4 * width), nn.Conv2d(4 * width, num_classes, 1))
        self.box_head = nn.Sequential(conv(4 * width, 4 * width), nn.Conv2d(4 * width, 4, 1))
        # Nearly every cell is background: starting from a low probability keeps the first focal losses small.
        nn.init.constant_(self.class_head.get_parameter("1.bias"), -math.log(1 / _PRIOR_PROBABILITY - 1))

    def forward(self, images: Tensor) -> Predictions:
        """Detect in images (B, 1, H, W), with H and W multiples of `STRIDE`; P = H * W / `STRIDE` ** 2.

        Predictions are in the order of ``grid_points``; each class has its own sigmoid, there is no background class.
        Boxes are xyxy in pixels.
        """
        if images.dim() != 4 or images.shape[1] != 1 or images.shape[2] % STRIDE or images.shape[3] % STRIDE:
            raise ValueError(
                f"expected images of shape (B, 1, H, W), H and W multiples of {STRIDE}, got {tuple(images.shape)}"
            )
        features = self.backbone(images)
        logits = self.class_head(features).flatten(2).transpose(1, 2)
        boxes = decode_boxes(self.box_head(features))
        return Predictions(logits.contiguous(), boxes, box_format="xyxy", normalized=False)


def decode_boxes(raw: Tensor) -> Tensor:
    """Turn the box head's output (B, 4, rows, columns) into boxes (B, rows * columns, 4), xyxy in pixels.

    The first two channels shift the centre from the middle of the cell, in units of `STRIDE`; the others are the
    logarithms of width and height relative to a typical side.
    """
    rows, columns = raw.shape[-2:]
    image_size = (rows * STRIDE, columns * STRIDE)
    middle = grid_points(image_size, [STRIDE], device=raw.device, dtype=raw.dtype)[:, :2]
    shift, log_size = raw.flatten(2).transpose(1, 2).chunk(2, dim=-1)
    centre = middle + STRIDE * shift
    # The bound keeps an untrained detector from boxes of infinite size.
    half = 0.5 * _TYPICAL_SIDE * log_size.clamp(-4.0, 4.0).exp()
    return torch.cat([centre - half, centre + half], dim=-1)
