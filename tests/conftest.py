"""Which tests a whole run leaves for later, one launch of ranks, and one skipped item for a test without its device."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_worker import launch
from effort import is_thorough

# A run of all files leaves these to ``-m "graphs or processes or hunts"`` and to thorough runs.
LONG = ("graphs", "processes", "hunts")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves long tests out of a whole run, and all but one variant of a test whose CUDA device is not there."""
    for item in items:
        if "by_rank" in getattr(item, "fixturenames", ()):
            item.add_marker("processes")
    names_files = set(config.args) != set(config.getini("testpaths"))
    takes_all = config.option.markexpr or names_files or is_thorough()
    left_out = {id(item) for item in items if not takes_all and any(map(item.get_closest_marker, LONG))}
    if not torch.cuda.is_available():
        left_out |= set(_further_variants(items))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if id(item) in left_out])
        items[:] = [item for item in items if id(item) not in left_out]


def _further_variants(items: list[pytest.Item]) -> Iterator[int]:
    """Which items need CUDA, besides the first of each test function."""
    seen: set[tuple[object, str]] = set()
    for item in items:
        if item.get_closest_marker("cuda") is not None:
            name = (item.parent, getattr(item, "originalname", item.name))
            if name in seen:
                yield id(item)
            seen.add(name)


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
