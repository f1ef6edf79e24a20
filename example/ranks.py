"""Training in several processes, one rank each, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the ranks that torchrun describes in the environment: gloo on CPU, nccl on CUDA.

    Args:
        device: To train on; of ``"cuda"`` each rank of a machine takes another one.

    Yields:
        The device of this rank.
    """
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the ranks this process is; 0 if it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def num_ranks() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def over_ranks(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The model, with gradients that are averaged over the ranks, if there are several."""
    if num_ranks() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if torch.device(device).type == "cuda" else None)


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of what each rank has: of a rank's loss terms, which are divided by global counts, the global terms."""
    if num_ranks() == 1:
        return values
    values = values.clone()
    distributed.all_reduce(values)
    return values / num_ranks()
