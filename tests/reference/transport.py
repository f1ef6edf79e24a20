"""Soft and closest matching of one image, in plain floats: costs are a list of rows, one for each target."""

from __future__ import annotations

import math
from collections.abc import Sequence

Costs = Sequence[Sequence[float]]


def log_sum(values: Sequence[float]) -> float:
    top = max(values, default=-math.inf)
    return top if top == -math.inf else top + math.log(sum(math.exp(value - top) for value in values))


def masses(targets: int, predictions: int, background: bool) -> list[float]:
    """What each target and the background get of the predictions' total of 1."""
    if targets == 0:
        return [1.0]
    if not background or targets > predictions:
        return [1 / targets] * targets + [0.0]
    return [1 / predictions] * targets + [(predictions - targets) / predictions]


def bounded(
    costs: Costs, predictions: int, background_cost: float | None, reg: float, normalize: bool
) -> list[list[float]]:
    """Costs divided by the largest magnitude, in units of reg; those that are not finite are far above all."""
    usable = [abs(cost) for row in costs for cost in row if math.isfinite(cost)]
    scale = max([*usable, abs(background_cost or 0.0), 1e-8])
    unit = reg * scale if normalize else reg
    rows = [[cost / unit if math.isfinite(cost) else 3 * scale / unit + 50 for cost in row] for row in costs]
    return [*rows, [(background_cost or 0.0) / unit] * predictions]


def sinkhorn(
    costs: Costs,
    predictions: int,
    *,
    reg: float,
    count: int,
    background_cost: float | None,
    normalize: bool = True,
    powers: tuple[float, float] = (1.0, 1.0),
    tolerance: float | None = None,
) -> tuple[list[list[float]], list[float]]:
    """Weights of each target, and the background: ``powers`` (a, b) are 1 if marginals are kept.

    ``u_i = (1/P / sum_j K_ij v_j)^a`` and ``v_j = (m_j / sum_i K_ij u_i)^b``, from u = 1 on, v last; in logarithms.
    """
    rows = bounded(costs, predictions, background_cost, reg, normalize)
    mass = masses(len(costs), predictions, background_cost is not None)
    live = [j for j, part in enumerate(mass) if part > 0]

    def g_of(f: list[float]) -> dict[int, float]:
        sums = {j: log_sum([f[i] - rows[j][i] for i in range(predictions)]) for j in live}
        return {j: powers[1] * (math.log(mass[j]) - sums[j]) for j in live}

    f = [0.0] * predictions
    for step in range(count):
        g = g_of(f)
        new = [
            powers[0] * (-math.log(predictions) - log_sum([g[j] - rows[j][i] for j in live]))
            for i in range(predictions)
        ]
        if (
            tolerance is not None
            and step
            and max(abs(math.expm1(a - b)) for a, b in zip(f, new, strict=True)) <= tolerance
        ):
            break
        f = new
    g = g_of(f)
    plan = [
        [math.exp(f[i] + g[j] - rows[j][i]) * predictions if j in g else 0.0 for i in range(predictions)]
        for j in range(len(rows))
    ]
    return plan[:-1], plan[-1]


def softmin(
    costs: Costs,
    predictions: int,
    *,
    source: str,
    reg: float,
    background_cost: float | None,
    background_weight: bool = True,
) -> tuple[list[list[float]], list[float]]:
    scores = [[-cost / reg if math.isfinite(cost) else -math.inf for cost in row] for row in costs]
    empty = [0.0 if costs or background_cost is not None else 1.0] * predictions
    if source == "target":
        weights = [[math.exp(x - log_sum(row)) if x > -math.inf else 0.0 for x in row] for row in scores]
        if background_cost is None:
            return weights, empty
        left = max(predictions - len(costs), 0) if background_weight else 1
        return weights, [left / predictions] * predictions
    level = [] if background_cost is None else [-background_cost / reg]
    totals = [log_sum([row[i] for row in scores] + level) for i in range(predictions)]
    weights = [[math.exp(x - totals[i]) if x > -math.inf else 0.0 for i, x in enumerate(row)] for row in scores]
    return weights, [math.exp(level[0] - total) for total in totals] if level else empty


def closest_prediction(
    costs: Costs, predictions: int, *, threshold: float | None, background: bool
) -> tuple[list[list[float]], list[float]]:
    weights = [[0.0] * predictions for _ in costs]
    for row, weight in zip(costs, weights, strict=True):
        best = None
        for i, cost in enumerate(row):
            allowed = math.isfinite(cost) and (threshold is None or cost <= threshold)
            if allowed and (best is None or cost < row[best]):
                best = i
        if best is not None:
            weight[best] = 1.0
    alone = [not any(weight[i] for weight in weights) for i in range(predictions)]
    return weights, [float(one and (background or not costs)) for one in alone]


def closest_target(costs: Costs, predictions: int, *, background_cost: float | None) -> list[int]:
    """Index of the target of each prediction, -1 for none."""
    found = []
    for i in range(predictions):
        best = -1
        for g, row in enumerate(costs):
            allowed = math.isfinite(row[i]) and (background_cost is None or row[i] <= background_cost)
            if allowed and (best < 0 or row[i] < costs[best][i]):
                best = g
        found.append(best)
    return found
