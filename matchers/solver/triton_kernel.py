"""The exact linear assignment problem in one kernel launch, without the host: one program for each sample.

Rows are added one by one, each along the shortest path that leaves all earlier ones matched (Jonker and Volgenant,
1987), which Dijkstra's algorithm finds among the columns. All state is a block over the columns, in registers, so that
no thread ever reads what another one has written to memory.

Numbers are pairs, compared by the first: a level (int32), which counts what is avoided at any price, and a cost. A
finite cost has level 0, one that is not finite 1, a forbidden pair more than a whole assignment of those can have, and
a row that stays without a column more than a whole assignment of forbidden pairs can have. Sums are exact in levels,
so that nothing bad, however much of it, takes digits from the costs. A row that lost its column never gets one again:
with more rows than columns, the columns are the only state too.

With ``TRITON_INTERPRET=1`` in the environment the same kernel runs on CPU, slowly.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_PREDICTIONS = 8192
"""Eight columns for each of the 1,024 threads that a program can have."""

_NOWHERE = tl.constexpr(2**31 - 1)
_SCALE = tl.constexpr(2.0**-20)  # sums of the largest costs stay finite; exact, being a power of two


# The interpreter takes milliseconds for each call of a function, so that there are few.
@triton.jit
def _search(
    cost, forbidden, first, row, wanted, owner, price_level, price, num_columns, column, FORBIDDEN: tl.constexpr
):
    """The shortest path from a row to a column without owner, or to a row that then stays without a column.

    Returns the last column of the path (-1: none), for each column the one before it, and the new prices.
    """
    exists = column < num_columns
    unmatched = (num_columns + 1) * (num_columns + 1)
    is_open = exists
    path_level = tl.full(column.shape, _NOWHERE, tl.int32)
    path = tl.zeros(column.shape, price.dtype)
    before = tl.full(column.shape, -1, tl.int32)
    # Where the search stands: a row, the column that it owns, and how far away it is.
    at_row = row
    at_column = tl.full([], -1, tl.int32)
    far_level = tl.full([], 0, tl.int32)
    far = tl.full([], 0.0, price.dtype)
    # The cheapest row to leave without a column: the owner of this column, the new row if -1.
    stay_column = tl.full([], -1, tl.int32)
    stay_level = tl.full([], _NOWHERE, tl.int32)
    stay = tl.full([], 0.0, price.dtype)
    last = tl.full([], -1, tl.int32)
    searching = wanted
    while searching:
        pair = (first + at_row) * num_columns + column
        value = tl.load(cost + pair, mask=exists, other=0.0)
        finite = tl.abs(value) < float("inf")
        level = tl.where(finite, 0, 1)
        if FORBIDDEN:
            never = tl.load(forbidden + pair, mask=exists, other=0) != 0
            finite = finite & (never == 0)
            level = tl.where(never, num_columns + 1, level)
        level -= price_level
        value = tl.where(finite, value, 0.0) * _SCALE - price
        # The row's own price makes its pair free; from there on, all is as far away as the row is.
        row_level = tl.sum(tl.where(column == at_column, level, 0), axis=0) - far_level
        row_price = tl.sum(tl.where(column == at_column, value, 0.0), axis=0) - far
        level -= row_level
        value -= row_price
        shorter = is_open & ((level < path_level) | ((level == path_level) & (value < path)))
        path_level = tl.where(shorter, level, path_level)
        path = tl.where(shorter, value, path)
        before = tl.where(shorter, at_column, before)
        leave_level = unmatched - row_level
        leaves = (leave_level < stay_level) | ((leave_level == stay_level) & (-row_price < stay))
        stay_column = tl.where(leaves, at_column, stay_column)
        stay_level = tl.where(leaves, leave_level, stay_level)
        stay = tl.where(leaves, -row_price, stay)

        far_level = tl.min(tl.where(is_open, path_level, _NOWHERE), axis=0)
        nearest = is_open & (path_level == far_level)
        far, at_column = tl.min(tl.where(nearest, path, float("inf")), axis=0, return_indices=True)
        at_row = tl.sum(tl.where(column == at_column, owner, 0), axis=0)
        stays = (stay_level < far_level) | ((stay_level == far_level) & (stay < far))
        last = tl.where(stays, stay_column, at_column)
        far_level = tl.where(stays, stay_level, far_level)
        far = tl.where(stays, stay, far)
        # Every round closes a column, or is the last, even if a number is not finite that should be.
        searching = (stays == 0) & (at_row >= 0) & (far < float("inf"))
        is_open = is_open & ((column != at_column) | (searching == 0))
    visited = exists & (is_open == 0)
    price_level = tl.where(visited, price_level + path_level - far_level, price_level)
    price = tl.where(visited, price + path - far, price)
    return last, before, price_level, price


@triton.jit(do_not_specialize=["num_columns"])
def _solve(cost, forbidden, valid, start, count, matched, num_columns, BLOCK: tl.constexpr, FORBIDDEN: tl.constexpr):
    sample = tl.program_id(0).to(tl.int64)
    first = tl.load(start + sample)
    num_rows = tl.load(count + sample).to(tl.int32)
    column = tl.arange(0, BLOCK)
    owner = tl.full([BLOCK], -1, tl.int32)
    price_level = tl.zeros([BLOCK], tl.int32)
    price = tl.zeros([BLOCK], cost.dtype.element_ty)
    for row in range(num_rows):
        wanted = tl.load(valid + first + row) != 0
        last, before, price_level, price = _search(
            cost, forbidden, first, row, wanted, owner, price_level, price, num_columns, column, FORBIDDEN
        )
        while last >= 0:
            previous = tl.sum(tl.where(column == last, before, 0), axis=0)
            freed = tl.sum(tl.where(column == previous, owner, 0), axis=0)
            owner = tl.where(column == last, tl.where(previous >= 0, freed, row), owner)
            last = previous
    exists = column < num_columns
    if FORBIDDEN:
        pair = (first + owner) * num_columns + column
        never = tl.load(forbidden + pair, mask=exists & (owner >= 0), other=0) != 0
        owner = tl.where(never, -1, owner)
    tl.store(matched + sample * num_columns + column, owner.to(tl.int64), mask=exists)


def num_warps(block: int) -> int:
    """Eight columns for each thread: more take too many registers, fewer make the sums over all threads longer."""
    return min(32, max(1, block // 256))


def can_solve(cost: Tensor) -> bool:
    """Whether the kernel runs on the device of these costs, and they are not too wide."""
    if cost.shape[1] > MAX_PREDICTIONS:
        return False
    if not isinstance(_solve, triton.JITFunction):  # it is interpreted
        return True
    # What Triton supports.
    return cost.is_cuda and torch.cuda.get_device_capability(cost.device) >= (7, 0)


def solve(cost: Tensor, start: Tensor, count: Tensor, valid: Tensor, forbidden: Tensor | None) -> Tensor:
    """See ``linear_assignment.solve_rows``; only if ``can_solve``.

    Computes in float32, in float64 if the cost is of that type. Waits for nothing, and can be captured in a CUDA graph
    once it was compiled: run it before, with as many predictions.
    """
    cost = cost.detach()
    cost = (cost if cost.dtype in (torch.float32, torch.float64) else cost.float()).contiguous()
    num_samples, num_columns = start.shape[0], cost.shape[1]
    matched = torch.empty((num_samples, num_columns), dtype=torch.int64, device=cost.device)
    if not matched.numel():
        return matched
    block = max(32, triton.next_power_of_2(num_columns))
    arguments = [valid.contiguous(), start.contiguous(), count.contiguous(), matched, num_columns]
    never = valid if forbidden is None else forbidden.contiguous()
    with torch.cuda.device(cost.device) if cost.is_cuda else contextlib.nullcontext():
        _solve[(num_samples,)](
            cost,
            never,
            *arguments,
            BLOCK=block,
            FORBIDDEN=forbidden is not None,
            num_warps=num_warps(block),
            enable_fp_fusion=False,  # so that all devices and the interpreter round alike
        )
    return matched
