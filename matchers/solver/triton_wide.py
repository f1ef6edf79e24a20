"""The kernel of ``triton_narrow`` for more columns than the registers of a program hold.

The columns come in tiles, one after the other, and their state is in memory of the device. A barrier stands between
what a thread writes and what another one reads: after each pass over the tiles, and before a column changes its owner.
Levels are int64 here: they grow with the square of the number of columns.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from matchers.solver.triton_narrow import SCALE, nearer

TILE = 2048
"""Columns that are looked at at once."""
NUM_WARPS = 8
"""Eight columns of a tile for each thread."""
WHOLE_NUMBERS, NUMBERS = tl.constexpr(5), tl.constexpr(2)
"""How many whole numbers, and others, are the state of a column."""

_NOWHERE = tl.constexpr(2**62)


@triton.jit(do_not_specialize=["num_columns"])
def solve_wide(
    cost,
    forbidden,
    valid,
    start,
    count,
    matched,
    whole,
    numbers,
    num_columns,
    BLOCK: tl.constexpr,
    FORBIDDEN: tl.constexpr,
):
    """Columns of each sample in tiles, with state in ``whole`` (N, 5, P), int64, and ``numbers`` (N, 2, P)."""
    sample = tl.program_id(0).to(tl.int64)
    first = tl.load(start + sample)
    num_rows = tl.load(count + sample).to(tl.int32)
    within = tl.arange(0, BLOCK)
    owner = whole + sample * WHOLE_NUMBERS * num_columns
    before, is_open = owner + num_columns, owner + 2 * num_columns
    price_level, path_level = owner + 3 * num_columns, owner + 4 * num_columns
    price = numbers + sample * NUMBERS * num_columns
    path = price + num_columns
    unmatched = (tl.full([], 1, tl.int64) + num_columns) * (num_columns + 1)
    for tile in range(0, num_columns, BLOCK):
        column = tile + within
        exists = column < num_columns
        tl.store(owner + column, tl.full([BLOCK], -1, tl.int64), mask=exists)
        tl.store(price_level + column, tl.zeros([BLOCK], tl.int64), mask=exists)
        tl.store(price + column, tl.zeros([BLOCK], numbers.dtype.element_ty), mask=exists)
    tl.debug_barrier()
    for row in range(num_rows):
        wanted = tl.load(valid + first + row) != 0
        if wanted:
            for tile in range(0, num_columns, BLOCK):
                column = tile + within
                exists = column < num_columns
                tl.store(before + column, tl.full([BLOCK], -1, tl.int64), mask=exists)
                tl.store(is_open + column, tl.full([BLOCK], 1, tl.int64), mask=exists)
                tl.store(path_level + column, tl.full([BLOCK], _NOWHERE, tl.int64), mask=exists)
                tl.store(path + column, tl.zeros([BLOCK], numbers.dtype.element_ty), mask=exists)
            tl.debug_barrier()
            # As in the narrow kernel.
            at_row = tl.full([], 0, tl.int64) + row
            at_column = tl.full([], -1, tl.int64)
            at_price_level = tl.full([], 0, tl.int64)
            at_price = tl.full([], 0.0, numbers.dtype.element_ty)
            far_level = tl.full([], 0, tl.int64)
            far = tl.full([], 0.0, numbers.dtype.element_ty)
            stay_column = tl.full([], -1, tl.int64)
            stay_level = tl.full([], _NOWHERE, tl.int64)
            stay = tl.full([], 0.0, numbers.dtype.element_ty)
            last = tl.full([], -1, tl.int64)
            searching = wanted
            while searching:
                pair = (first + at_row) * num_columns
                own = tl.load(cost + pair + at_column, mask=at_column >= 0, other=0.0)
                own_finite = tl.abs(own) < float("inf")
                own_level = tl.where(own_finite, 0, 1)
                if FORBIDDEN:
                    own_never = tl.load(forbidden + pair + at_column, mask=at_column >= 0, other=0) != 0
                    own_finite = own_finite & (own_never == 0)
                    own_level = tl.where(own_never, num_columns + 1, own_level)
                row_level = own_level - at_price_level - far_level
                row_price = tl.where(own_finite, own, 0.0) * SCALE - at_price - far
                leave_level = unmatched - row_level
                leaves = (leave_level < stay_level) | ((leave_level == stay_level) & (-row_price < stay))
                stay_column = tl.where(leaves, at_column, stay_column)
                stay_level = tl.where(leaves, leave_level, stay_level)
                stay = tl.where(leaves, -row_price, stay)

                best_level = tl.full([BLOCK], _NOWHERE, tl.int64)
                best_path = tl.full([BLOCK], float("inf"), numbers.dtype.element_ty)
                best_column = within.to(tl.int64)
                best_owner = tl.full([BLOCK], -1, tl.int64)
                best_price_level = tl.zeros([BLOCK], tl.int64)
                best_price = tl.zeros([BLOCK], numbers.dtype.element_ty)
                for tile in range(0, num_columns, BLOCK):
                    column = tile + within
                    exists = column < num_columns
                    opened = (tl.load(is_open + column, mask=exists, other=0) != 0) & (column != at_column)
                    tl.store(is_open + column, opened.to(tl.int64), mask=exists)
                    its_price_level = tl.load(price_level + column, mask=exists, other=0)
                    its_price = tl.load(price + column, mask=exists, other=0.0)
                    value = tl.load(cost + pair + column, mask=exists, other=0.0)
                    finite = tl.abs(value) < float("inf")
                    level = tl.where(finite, 0, 1)
                    if FORBIDDEN:
                        never = tl.load(forbidden + pair + column, mask=exists, other=0) != 0
                        finite = finite & (never == 0)
                        level = tl.where(never, num_columns + 1, level)
                    level = level - its_price_level - row_level
                    value = tl.where(finite, value, 0.0) * SCALE - its_price - row_price
                    known_level = tl.load(path_level + column, mask=exists, other=0)
                    known = tl.load(path + column, mask=exists, other=0.0)
                    shorter = opened & ((level < known_level) | ((level == known_level) & (value < known)))
                    tl.store(path_level + column, level, mask=shorter)
                    tl.store(path + column, value, mask=shorter)
                    tl.store(before + column, tl.zeros([BLOCK], tl.int64) + at_column, mask=shorter)
                    level = tl.where(opened, tl.where(shorter, level, known_level), _NOWHERE)
                    value = tl.where(opened, tl.where(shorter, value, known), float("inf"))
                    closer = (level < best_level) | ((level == best_level) & (value < best_path))
                    best_level = tl.where(closer, level, best_level)
                    best_path = tl.where(closer, value, best_path)
                    best_column = tl.where(closer, column.to(tl.int64), best_column)
                    best_owner = tl.where(closer, tl.load(owner + column, mask=exists, other=-1), best_owner)
                    best_price_level = tl.where(closer, its_price_level, best_price_level)
                    best_price = tl.where(closer, its_price, best_price)
                tl.debug_barrier()
                far_level, far, at_column, at_row, at_price_level, at_price = tl.reduce(
                    (best_level, best_path, best_column, best_owner, best_price_level, best_price), 0, nearer
                )
                stays = (stay_level < far_level) | ((stay_level == far_level) & (stay < far))
                last = tl.where(stays, stay_column, at_column)
                far_level = tl.where(stays, stay_level, far_level)
                far = tl.where(stays, stay, far)
                searching = (stays == 0) & (at_row >= 0) & (far < float("inf"))
            for tile in range(0, num_columns, BLOCK):
                column = tile + within
                exists = column < num_columns
                visited = exists & (tl.load(is_open + column, mask=exists, other=1) == 0)
                level = tl.load(price_level + column, mask=visited, other=0)
                level += tl.load(path_level + column, mask=visited, other=0) - far_level
                tl.store(price_level + column, level, mask=visited)
                value = tl.load(price + column, mask=visited, other=0.0)
                value = value + tl.load(path + column, mask=visited, other=0.0) - far
                tl.store(price + column, value, mask=visited)
            while last >= 0:
                previous = tl.load(before + last)
                freed = tl.load(owner + previous, mask=previous >= 0, other=0)
                tl.debug_barrier()
                tl.store(owner + last, tl.where(previous >= 0, freed, row))
                last = previous
            tl.debug_barrier()
    for tile in range(0, num_columns, BLOCK):
        column = tile + within
        exists = column < num_columns
        found = tl.load(owner + column, mask=exists, other=-1)
        if FORBIDDEN:
            never = tl.load(forbidden + (first + found) * num_columns + column, mask=exists & (found >= 0), other=0)
            found = tl.where(never != 0, -1, found)
        tl.store(matched + sample * num_columns + column, found, mask=exists)
