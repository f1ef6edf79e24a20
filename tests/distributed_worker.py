"""Runs a function in several processes that make up one gloo group: what distributed code does on a single machine.

``launch("test_normalizer:scenarios", 2)`` imports ``scenarios`` in each of two new processes, calls it with the rank and
the number of ranks, and gives back what each returned: anything of tensors and plain Python values.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

SECONDS = 120


def launch(function: str, num_ranks: int, *arguments: Any) -> list[Any]:
    """Call ``function`` ("module:name") with ``(rank, num_ranks, *arguments)`` in every rank; the results by rank."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(arguments, folder / "arguments.pt")
        # They meet at a file, so that no port has to be free.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        }
        command = [sys.executable, __file__, function, str(num_ranks), name]
        ranks = [
            subprocess.Popen(
                [*command, str(rank)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for rank in range(num_ranks)
        ]
        try:
            outputs = [rank.communicate(timeout=SECONDS)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
        for index, (rank, output) in enumerate(zip(ranks, outputs, strict=True)):
            assert rank.returncode == 0, f"rank {index} ended with {rank.returncode}:\n{output}"
        return [torch.load(folder / f"result{index}.pt", weights_only=False) for index in range(num_ranks)]


def run(function: str, num_ranks: int, folder: Path, rank: int) -> None:
    module, name = function.split(":")
    call = getattr(importlib.import_module(module), name)
    arguments = torch.load(folder / "arguments.pt", weights_only=False)
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), num_ranks)
    torch.distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=num_ranks, timeout=timedelta(seconds=SECONDS / 2)
    )
    torch.save(call(rank, num_ranks, *arguments), folder / f"result{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
