"""The exact linear assignment problem in one kernel launch, without the host: one program for each sample.

Rows are added one by one, each along the shortest path that leaves all earlier ones matched (Jonker and Volgenant,
1987), which Dijkstra's algorithm finds among the columns. All state is a block over the columns, in registers, so that
no thread ever reads what another one has written to memory. A round of the search takes one reduction over the columns.

Numbers are pairs, compared by the first: a level (int32), which counts what is avoided at any price, and a cost. A
finite cost has level 0, one that is not finite 1, a forbidden pair more than a whole assignment of those can have, and
a row that stays without a column more than a whole assignment of forbidden pairs can have. Sums are exact in levels,
so that nothing bad, however much of it, takes digits from the costs. A row that lost its column never gets one again:
with more rows than columns, the columns are the only state too.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

MAX_PREDICTIONS = 8192
"""Eight columns for each of the 1,024 threads that a program can have."""
SCALE = tl.constexpr(2.0**-20)
"""Of costs: sums of the largest ones stay finite; exact, being a power of two."""

_NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def nearer(
    level,
    path,
    column,
    owner,
    price_level,
    price,
    other_level,
    other_path,
    other_column,
    other_owner,
    other_price_level,
    other_price,
):
    """Of two columns the one with the shorter path, the first of them on ties, with its owner and price."""
    is_nearer = (level < other_level) | (
        (level == other_level) & ((path < other_path) | ((path == other_path) & (column < other_column)))
    )
    return (
        tl.where(is_nearer, level, other_level),
        tl.where(is_nearer, path, other_path),
        tl.where(is_nearer, column, other_column),
        tl.where(is_nearer, owner, other_owner),
        tl.where(is_nearer, price_level, other_price_level),
        tl.where(is_nearer, price, other_price),
    )


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
    # Where the search stands: a row, the column that it owns, the price of that, and how far away they are.
    at_row = row
    at_column = tl.full([], -1, tl.int32)
    at_price_level = tl.full([], 0, tl.int32)
    at_price = tl.full([], 0.0, price.dtype)
    far_level = tl.full([], 0, tl.int32)
    far = tl.full([], 0.0, price.dtype)
    # The cheapest row to leave without a column: the owner of this column, the new row if -1.
    stay_column = tl.full([], -1, tl.int32)
    stay_level = tl.full([], _NOWHERE, tl.int32)
    stay = tl.full([], 0.0, price.dtype)
    last = tl.full([], -1, tl.int32)
    searching = wanted
    while searching:
        is_open = is_open & (column != at_column)
        pair = (first + at_row) * num_columns
        value = tl.load(cost + pair + column, mask=exists, other=0.0)
        own = tl.load(cost + pair + at_column, mask=at_column >= 0, other=0.0)
        finite = tl.abs(value) < float("inf")
        own_finite = tl.abs(own) < float("inf")
        level = tl.where(finite, 0, 1)
        own_level = tl.where(own_finite, 0, 1)
        if FORBIDDEN:
            never = tl.load(forbidden + pair + column, mask=exists, other=0) != 0
            own_never = tl.load(forbidden + pair + at_column, mask=at_column >= 0, other=0) != 0
            finite = finite & (never == 0)
            own_finite = own_finite & (own_never == 0)
            level = tl.where(never, num_columns + 1, level)
            own_level = tl.where(own_never, num_columns + 1, own_level)
        level -= price_level
        value = tl.where(finite, value, 0.0) * SCALE - price
        # The row's own price makes its pair free; from there on, all is as far away as the row is.
        row_level = own_level - at_price_level - far_level
        row_price = tl.where(own_finite, own, 0.0) * SCALE - at_price - far
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

        reachable = tl.where(is_open, path_level, _NOWHERE)
        distance = tl.where(is_open, path, float("inf"))
        far_level, far, at_column, at_row, at_price_level, at_price = tl.reduce(
            (reachable, distance, column, owner, price_level, price), 0, nearer
        )
        stays = (stay_level < far_level) | ((stay_level == far_level) & (stay < far))
        last = tl.where(stays, stay_column, at_column)
        far_level = tl.where(stays, stay_level, far_level)
        far = tl.where(stays, stay, far)
        # Every round closes a column, or is the last, even if a number is not finite that should be.
        searching = (stays == 0) & (at_row >= 0) & (far < float("inf"))
    visited = exists & (is_open == 0)
    price_level = tl.where(visited, price_level + path_level - far_level, price_level)
    price = tl.where(visited, price + path - far, price)
    return last, before, price_level, price


@triton.jit(do_not_specialize=["num_columns"])
def solve_narrow(
    cost, forbidden, valid, start, count, matched, num_columns, BLOCK: tl.constexpr, FORBIDDEN: tl.constexpr
):
    """Columns of each sample as one block, see ``triton_kernel.solve``."""
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
