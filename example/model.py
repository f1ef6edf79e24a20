"""The convolutional network that all detectors share, and the dense head of most of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from example.data import Task

WIDTH = 16
"""Channels at the finest level; the pyramid's features have four times as many."""

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


class Pyramid(nn.Module):
    """Features of all levels, from fine to coarse, each with what the coarser ones know (Lin et al., FPN, 2017)."""

    def __init__(self, task: Task, width: int = WIDTH) -> None:
        super().__init__()
        self.task, self.channels = task, 4 * width
        self.stem = nn.Sequential(
            conv(task.channels, width, stride=2),
            conv(width, 2 * width, stride=2),
            Residual(2 * width),
            conv(2 * width, 4 * width, stride=2),
            Residual(4 * width),
            Residual(4 * width),
        )
        self.down = nn.ModuleList(
            nn.Sequential(conv(4 * width, 4 * width, stride=2), Residual(4 * width)) for _ in task.strides[1:]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (B, `channels`, H / stride, W / stride) of images (B, C, H, W), for each of the task's strides."""
        size = self.task.image_size
        if tuple(images.shape[1:]) != (self.task.channels, size, size):
            wanted = f"(B, {self.task.channels}, {size}, {size})"
            raise ValueError(f"expected images of shape {wanted}, got {tuple(images.shape)}")
        levels = [self.stem(images)]
        for down in self.down:
            levels.append(down(levels[-1]))
        features = levels[-1:]
        for level in reversed(levels[:-1]):
            features.insert(0, level + F.interpolate(features[0], scale_factor=2.0))
        return features


class DenseModel(nn.Module):
    """A prediction in every cell of every level.

    Args:
        task: What there is to detect.
        maps: Channels of each map by name. Those of names that begin with "classes" start from a low probability.
        background: Whether there is a class for the background; then classes start from any probability.
        width: As for `Pyramid`.
    """

    def __init__(self, task: Task, maps: Mapping[str, int], *, background: bool = False, width: int = WIDTH) -> None:
        super().__init__()
        self.pyramid = Pyramid(task, width)
        features = self.pyramid.channels

        def tower(name: str, channels: int) -> nn.Module:
            last = nn.Conv2d(features, channels, 1)
            if name.startswith("classes") and not background:
                start_unlikely(last)
            return nn.Sequential(conv(features, features), last)

        self.towers = nn.ModuleDict(
            {name: nn.ModuleList(tower(name, channels) for _ in task.strides) for name, channels in maps.items()}
        )

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Of each name a map (B, channels, rows, columns) for each level."""
        return self.of_features(self.pyramid(images))

    def of_features(self, features: list[Tensor]) -> dict[str, list[Tensor]]:
        """The same of the pyramid's features."""
        towers: dict[str, Any] = dict(self.towers.items())
        return {
            name: [tower(level) for tower, level in zip(of_levels, features, strict=True)]
            for name, of_levels in towers.items()
        }


def start_unlikely(layer: nn.Conv2d | nn.Linear) -> None:
    """Let class logits start low: nearly everything is background, and so the first losses are small."""
    nn.init.constant_(layer.get_parameter("bias"), -math.log(1 / _PRIOR_PROBABILITY - 1))


def start_at(model: DenseModel, name: str, value: float) -> None:
    """Let the maps of this name start near a value."""
    for tower in model.towers[name].children():
        nn.init.constant_(list(tower.children())[-1].get_parameter("bias"), value)
