"""Train with every criterion, and put them side by side."""

from __future__ import annotations

import argparse
import copy
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from example.data import Samples
from example.detectors import DETECTORS
from example.picture import new_figure
from example.run import run

_COLUMNS = ("criterion", "mAP@0.5", "mAP@[.5:.95]", "train_seconds", "train_cpu_seconds", "parameters")
_ROOM_FOR_A_NUMBER = 0.1


def compare(
    options: argparse.Namespace, samples: tuple[Samples, Samples], criteria: Sequence[str] = tuple(DETECTORS)
) -> str:
    """Run every criterion in a folder of its own, and write a table and a plot beside them.

    Returns:
        The table, which ``compare.txt`` and ``compare.csv`` hold too.
    """
    results: list[dict[str, Any]] = []
    for place, criterion in enumerate(criteria, start=1):
        print(f"{criterion} ({place} of {len(criteria)})", flush=True)
        own = copy.copy(options)
        own.criterion, own.out = criterion, options.out / criterion
        results.append(run(own, samples))
        # After each, so that what is known is there if the next is stopped.
        table = _write_tables(results, options.out)
    draw_comparison(results, options.out / "compare.png")
    return table


def _write_tables(results: list[dict[str, Any]], folder: Path) -> str:
    with (folder / "compare.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(results)
    table = format_table(results)
    (folder / "compare.txt").write_text(table + "\n")
    return table


def format_table(results: list[dict[str, Any]]) -> str:
    """A table for people."""
    rows = [("criterion", "mAP@0.5", "mAP@[.5:.95]", "training", "CPU time", "parameters")]
    for one in results:
        scores = (f"{one[name]:.3f}" for name in ("mAP@0.5", "mAP@[.5:.95]"))
        times = (f"{one[name]:.0f} s" for name in ("train_seconds", "train_cpu_seconds"))
        rows.append((one["criterion"], *scores, *times, f"{one['parameters']:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    )


def draw_comparison(results: list[dict[str, Any]], path: Path) -> Path:
    """Draw how good and how expensive each is.

    Returns:
        The path.
    """
    ordered = sorted(results, key=lambda one: one["mAP@0.5"])
    names, places = [one["criterion"] for one in ordered], range(len(ordered))
    figure = new_figure(10, 1.4 + 0.42 * len(ordered))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for name, color, height in (("mAP@0.5", "#9ecae1", 0.78), ("mAP@[.5:.95]", "#08519c", 0.42)):
        left.barh(places, [one[name] for one in ordered], color=color, height=height, label=name)
    # What else the machine does makes no difference to the time that its own cores work.
    on_cpu = all(one["device"].startswith("cpu") for one in ordered)
    seconds = [one["train_cpu_seconds" if on_cpu else "train_seconds"] for one in ordered]
    right.barh(places, seconds, color="#a1d99b", height=0.78)
    for place, one, time in zip(places, ordered, seconds, strict=True):
        left.text(one["mAP@0.5"] + 0.01, place, f"{one['mAP@0.5']:.3f}", va="center", fontsize=9)
        if one["mAP@[.5:.95]"] > _ROOM_FOR_A_NUMBER:
            number = f"{one['mAP@[.5:.95]']:.3f}"
            left.text(one["mAP@[.5:.95]"] - 0.01, place, number, va="center", ha="right", color="white", fontsize=8)
        right.text(time, place, f" {time:.0f} s", va="center", fontsize=9)
    left.set_yticks(places, names)
    left.set_title("how good: mAP on validation images", fontsize=10)
    right.set_title(f"how expensive: {'CPU ' * on_cpu}time of training", fontsize=10)
    left.set_xlim(0, 1.12)
    right.set_xlim(0, 1.15 * max(seconds))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
    return path
