"""Run the benchmarks, print the tables and write them to ``benchmarks/RESULTS.md``."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks import core, criteria, matchers
from benchmarks.core import Row

RESULTS = Path(__file__).with_name("RESULTS.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m benchmarks``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use (default 1)")
    parser.add_argument("--rivals", type=Path, help="adapter to other systems, see benchmarks/contest.py")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sections = [
        _section("Combining samples", core.combining.__doc__, core.combining()),
        _section(
            "Combining samples, with gradient", core.combining_with_gradient.__doc__, core.combining_with_gradient()
        ),
        _section("Indexing", core.indexing.__doc__, core.indexing()),
        _section("Arithmetic", core.arithmetic.__doc__, core.arithmetic()),
        matchers.section(options.rivals, options.threads),
        criteria.section(options.rivals, options.threads),
    ]
    report = "\n".join([_heading(options.threads, options.rivals is not None), *sections])
    options.out.write_text(report)
    print(report)


def _heading(threads: int, with_rivals: bool) -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''} used"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    command = f"python -m benchmarks --threads {threads}" + " --rivals FILE" * with_rivals
    return (
        "# Benchmark results\n\n"
        f"Made by `{command}` on {datetime.date.today()}: {machine}; {versions}.\n\n"
        "Microseconds of one call: median ± half the distance between the quartiles, over rounds in which all columns\n"
        "of a line take turns. In brackets: the time relative to the first column. Ratios carry over to other\n"
        "machines, times do not.\n"
    )


def _section(title: str, description: str | None, rows: Iterator[Row]) -> str:
    measured = list(rows)
    names = list(measured[0].timings)
    lines = [f"## {title}\n", f"{description}\n", "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in measured:
        first = row.timings[names[0]].median
        cells = [f"{t.median:.1f} ± {t.spread:.1f} ({t.median / first:.2f})" for t in row.timings.values()]
        lines.append(f"| {row.size} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
