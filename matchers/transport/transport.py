"""Entropic optimal transport between the predictions of an image and its targets: marginals and iterations.

Everything is in logarithms: with the potentials f of predictions and g of targets, the plan is
``exp(f_i + g_j - cost_ij / reg)``, which neither over- nor underflows however small ``reg`` is. One more row stands for
the background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from matchers.by_cost.dense_matcher import usable_pairs
from matchers.pairs.problem import Problem
from ragged.values.once import known_row, once
from ragged.values.precision import widest
from ragged.values.readable import values_are_readable

Potentials = tuple[Tensor, Tensor]
"""f (N, P) and g (N, K)."""

Number = float | Tensor
"""One for all images, or (N, 1) where these differ in their number of predictions."""

_SMALLEST_SCALE = 1e-8
# A kernel is scaled anew when a scaling leaves exp(±5). Parts below exp(-70) are left out: as long as no scaling
# is above exp(15), what they would add to a sum is below exp(-45), and sums are larger by far.
_LEFT_OUT, _FAR, _TOO_FAR, _TOO_SMALL = -70.0, math.exp(5), math.exp(15), math.exp(25)
_TINY = 1e-38


@dataclass(frozen=True, eq=False)
class Transport:
    """A transport problem of N images with K = G + 1 rows, the background last.

    Args:
        log_kernel: (N, K, P): -cost / reg; -inf in rows that get nothing, and for predictions that give nothing.
        demand: (N, K): the mass of each row; sums to 1. Each prediction has 1 / count.
        num_invalid: (N,): costs of targets that were not finite.
        count: How many predictions give something, P or (N, 1); at least 1.
        free: (N, P), which predictions these are; None for all. The potential of the others is 0.
        computed: What was computed on the way.
    """

    log_kernel: Tensor
    demand: Tensor
    num_invalid: Tensor
    count: int | Tensor
    free: Tensor | None = None
    computed: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls, problem: Problem, cost: Tensor, *, background_cost: float | None, reg: Number, normalize: bool
    ) -> Transport:
        """Bring costs (N, G, P) into this form; without ``background_cost`` no background competes.

        Costs that are not finite are replaced by one that is 50 ``reg`` and more above all others.
        """
        usable, num_invalid = usable_pairs(problem, cost)
        scale = torch.where(usable, cost, known_row((0.0,), cost)).abs().flatten(1)
        scale = scale.amax(-1) if scale.shape[1] else scale.new_zeros(len(cost))
        scale = scale.clamp(min=max(_SMALLEST_SCALE, abs(background_cost or 0.0))).view(-1, 1, 1)
        unit = -per_pair(reg) * (scale if normalize else torch.ones_like(scale))
        count, free = problem.num_free, problem.free
        demand = demands(problem.matchable, count, background=background_cost is not None).to(cost.dtype)
        if free is not None:
            demand = demand.masked_fill(~free.any(-1, keepdim=True), 0)
        log_kernel = torch.where(usable, cost, torch.sub(3 * scale, unit, alpha=50))
        log_kernel = F.pad(log_kernel, (0, 0, 0, 1), value=background_cost or 0.0)
        # Costs without bounds in units of a tiny regularisation could be infinite.
        transport = cls(log_kernel.div_(unit).clamp_(min=-1e30), demand, num_invalid, count, free)
        log_kernel.masked_fill_(transport.gets_nothing.unsqueeze(-1), -torch.inf)
        if free is not None:
            log_kernel.masked_fill_(~free.unsqueeze(1), -torch.inf)
        return transport

    @property
    def gets_nothing(self) -> Tensor:
        """(N, K), true for rows without a demand."""
        return once(self.computed, "gets_nothing", lambda: self.demand == 0)

    @property
    def log_demand(self) -> Tensor:
        """(N, K)."""
        return once(self.computed, "log_demand", self.demand.log)

    def with_others(self, values: Tensor, other: float) -> Tensor:
        """Values (N, P) of predictions that give something, and another one of those that do not."""
        return values if self.free is None else values.masked_fill(~self.free, other)

    def row_sums(self, f: Tensor) -> Tensor:
        """(N, K): logarithm of the sum of ``exp(f_i) kernel_ij`` over predictions."""
        return (self.log_kernel + f.unsqueeze(1)).logsumexp(-1)

    def scaled_kernel(self, f: Tensor, g: Tensor) -> Tensor:
        """(N, K, P): the kernel times the exponentials of potentials; 0 for what is very small."""
        log = (self.log_kernel + f.unsqueeze(1)).add_(g.unsqueeze(-1))
        return torch.threshold_(log, _LEFT_OUT, -torch.inf).exp_()


def per_pair(number: Number) -> Number:
    """A number of images as it is of pairs, (N, 1, 1)."""
    return number.unsqueeze(-1) if isinstance(number, Tensor) else number


def demands(valid: Tensor, num_predictions: int | Tensor, *, background: bool) -> Tensor:
    """Mass of each target and, last, of the background: (N, G + 1), float64 where there is such a thing, sums to 1.

    A target has as much as a prediction, 1 / P, and the background what remains. Without background, or with more
    targets than predictions, the targets share everything. An image without targets is all background.
    """
    count = valid.sum(-1, keepdim=True)
    size = count.clamp(min=num_predictions) if background else count.clamp(min=1)
    rest = size - count if background else count == 0
    return torch.cat([valid, rest], -1) / size.to(widest(valid.device))


@dataclass(frozen=True)
class Iteration:
    """The settings of a solution: alternate updates of g and f, starting from f = 0.

    ``g = b (log demand - row sums)`` and ``f = a (log 1/P - column sums)``: a = b = 1 keeps the marginals.

    Args:
        supply_power, demand_power: a and b.
        count: How often.
        tolerance: A sample is left as it is once its error is not above it. The error is that of ``marginal_error``
            if a = b = 1, else that of ``change``.
    """

    supply_power: Number
    demand_power: Number
    count: int
    tolerance: float | None = None

    def solve(self, transport: Transport) -> tuple[Tensor, Potentials]:
        """The potential f (N, P), and f and g of one iteration before."""
        kernel = transport.log_kernel
        found = None
        if values_are_readable(kernel):
            with torch.autocast("cpu", enabled=False):  # which would multiply matrices in half precision
                found = self._solve_scaled(transport)
        return self._solve_in_logarithms(transport) if found is None else found

    def demand_potential(self, transport: Transport, row_sums: Tensor) -> Tensor:
        """g (N, K) of the sums of rows; 0 in rows that get nothing."""
        g = self.demand_power * (transport.log_demand - row_sums)
        return g.masked_fill(transport.gets_nothing, 0)

    def _solve_in_logarithms(self, transport: Transport) -> tuple[Tensor, Potentials]:
        # A row that gets nothing has a potential of -inf: what it adds to a sum is 0, whatever finite kernel it has.
        # Said before the loop, so that no step has to ask.
        kernel = transport.log_kernel.masked_fill(transport.gets_nothing.unsqueeze(-1), 0)
        if transport.free is not None:
            kernel = kernel.masked_fill(~transport.free.unsqueeze(1), -torch.inf)
        log_demand = self.demand_power * transport.log_demand
        log_supply = -self.supply_power * _logarithm(transport.count)
        # A potential is a constant less a multiple of sums: with the constant in the kernel, a step takes off the sums.
        with_demand, with_supply = kernel + log_demand.unsqueeze(-1), kernel + per_pair(log_supply)
        demand_power, supply_power = per_pair(self.demand_power), per_pair(self.supply_power)
        f, active = kernel.new_zeros(kernel.shape[0], kernel.shape[2]), None
        columns, before = f, (f, log_demand)
        for step in range(self.count):
            kernel = _less(with_supply, columns.unsqueeze(1), supply_power) if step else kernel
            rows = kernel.logsumexp(-1)
            columns = _less(with_demand, rows.unsqueeze(-1), demand_power).logsumexp(1)
            columns = transport.with_others(columns, 0)
            if self.tolerance is None and step < self.count - 2:
                continue  # only the last potentials are asked for
            g = _less(log_demand, rows, self.demand_power)
            following = transport.with_others(_less(log_supply, columns, self.supply_power), 0)
            if self.tolerance is not None and step:
                changes = self._error(transport, following, (f, g), before) > self.tolerance
                active = changes if active is None else active & changes
            if active is None:
                before, f = (f, g), following
            else:
                before = _pick(active, f, before[0]), _pick(active, g, before[1])
                f = _pick(active, following, f)
        return f, before

    def _solve_scaled(self, transport: Transport) -> tuple[Tensor, Potentials] | None:
        """The same, where the host can read values: sums are products of matrices, as long as scalings are moderate.

        f and g are in the kernel, u and v by how much the potentials have moved since. None if they move too fast.
        """
        share, demand = per_pair(1 / transport.count), transport.demand.unsqueeze(-1)
        g = self.demand_potential(transport, transport.log_kernel.logsumexp(-1))
        f = -_logarithm(transport.count) - (transport.log_kernel + g.unsqueeze(-1)).amax(1)
        f = transport.with_others(f, 0)
        kernel, factors = transport.scaled_kernel(f, g), self._factors(f, g)
        u, v = torch.ones_like(f).unsqueeze(-1), torch.ones_like(demand)
        now = before = torch.zeros_like(f), g
        active = torch.ones_like(transport.num_invalid, dtype=torch.bool)
        for step in range(self.count):
            if step:
                # Rows that get nothing have a sum of 0.
                v = _scaling(demand / torch.bmm(kernel, u).clamp_(min=_TINY), self.demand_power, factors[1])
            ratio = transport.with_others((share / torch.bmm(v.mT, kernel)).squeeze(1), 1).unsqueeze(-1)
            following = _scaling(ratio, self.supply_power, factors[0])
            peak, (low, high) = v.max().item(), (bound.item() for bound in following.aminmax())
            if not (peak <= _TOO_FAR and high <= _TOO_FAR):
                return None
            if step and (self.tolerance is not None or step == self.count - 1):
                now = _moved(f, u), _moved(g, v)
            if self.tolerance is not None:
                if step:
                    active = active & (self._error(transport, _moved(f, following), now, before) > self.tolerance)
                if not active.any():
                    break
                before = _pick(active, now[0], before[0]), _pick(active, now[1], before[1])
                following = torch.where(active.view(-1, 1, 1), following, u)
            u = following
            if step < self.count - 1 and (max(peak, high) > _FAR or low < 1 / _FAR):
                f, g = _moved(f, u), _moved(g, v)
                kernel, factors, u = transport.scaled_kernel(f, g), self._factors(f, g), torch.ones_like(u)
        return _moved(f, u), now if self.tolerance is None else before

    def _factors(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        supply, demand = f * (self.supply_power - 1), g * (self.demand_power - 1)
        return supply.exp_().unsqueeze(-1), demand.exp_().unsqueeze(-1)

    def _error(self, transport: Transport, following: Tensor, now: Potentials, before: Potentials) -> Tensor:
        if _is_1(self.supply_power) and _is_1(self.demand_power):
            return (now[0] - following).expm1().abs().amax(-1)
        return change(transport, now, before)


def _is_1(power: Number) -> bool:
    return not isinstance(power, Tensor) and power == 1


def _logarithm(count: int | Tensor) -> Number:
    return count.log() if isinstance(count, Tensor) else math.log(count)


def _less(value: Number, sums: Tensor, power: Number) -> Tensor:
    """``value - power * sums``, in one operation where the power is a number of the host."""
    if isinstance(power, Tensor):
        return value - power * sums
    return torch.sub(value, sums, alpha=power) if isinstance(value, Tensor) else torch.rsub(sums, value, alpha=power)


def _scaling(ratio: Tensor, power: Number, factor: Tensor) -> Tensor:
    """What a mass divided by a sum makes of a scaling, if the potential is in the kernel already."""
    if _is_1(power):
        return ratio
    power = per_pair(power)
    # A sum that is too small to be exact must not pass as a scaling that is not too large.
    return ratio.pow_(power).mul_(factor) if ratio.max() <= _TOO_SMALL else torch.full_like(ratio, torch.inf)


def _moved(potential: Tensor, scaling: Tensor) -> Tensor:
    scaling = scaling.squeeze(-1)
    return torch.where(scaling > 0, potential + scaling.log(), 0)


def _pick(which: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(which.unsqueeze(-1), yes, no)


def change(transport: Transport, now: Potentials, before: Potentials) -> Tensor:
    """(N,): by which part of itself the weight of a pair has changed at most, between two pairs of potentials."""
    nothing, supply, demand = transport.gets_nothing, now[0] - before[0], now[1] - before[1]
    highest, lowest = transport.with_others(supply, -torch.inf), transport.with_others(supply, torch.inf)
    most = highest.amax(-1) + demand.masked_fill(nothing, -torch.inf).amax(-1)
    least = lowest.amin(-1) + demand.masked_fill(nothing, torch.inf).amin(-1)
    found = torch.maximum(most, -least).expm1()
    return found if transport.free is None else found.masked_fill(~transport.free.any(-1), 0)


def marginal_error(plan: Tensor, transport: Transport) -> Tensor:
    """(N,): the largest error of a prediction's total or a row's, in a plan (N, K, P) that gives each prediction 1."""
    rows, columns = _less(plan.sum(-1), transport.demand, transport.count), transport.with_others(plan.sum(1) - 1, 0)
    return torch.cat([rows, columns], -1).abs().amax(-1)
