"""How far a criterion is from what the machine allows: reading every prediction once and writing its gradient once.

For criteria that solve assignment problems exactly, SciPy's time for these problems, with the costs at hand, is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks import criteria
from benchmarks.contest import Case, Options, Run, milliseconds
from benchmarks.timing import Timing, compare
from matchers.solver import linear_assignment

DESCRIPTION = """Milliseconds from lists of ground truth to gradients, beside the limit: the time to stream the
predictions once and to write their gradients once (clone and copy), and, for criteria with exact matching, SciPy's bare
time for the same problems, cost matrices at hand. Sizes as for the criteria. All columns of a line take turns.
"""
SIZES: tuple[str, ...] = ("single", "small", "medium", "large", "skewed")


def streaming(leaves: Iterable[Tensor]) -> Run:
    """A function that reads tensors once and writes as many once."""
    pairs = [(leaf.detach(), torch.empty_like(leaf.detach())) for leaf in leaves]

    def run() -> None:
        for values, gradient in pairs:
            gradient.copy_(values.clone())

    return run


def problems(run: Run) -> list[np.ndarray]:
    """The cost matrices of all assignment problems that a function solves."""
    found: list[np.ndarray] = []

    def solve(cost: np.ndarray) -> Any:
        found.append(cost.copy())
        return linear_sum_assignment(cost)

    with mock.patch.object(linear_assignment, "scipy_solver", return_value=solve):
        run()
    return found


def solving(costs: Sequence[np.ndarray]) -> Run:
    """A function that solves them."""

    def run() -> None:
        for cost in costs:
            linear_sum_assignment(cost)

    return run


def contestants(case: Case, scene: Any) -> dict[str, Run]:
    """The criterion, the streaming, and the solving if there is any."""
    ours = case.run(scene)
    found = {"ours": ours, "streaming": streaming(scene.leaves)}
    costs = problems(ours)
    return found | {"solving": solving(costs)} if costs else found


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named."""
    lines = [
        "| criterion | size | ours, ms | streaming, ms | solving, ms | limit, ms | times the limit |",
        "|---" * 7 + "|",
    ]
    for name in options.names or criteria.CASES:
        for size in SIZES:
            case = criteria.CASES[name]
            lines.append(_line(name, size, compare(contestants(case, case.scene(size)))))
    return f"{DESCRIPTION}\n" + "\n".join(lines)


def _line(name: str, size: str, timings: Mapping[str, Timing]) -> str:
    limit = sum(timing.median for who, timing in timings.items() if who != "ours")
    cells = [milliseconds(timings[who]) if who in timings else "" for who in ("ours", "streaming", "solving")]
    return f"| {name} | {size} | {' | '.join(cells)} | {limit / 1e3:.2f} | {timings['ours'].median / limit:.1f} |"
