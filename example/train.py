"""The training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from tqdm import tqdm

from example.data import Scene, to_targets
from example.ranks import mean_over_ranks, over_ranks, rank
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
        loader: Gives ``(images, targets)``; in a process group, those of this rank.
        criterion: Gives the loss terms, of the model's output and of targets.
        epochs: Passes over the loader.
        learning_rate: Peak of the schedule.
        weight_decay: Decay of AdamW.
        max_norm: Bound on the gradient's norm.
        device: Where to train.

    Returns:
        The loss terms averaged over the last epoch, and over the ranks.
    """
    model.to(device).train()
    parallel = over_ranks(model, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.15)
    names: list[str] = []
    with tqdm(total=steps, desc="training", unit="step", disable=rank() > 0) as bar:
        for epoch in range(epochs):
            if isinstance(loader.sampler, DistributedSampler):
                loader.sampler.set_epoch(epoch)
            total = torch.zeros((), device=device)
            for count, (images, targets) in enumerate(loader, start=1):
                terms = criterion(parallel(images.to(device)), to_targets(targets).to(device))
                values = torch.stack(list(terms.values()))
                optimizer.zero_grad()
                values.sum().backward()
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                schedule.step()
                total = total + values.detach()
                names = list(terms)
                bar.set_postfix(dict(zip(names, (total / count).tolist(), strict=True)), refresh=False)
                bar.update()
    return dict(zip(names, mean_over_ranks(total / len(loader)).tolist(), strict=True))
