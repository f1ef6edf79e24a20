"""The training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from example.data import Sample, Task, to_targets
from example.detector import Detector
from example.logs import Log
from example.progress import Progress
from example.ranks import mean_over_ranks, over_ranks, rank
from matchers import Targets

# Compiled code is for targets padded to a multiple of this number.
_PADDING = 8


def train(
    detector: Detector,
    loader: DataLoader[Sample],
    task: Task,
    *,
    epochs: int,
    weight_decay: float = 0.02,
    max_norm: float = 5.0,
    device: torch.device | str = "cpu",
    amp: bool = False,
    backend: str | Callable[..., Any] | None = None,
    log: Log | None = None,
) -> dict[str, float]:
    """Train with AdamW and a one-cycle schedule, and show the epoch's mean loss terms on the way.

    Args:
        detector: Its model is trained in place.
        loader: Gives ``(images, targets)``; in a process group, those of this rank.
        task: What the targets are.
        epochs: Passes over the loader.
        weight_decay: Decay of AdamW.
        max_norm: Bound on the gradient's norm.
        device: Where to train.
        amp: Whether the network computes in bfloat16, where that is accurate enough; losses never do.
        backend: Compiles network and loss together, if given; see ``torch.compile``.
        log: Is told the terms of each step and epoch.

    Returns:
        The loss terms averaged over the last epoch, and over the ranks.
    """
    device = torch.device(device)
    model, criterion = detector.model.to(device).train(), detector.make_criterion("mean").to(device)
    parallel = over_ranks(model, device)

    def forward(images: Tensor, targets: Targets) -> dict[str, Tensor]:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
            output = parallel(images)
        return detector.losses(output, targets, criterion)

    losses = forward if backend is None else torch.compile(forward, backend=backend)
    optimizer = torch.optim.AdamW(model.parameters(), lr=detector.learning_rate, weight_decay=weight_decay)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, detector.learning_rate, total_steps=steps, pct_start=0.15)
    means: dict[str, float] = {}
    step = 0
    with Progress(steps, epochs, shown=rank() == 0) as progress:
        for epoch in range(epochs):
            if isinstance(loader.sampler, DistributedSampler):
                loader.sampler.set_epoch(epoch)
            total = torch.zeros((), device=device)
            for count, (images, targets) in enumerate(loader, start=1):
                read = to_targets(targets, task, multiple_of=1 if backend is None else _PADDING)
                terms = losses(images.to(device), read.to(device))
                values = torch.stack(list(terms.values()))
                optimizer.zero_grad()
                values.sum().backward()
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                schedule.step()
                values = mean_over_ranks(values.detach())
                total = total + values
                # The one place of a step that waits for the device: to show and to write numbers.
                now, mean = values.tolist(), (total / count).tolist()
                means = dict(zip(terms, mean, strict=True))
                progress.step(means)
                step += 1
                if log:
                    rate = float(schedule.get_last_lr()[0])
                    log.step(step, epoch, rate, dict(zip(terms, now, strict=True)))
            progress.epoch(epoch, means)
            if log:
                log.epoch(epoch, means)
    return means
