"""Run the benchmarks, print the tables and write them to ``benchmarks/RESULTS.md``."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import compiled, core, criteria, growth, kit, launches, limit, matchers, memory, recipes, references
from benchmarks.contest import Options
from benchmarks.core import Row

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = """# Benchmark results

Medians ± half the distance between the quartiles, over rounds in which all columns of a line take turns. Ratios carry
over to other machines, times do not. Every section says how it was made.
"""
PARTS: dict[str, tuple[str, Any]] = {
    "core": ("", core),
    "matchers": ("Matchers", matchers),
    "criteria": ("Criteria", criteria),
    "limit": ("The limit", limit),
    "launches": ("Launches", launches),
    "reference": ("Plain loops", references),
    "recipes": ("Recipes", recipes),
    "compiled": ("Compiled", compiled),
    "growth": ("Growth", growth),
    "memory": ("Memory", memory),
    "kit": ("The kit", kit),
}
RIVALS = Path(__file__).with_name("rivals.py")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m benchmarks``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use (default 1)")
    parser.add_argument(
        "--rivals", type=Path, default=RIVALS, help="adapter to other systems, see benchmarks/contest.py"
    )
    parser.add_argument("--compiled", action="store_true", help="as --only compiled")
    parser.add_argument("--only", choices=list(PARTS), help="a part to run; the rest of the file stays")
    parser.add_argument("--case", nargs="+", help="with --only: names of the part; other lines stay")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file to write")
    options = parser.parse_args(arguments)
    options.only = "compiled" if options.compiled else options.only
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sections = _sections(options.out.read_text()) if options.only and options.out.exists() else {}
    if options.case and options.only in (None, "core", "growth"):
        parser.error("--case goes with --only, and a part with a line for each case")
    made_by = _made_by(options)
    for part in PARTS:
        if options.only in (None, part):
            for title, text in _run(part, Options(options.rivals, options.threads, options.case, options.out.parent)):
                text = f"{made_by}\n{text}"
                sections[title] = _with_lines_of(sections[title], text) if options.case and title in sections else text
    report = "\n".join([HEADING, *(f"## {title}\n\n{text.strip()}\n" for title, text in sections.items())])
    options.out.write_text(report)
    print(report)


def _run(part: str, options: Options) -> Iterator[tuple[str, str]]:
    """Titles and texts of the sections of a part."""
    title, module = PARTS[part]
    if title:
        yield title, module.section(options)
    else:
        for title, measure in (
            ("Combining samples", core.combining),
            ("Combining samples, with gradient", core.combining_with_gradient),
            ("Indexing", core.indexing),
            ("Arithmetic", core.arithmetic),
            ("Arithmetic, with gradient", core.arithmetic_with_gradient),
            ("Reductions", core.reducing),
            ("Selecting", core.selecting),
            ("Joining", core.joining),
            ("Class costs", core.class_costs),
        ):
            yield title, _table(measure)


def _sections(report: str) -> dict[str, str]:
    """Title and text of every section of a report."""
    parts = re.split(r"^## (.*)$", report, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _with_lines_of(section: str, later: str) -> str:
    """The section with the lines of a table, and the note on how they were made, of a later one put into it."""
    made_by = later.partition("\n")[0]
    table = later.partition("\n|---")[2]
    lines = {_name_of(line): line for line in table.splitlines() if line.startswith("| ")}
    names = sorted({name for name, _ in lines})
    found = [lines.pop(_name_of(line), line) for line in section.strip().splitlines()]
    end = max(number for number, line in enumerate(found) if line.startswith("|")) + 1
    found[end:end] = lines.values()
    return "\n".join([*found, "", f"The lines of {', '.join(names)}: {made_by[0].lower()}{made_by[1:]}"])


def _name_of(line: str) -> tuple[str, ...]:
    """Case and size, in a line of a table."""
    return tuple(cell.strip() for cell in line.split("|")[1:3])


def _made_by(options: argparse.Namespace) -> str:
    threads = options.threads
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''} used"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    command = f"python -m benchmarks --threads {threads}" + f" --only {options.only}" * bool(options.only)
    command += f" --case {' '.join(map(repr, options.case))}" if options.case else ""
    command += " --rivals FILE" * (options.rivals != RIVALS)
    return f"Made by `{command}` on {datetime.date.today()}: {machine}; {versions}.\n"


def _table(measure: Callable[[], Iterator[Row]]) -> str:
    measured = list(measure())
    names = list(measured[0].timings)
    lines = [
        f"{measure.__doc__} Microseconds of one call, of processor time where one thread is used; in brackets the time "
        "relative to the first column.\n",
        "| | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for row in measured:
        first = row.timings[names[0]].median
        cells = [f"{t.median:.1f} ± {t.spread:.1f} ({t.median / first:.2f})" for t in row.timings.values()]
        lines.append(f"| {row.size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
