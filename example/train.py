"""The training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from example.data import Scene, to_targets
from matchers import Targets


def train(
    model: nn.Module,
    loader: DataLoader[Scene],
    criterion: Callable[[Any, Targets], dict[str, Tensor]],
    *,
    epochs: int,
    learning_rate: float = 4e-3,
    weight_decay: float = 0.02,
    max_norm: float = 5.0,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Train with AdamW and a one-cycle schedule, with a progress bar that shows the epoch's mean loss terms.

    Args:
        model: Maps images (B, 1, H, W) to what the criterion takes; trained in place.
        loader: Gives ``(images, targets)``.
        criterion: Gives the loss terms, of the model's output and of targets.
        epochs: Passes over the loader.
        learning_rate: Peak of the schedule.
        weight_decay: Decay of AdamW.
        max_norm: Bound on the gradient's norm.
        device: Where to train.

    Returns:
        The loss terms averaged over the last epoch.
    """
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.15)
    averages: dict[str, float] = {}
    with tqdm(total=steps, desc="training", unit="step") as bar:
        for _ in range(epochs):
            total: Tensor | float = 0.0
            for count, (images, targets) in enumerate(loader, start=1):
                terms = criterion(model(images.to(device)), to_targets(targets).to(device))
                values = torch.stack(list(terms.values()))
                optimizer.zero_grad()
                values.sum().backward()
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                schedule.step()
                total = total + values.detach()
                averages = dict(zip(terms, (total / count).tolist(), strict=True))
                bar.set_postfix(averages, refresh=False)
                bar.update()
    return averages
