"""Runs functions in several processes that make up one gloo group: what distributed code does on a single machine.

``launch({"test_normalizer:scenarios": 2})`` imports ``scenarios`` in new processes, calls it in each of two with the rank
and the number of ranks, and gives back what each returned: anything of tensors and plain Python values. To start
processes takes its time, so that all that are to run in ranks are given at once. ``tests/conftest.py`` does that.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

# Of one meeting of the ranks, and of all they do.
SECONDS, SECONDS_IN_ALL = 60, 600

Jobs = Mapping[str, int]
"""Functions, "module:name", with the number of ranks that each is for."""


def launch(jobs: Jobs) -> dict[str, list[Any]]:
    """Call each function with ``(rank, num_ranks)`` in so many ranks; its results by rank."""
    num_ranks = max(jobs.values())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # They meet at a file, so that no port has to be free.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        }
        command = [sys.executable, __file__, json.dumps(dict(jobs)), str(num_ranks), name]
        ranks = [
            subprocess.Popen(
                [*command, str(rank)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for rank in range(num_ranks)
        ]
        try:
            outputs = [rank.communicate(timeout=SECONDS_IN_ALL)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
        for index, (rank, output) in enumerate(zip(ranks, outputs, strict=True)):
            assert rank.returncode == 0, f"rank {index} ended with {rank.returncode}:\n{output}"
        return {
            job: [torch.load(_result(folder, job, rank), weights_only=False) for rank in range(count)]
            for job, count in jobs.items()
        }


def run(jobs: Jobs, num_ranks: int, folder: Path, rank: int) -> None:
    """Go through the jobs of one number of ranks after the other, those of fewer in several groups at the same time."""
    torch.set_num_threads(1)
    for count in sorted(set(jobs.values()), reverse=True):
        team, own = divmod(rank, count)
        teams = num_ranks // count
        if team >= teams:
            continue
        store = torch.distributed.FileStore(str(folder / f"store of {count}, {team}"), count)
        torch.distributed.init_process_group(
            "gloo", store=store, rank=own, world_size=count, timeout=timedelta(seconds=SECONDS)
        )
        of_count = sorted(job for job, needed in jobs.items() if needed == count)
        for job in of_count[team::teams]:
            module, name = job.split(":")
            result = getattr(importlib.import_module(module), name)(own, count)
            torch.save(result, _result(folder, job, own))
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _result(folder: Path, job: str, rank: int) -> Path:
    return folder / f"{job.replace(':', ' ')}, rank {rank}.pt"


if __name__ == "__main__":
    run(json.loads(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
