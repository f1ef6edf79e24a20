"""One launch of ranks for all tests that need several processes, and one skipped item for a test without its device."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_worker import launch


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a CUDA device, a test that needs one is one skipped item, whatever its parameters."""
    if torch.cuda.is_available():
        return
    seen: set[tuple[object, str]] = set()
    kept, left_out = [], []
    for item in items:
        needs_cuda = item.get_closest_marker("cuda") is not None
        name = (item.parent, getattr(item, "originalname", item.name))
        (left_out if needs_cuda and name in seen else kept).append(item)
        if needs_cuda:
            seen.add(name)
    if left_out:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def _of_all_ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What ``on_rank`` of each collected test module gave in its ``RANKS`` processes.

    All processes are launched together, and once: workers of pytest-xdist wait for the first of them that needs it.
    """
    modules = {getattr(item, "module", None) for item in request.session.items}
    jobs = {f"{each.__name__}:on_rank": each.RANKS for each in modules if hasattr(each, "on_rank")}
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent
    with (folder / "ranks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _made_once(folder / "ranks.pt", jobs)


def _made_once(path: Path, jobs: dict[str, int]) -> dict[str, list[Any]]:
    if not path.exists():
        torch.save(launch(jobs), path)
    return torch.load(path, weights_only=False)


@pytest.fixture(scope="module")
def by_rank(request: pytest.FixtureRequest, _of_all_ranks: dict[str, list[Any]]) -> list[Any]:
    """What each rank gave for this module: of ``on_rank(rank, num_ranks)``, called in ``RANKS`` processes."""
    return _of_all_ranks[f"{request.module.__name__}:on_rank"]
