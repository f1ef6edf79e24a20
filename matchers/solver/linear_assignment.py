"""The exact linear assignment problem, batched, as one torch operation.

The operation is ``ragged_batch::linear_assignment``. On CPU it is SciPy's solver (Crouse, 2016), sample by sample: the
only step of this toolkit that is. Costs are target-major, so that a sample is a contiguous block that the solver reads
in place. On CUDA it is one launch of a Triton kernel, for all samples.

Where costs on CUDA go through the host, as they do without Triton, the host waits for the device. That is an operation
of its own, ``ragged_batch::linear_assignment_on_host``, which compiled graphs leave out of their CUDA graphs.
"""

from __future__ import annotations

import functools
import importlib
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matchers.assignments.parts import BACKGROUND
from matchers.solver.arguments import SOLVERS, checked_problem
from ragged import RaggedBatch
from ragged.values.checks import check_one_of
from ragged.values.sizes import prefix_mask

HostSolver = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

_LARGE = 1e100
# Older versions of torch know no such tag.
_NOT_CAPTURED: Any = {"tags": torch.Tag.cudagraph_unsafe} if hasattr(torch.Tag, "cudagraph_unsafe") else {}
_WAITS = (
    "the exact assignment of costs on CUDA goes through the host, which waits for the device and is no part of a CUDA "
    "graph: Triton is missing, or does not support this device; solver='scipy' says that this is meant"
)


def batched_linear_sum_assignment(
    cost: Tensor | RaggedBatch,
    num_targets: Tensor | None = None,
    *,
    forbidden: Tensor | None = None,
    solver: str = "auto",
) -> Tensor:
    """Match targets and predictions one-to-one so that the total cost of each sample is smallest.

    Each sample has min(T, P) pairs. The solver makes as few pairs with non-finite costs as possible, and never a
    forbidden pair, even if a target stays unmatched. Ties are broken by the sample alone, not by the batch.
    ``one_to_one_assignment`` is the same as an ``Assignment``.

    Args:
        cost: ``(*batch, G, P)``, floating, target-major; or ragged along G, as costs of ragged targets are.
        num_targets: ``(*batch,)``: the number of rows of each sample that are targets; the rest is filler. All by
            default, or the sizes of a ragged cost. Leading dimensions that the costs alone have, layers for example,
            may be missing.
        forbidden: ``(*batch, G, P)``, bool. Leading dimensions may be missing, too.
        solver: ``"scipy"`` computes in float64 on the host and waits for the device of ``cost``. ``"triton"`` is for
            CUDA; it never waits, can be captured in a CUDA graph, and computes in float32 unless ``cost`` is float64.
            Beyond 8,192 predictions it takes 48 bytes for each of them, float64 56, and is slower. ``"auto"`` uses
            Triton where possible, otherwise SciPy (with a warning on CUDA). ``"lapx"`` uses the package lapx on the
            host.

    Returns:
        ``(*batch, P)``, int64: the target of each prediction, or -1.

    Raises:
        ImportError: The package of the solver is missing.
        TypeError: ``cost`` is not floating, or ``forbidden`` not boolean.
        ValueError: Shapes or devices do not fit, a number of targets is not in 0 … G, or the solver is unknown or does
            not support the device or size.

    >>> batched_linear_sum_assignment(torch.tensor([[[1.0, 2.0, 9.0], [1.0, 5.0, 9.0]]]))
    tensor([[ 1,  0, -1]])
    """
    return solve_checked(*checked_problem(cost, num_targets, forbidden, solver), solver)


def solve_checked(cost: Tensor, num_targets: Tensor, forbidden: Tensor | None, solver: str) -> Tensor:
    """``batched_linear_sum_assignment`` of arguments that ``checked_problem`` has seen."""
    *batch_shape, width, num_predictions = cost.shape
    start = torch.arange(num_targets.numel(), device=cost.device) * width
    valid = prefix_mask(num_targets, width).reshape(-1)
    never = None if forbidden is None else forbidden.flatten(0, -2)
    matched = solve(cost.detach().flatten(0, -2), start, torch.full_like(start, width), valid, never, solver)
    return matched.reshape(*batch_shape, num_predictions)


def solve(
    cost: Tensor, start: Tensor, count: Tensor, valid: Tensor, forbidden: Tensor | None = None, solver: str = "auto"
) -> Tensor:
    """``solve_rows``, or ``solve_rows_on_host`` if that is where costs on CUDA have to go."""
    operation = solve_rows_on_host if cost.is_cuda and goes_through_host(cost.device, solver) else solve_rows
    return operation(cost, start, count, valid, forbidden, solver)


def goes_through_host(device: torch.device, solver: str) -> bool:
    """Whether costs on a device have to be solved on the host. An unknown or missing solver is an error later on."""
    kernel = triton_kernel()
    return solver in ("scipy", "lapx") or (solver == "auto" and (kernel is None or not kernel.can_solve(device)))


# As torch.compiler.assume_constant_result does it, which imports the compiler.
goes_through_host._dynamo_marked_constant = True  # type: ignore[attr-defined]


@torch.library.custom_op("ragged_batch::linear_assignment", mutates_args=())
def solve_rows(
    cost: Tensor,
    start: Tensor,
    count: Tensor,
    valid: Tensor,
    forbidden: Tensor | None = None,
    solver: str = "auto",
) -> Tensor:
    """The operation itself: samples are runs of rows of one cost matrix.

    Args:
        cost: (R, P), floating; sample i has the rows ``start[i]`` to ``start[i] + count[i]``.
        start: (N,), int64.
        count: (N,), int64.
        valid: (R,), bool: rows that are targets.
        forbidden: (R, P), bool, or None.
        solver: One of ``SOLVERS``.

    Returns:
        (N, P), int64: for each prediction its row, counted from the sample's first one, or -1.
    """
    kernel = _kernel_for(cost, solver)
    if kernel is not None:
        return kernel.solve(cost, start, count, valid, forbidden)
    return _solve_on_host(cost, start, count, valid, forbidden, lapx_solver() if solver == "lapx" else None)


@torch.library.custom_op("ragged_batch::linear_assignment_on_host", mutates_args=(), **_NOT_CAPTURED)
def solve_rows_on_host(
    cost: Tensor,
    start: Tensor,
    count: Tensor,
    valid: Tensor,
    forbidden: Tensor | None = None,
    solver: str = "auto",
) -> Tensor:
    """The same of costs on another device, for which the host waits; ``"auto"`` says so once, as a warning."""
    if solver == "auto":
        warnings.warn(_WAITS, stacklevel=2)
    return _solve_on_host(cost, start, count, valid, forbidden, lapx_solver() if solver == "lapx" else None)


@solve_rows.register_fake
@solve_rows_on_host.register_fake
def _(
    cost: Tensor,
    start: Tensor,
    count: Tensor,
    valid: Tensor,
    forbidden: Tensor | None = None,
    solver: str = "auto",
) -> Tensor:
    return torch.empty((start.shape[0], cost.shape[1]), dtype=torch.int64, device=cost.device)


def check_available(solver: str) -> None:
    """Raise an error unless there is such a solver, and its package is installed."""
    check_one_of(solver, SOLVERS, "solver")
    if solver == "triton" and triton_kernel() is None:
        raise ImportError("solver 'triton' needs the package triton, which comes with torch for CUDA", name="triton")
    if solver == "lapx":
        lapx_solver()


@functools.cache
def triton_kernel() -> types.ModuleType | None:
    """The module with the kernel, imported when it is needed first; None without Triton."""
    try:
        return importlib.import_module("matchers.solver.triton_kernel")
    except ImportError:
        return None


@functools.cache
def scipy_solver() -> HostSolver:
    """SciPy's solver, imported when first needed: that takes longer than all of this toolkit."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment


@functools.cache
def lapx_solver() -> HostSolver:
    """The solver of lapx, called as SciPy's is."""
    try:
        lapjvh = importlib.import_module("lap").lapjvh  # a package of the same name has none
    except (ImportError, AttributeError) as error:
        raise ImportError(
            "solver 'lapx' needs the package lapx: pip install \"ragged-batch[lapx]\"", name="lap"
        ) from error

    def solve(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return lapjvh(cost.astype(np.float64), extend_cost=True, return_cost=False)

    return solve


def _kernel_for(cost: Tensor, solver: str) -> types.ModuleType | None:
    """The module with the kernel if it is to be used.

    Size does not matter here: SciPy solves a few small problems faster, but waiting for the device costs more than that
    and is not possible in a CUDA graph.
    """
    check_available(solver)
    if solver in ("scipy", "lapx") or (solver == "auto" and not cost.is_cuda):
        return None
    kernel = triton_kernel()
    if kernel is not None and kernel.can_solve(cost.device):
        return kernel
    if solver == "triton":
        raise ValueError(f"solver 'triton' needs costs on a CUDA device that Triton supports, got {cost.device}")
    return None


def _solve_on_host(
    cost: Tensor,
    start: Tensor,
    count: Tensor,
    valid: Tensor,
    forbidden: Tensor | None,
    solve: HostSolver | None = None,
) -> Tensor:
    """Sample by sample, by SciPy unless another solver is given."""
    solve = solve or scipy_solver()
    table = cost.detach().cpu().contiguous()
    numbers = (table if table.dtype in (torch.float32, torch.float64) else table.float()).numpy()
    usable = valid.cpu().numpy()
    never = None if forbidden is None else forbidden.cpu().numpy()
    firsts, counts = start.tolist(), count.tolist()
    matched = np.full((len(firsts), cost.shape[1]), BACKGROUND, dtype=np.int64)
    all_usable = bool(usable.all())
    with np.errstate(all="ignore"):
        all_finite = bool(np.isfinite(numbers.sum()))  # much faster than looking at each of them
    for sample, (first, size) in enumerate(zip(firsts, counts, strict=True)):
        rows = slice(first, first + size)
        problem, avoid = numbers[rows], None if never is None else never[rows]
        names = None if all_usable else np.flatnonzero(usable[rows])
        if names is not None:
            problem, avoid = problem[names], None if avoid is None else avoid[names]
        if not all_finite or avoid is not None:
            problem = bounded(problem, avoid)
        target, prediction = solve(problem)
        if avoid is not None:
            allowed = ~avoid[target, prediction]
            target, prediction = target[allowed], prediction[allowed]
        matched[sample, prediction] = target if names is None else names[target]
    return torch.from_numpy(matched).to(cost.device)


def bounded(cost: np.ndarray, forbidden: np.ndarray | None = None) -> np.ndarray:
    """Replace what cannot be chosen by numbers so large that choosing one of them is never worth while.

    Args:
        cost: (G, P). Cells that are not finite cost more than any assignment without them can.
        forbidden: (G, P), bool. These cost more than any assignment with non-finite cells can.
    """
    cost = cost.astype(np.float64)
    finite = np.isfinite(cost) if forbidden is None else np.isfinite(cost) & ~forbidden
    if finite.all():
        return cost
    values = cost[finite]
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    # Differences alone matter. Scaled, so that sums of them are finite; from zero on, that of all pairs is below the
    # replacement.
    scale = max(abs(low), abs(high)) if max(abs(low), abs(high)) > _LARGE else 1.0
    low, high = low / scale, high / scale
    cost = np.where(finite, np.where(finite, cost, 0.0) / scale - low, 0.0)
    pairs = min(cost.shape) + 1
    avoided = (high - low or 1.0) * pairs
    cost[~finite] = avoided
    if forbidden is not None:
        cost[forbidden] = avoided * pairs
    return cost
