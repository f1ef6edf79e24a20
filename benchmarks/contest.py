"""Ours beside the counterparts of other systems: times, side by side, and memory, each in a process of its own.

Another system takes part through an adapter, a Python file given as ``--rivals``. It has a function
``rival(name, scene)`` that returns the name of the counterpart and a function without arguments that does the same work
as ours, or None if there is no counterpart; and it may have ``packages()``, which says what is there and what is
missing. Names are the keys of ``CASES``, scenes what their ``scene`` makes.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Timing, compare

Run = Callable[[], object]

# Where the memory is measured: a process for each number takes its time.
PEAK_SIZES = ("large", "skewed")


@dataclass(frozen=True)
class Case:
    """What is measured: ``run(scene)`` gives a function without arguments; ``scene(size)`` makes its input."""

    run: Callable[[Any], Run]
    scene: Callable[[Any], Any]


@dataclass(frozen=True)
class Row:
    """One line: microseconds and megabytes, ours and those of a rival, if there is one."""

    name: str
    size: str
    ours: Timing
    our_peak: float | None = None
    rival: str | None = None
    theirs: Timing | None = None
    their_peak: float | None = None


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Args:
        rivals: Adapter to other systems, if any.
        threads: That torch may use.
        names: Cases to measure; all if None.
        folder: Where pictures go.
    """

    rivals: Path | None
    threads: int
    names: Sequence[str] | None = None
    folder: Path = Path(__file__).parent

    def wants(self, name: str) -> bool:
        """Whether a case is to be measured."""
        return self.names is None or name in self.names


def contest(module: str, cases: Mapping[str, Case], sizes: tuple[str, ...], options: Options) -> Iterator[Row]:
    """Every case of a module (by its name, for new processes) at every size that it has."""
    rivals, threads = options.rivals, options.threads
    adapter = None if rivals is None else load_adapter(rivals)
    for name, case in cases.items():
        if not options.wants(name):
            continue
        for size in sizes:
            scene = case.scene(size)
            contestants: dict[str, Run] = {"ours": case.run(scene)}
            found = None if adapter is None else adapter.rival(name, scene)
            if found is not None:
                contestants["theirs"] = found[1]
            timings = compare(contestants)
            measured = contestants if size in PEAK_SIZES else ()
            peak = {who: _peak_in_child(module, name, size, who, rivals, threads) for who in measured}
            yield Row(
                name,
                size,
                timings["ours"],
                peak.get("ours"),
                None if found is None else found[0],
                timings.get("theirs"),
                peak.get("theirs"),
            )


def table(what: str, rows: Iterator[Row]) -> str:
    """The lines of a Markdown table."""
    lines = [
        f"| {what} | size | ours, ms | theirs, ms | times faster | ours, MB | theirs, MB | counterpart |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        times, faster = [milliseconds(row.ours), ""], ""
        if row.theirs is not None:
            times[1], faster = milliseconds(row.theirs), f"{row.theirs.median / row.ours.median:.1f}"
        peaks = ["" if peak is None else f"{peak:.0f}" for peak in (row.our_peak, row.their_peak)]
        lines.append(f"| {' | '.join([row.name, row.size, *times, faster, *peaks, row.rival or ''])} |")
    return "\n".join(lines)


def milliseconds(timing: Timing) -> str:
    """For a table."""
    return f"{timing.median / 1e3:.1f} ± {timing.spread / 1e3:.1f}"


def packages(options: Options) -> str:
    """A line that says which packages take part, if the adapter tells."""
    says = None if options.rivals is None else getattr(load_adapter(options.rivals), "packages", None)
    return f"Packages: {says()}.\n" if says else ""


def load_adapter(path: Path) -> Any:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location("rivals", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _peak_in_child(module: str, name: str, size: str, who: str, rivals: Path | None, threads: int) -> float:
    request = json.dumps([module, name, size, who, None if rivals is None else str(rivals), threads])
    command = [sys.executable, "-m", "benchmarks.contest", request]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def peak_growth(run: Run) -> float:
    """By how many megabytes the memory of this process grows, at its peak, in two calls. Reads Linux's /proc."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would not count
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _megabytes("VmRSS")
    for _ in range(2):
        run()
    return _megabytes("VmHWM") - before


def _megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def _child(request: str) -> None:
    module, name, size, who, rivals, threads = json.loads(request)
    torch.set_num_threads(threads)
    case = importlib.import_module(module).CASES[name]
    warm, scene = case.scene("small"), case.scene(size)

    def runner(scene: Any) -> Run:
        return case.run(scene) if who == "ours" else load_adapter(Path(rivals)).rival(name, scene)[1]

    run = runner(scene)
    runner(warm)()  # what is loaded at the first call is not counted
    print(peak_growth(run))


if __name__ == "__main__":
    _child(sys.argv[1])
