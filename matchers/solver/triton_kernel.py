"""The exact linear assignment problem on the device: which of two kernels solves it, and how it is launched.

With ``TRITON_INTERPRET=1`` in the environment the same kernels run on CPU, slowly.
"""

from __future__ import annotations

import contextlib

import torch
import triton
from torch import Tensor

from matchers.solver.triton_narrow import MAX_PREDICTIONS, num_warps, solve_narrow
from matchers.solver.triton_wide import NUM_WARPS, NUMBERS, TILE, WHOLE_NUMBERS, solve_wide


def can_solve(device: torch.device) -> bool:
    """Whether the kernels run on a device."""
    if not isinstance(solve_narrow, triton.JITFunction):  # it is interpreted
        return True
    # What Triton supports.
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def solve(
    cost: Tensor,
    start: Tensor,
    count: Tensor,
    valid: Tensor,
    forbidden: Tensor | None,
    *,
    widest: int = MAX_PREDICTIONS,
    tile: int = TILE,
) -> Tensor:
    """See ``linear_assignment.solve_rows``; only if ``can_solve``.

    Computes in float32, in float64 if the cost is of that type. Waits for nothing, and can be captured in a CUDA graph
    once it was compiled: run it before, with as many predictions.

    Args:
        cost, start, count, valid, forbidden: As for ``solve_rows``.
        widest: Up to how many predictions all of them are one block, in registers. With more, they come in tiles.
        tile: How many of them are a tile.
    """
    cost = cost.detach()
    cost = (cost if cost.dtype in (torch.float32, torch.float64) else cost.float()).contiguous()
    num_samples, num_columns = start.shape[0], cost.shape[1]
    matched = torch.empty((num_samples, num_columns), dtype=torch.int64, device=cost.device)
    if not matched.numel():
        return matched
    never = valid if forbidden is None else forbidden.contiguous()
    arguments = [cost, never, valid.contiguous(), start.contiguous(), count.contiguous(), matched]
    options: dict[str, int] = {
        "FORBIDDEN": forbidden is not None,
        "enable_fp_fusion": False,
    }  # all devices round as the interpreter
    with torch.cuda.device(cost.device) if cost.is_cuda else contextlib.nullcontext():
        if num_columns <= widest:
            block = max(32, triton.next_power_of_2(num_columns))
            options |= {"BLOCK": block, "num_warps": num_warps(block)}
            solve_narrow[(num_samples,)](*arguments, num_columns, **options)
        else:
            whole = start.new_empty(num_samples, WHOLE_NUMBERS.value, num_columns, dtype=torch.int64)
            numbers = cost.new_empty(num_samples, NUMBERS.value, num_columns)
            options |= {"BLOCK": tile, "num_warps": NUM_WARPS}
            solve_wide[(num_samples,)](*arguments, whole, numbers, num_columns, **options)
    return matched
