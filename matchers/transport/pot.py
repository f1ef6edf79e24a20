"""The solvers of Python Optimal Transport, image by image, for comparison and for methods that we do not have.

They need the extra ``pot``. Costs go through the host, so that an accelerator is waited for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from matchers.transport.sinkhorn import TransportMatcher
from matchers.transport.transport import Transport, marginal_error
from ragged.values.checks import check_count, check_number, check_one_of
from ragged.values.parameters import module_dataclass

Solver = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]


@module_dataclass
class _POT(TransportMatcher):
    methods: ClassVar[tuple[str, ...]] = ()

    method: str
    tolerance: float
    num_iter: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(self.method, self.methods, "method")
        check_count(self.num_iter, "num_iter")
        check_number(self.tolerance, "tolerance")
        _python_optimal_transport()

    def transport_plan(self, transport: Transport) -> tuple[Tensor, Tensor]:
        """A plan (N, K, P) that gives each prediction 1, and the largest error of a total (N,)."""
        kernels = transport.log_kernel.cpu().double().numpy()
        demands = transport.demand.cpu().double().numpy()
        free = np.ones_like(kernels[:, 0], dtype=bool) if transport.free is None else transport.free.cpu().numpy()
        plans = np.stack([self._solved(*sample) for sample in zip(kernels, demands, free, strict=True)])
        plan = torch.from_numpy(plans).to(transport.log_kernel)
        return plan, marginal_error(plan, transport)

    def _solved(self, log_kernel: np.ndarray, demand: np.ndarray, free: np.ndarray) -> np.ndarray:
        plan, pairs, count = np.zeros_like(log_kernel), np.ix_(demand > 0, free), int(free.sum())
        if not count:
            return plan
        reg = float(self.regularization(count))
        cost = np.ascontiguousarray(log_kernel[pairs].T * -reg)
        found = self.solver()(np.full(count, 1 / count), demand[demand > 0], cost, reg)
        # Where a method fails, its result is not finite; the residual shows that.
        plan[pairs] = np.nan_to_num(np.asarray(found), nan=0.0, posinf=0.0, neginf=0.0).T * count
        return plan

    def solver(self) -> Solver:
        """Solves one image: masses of predictions and rows, costs (P, K), regularisation -> plan (P, K)."""
        raise NotImplementedError


@module_dataclass
class BalancedPOT(_POT):
    """``BalancedSinkhorn`` with a solver of the package Python Optimal Transport (Flamary et al., POT, 2021).

    Args:
        method: ``"sinkhorn"``, ``"sinkhorn_log"``, ``"greenkhorn"``, ``"sinkhorn_stabilized"`` or
            ``"sinkhorn_epsilon_scaling"``, see ``ot.sinkhorn``. Only ``"sinkhorn_log"`` is safe for a small ``reg``.
        num_iter: Largest number of iterations.
        tolerance: The error at which a solver stops.
        reg, reg_dimless, normalize_cost_matrix: See ``TransportMatcher``.
        background, background_cost: See ``DenseMatcher``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    Raises:
        ImportError: The package ``ot`` is not installed.
        ValueError: ``method`` is unknown.
    """

    methods: ClassVar[tuple[str, ...]] = (
        "sinkhorn",
        "sinkhorn_log",
        "greenkhorn",
        "sinkhorn_stabilized",
        "sinkhorn_epsilon_scaling",
    )

    method: str = "sinkhorn_log"
    tolerance: float = 1e-9

    def solver(self) -> Solver:
        """Solves one image: masses of predictions and rows, costs (P, K), regularisation -> plan (P, K)."""
        sinkhorn = _python_optimal_transport().sinkhorn
        # How far it has come is on the result; there is no need for a warning.
        options = {"method": self.method, "numItermax": self.num_iter, "stopThr": self.tolerance, "warn": False}
        return lambda supply, demand, cost, reg: sinkhorn(supply, demand, cost, reg, **options)


@module_dataclass
class UnbalancedPOT(_POT):
    """As ``UnbalancedSinkhorn``, by a solver of Python Optimal Transport (Flamary et al., POT, 2021).

    ``Plan.residual`` is the largest deviation of a total from its marginal, which this matcher does not enforce.

    Args:
        method: ``"sinkhorn"``, ``"sinkhorn_stabilized"`` or ``"sinkhorn_reg_scaling"``, see
            ``ot.unbalanced.sinkhorn_unbalanced``. The entropy is that of the plan, as everywhere in this package. In
            version 0.9.7, ``"sinkhorn_stabilized"`` diverges for a small ``reg``.
        reg_pred_target: Weight of the penalty for deviating totals; in the unit of ``reg``.
        num_iter: Largest number of iterations.
        tolerance: The error at which a solver stops.
        reg, reg_dimless, normalize_cost_matrix: See ``TransportMatcher``.
        background, background_cost: See ``DenseMatcher``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    Raises:
        ImportError: The package ``ot`` is not installed.
        ValueError: ``method`` is unknown.
    """

    methods = ("sinkhorn", "sinkhorn_stabilized", "sinkhorn_reg_scaling")

    method: str = "sinkhorn"
    tolerance: float = 1e-6
    reg_pred_target: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.reg_pred_target, "reg_pred_target")
        self.reg_pred_target = float(self.reg_pred_target)

    def solver(self) -> Solver:
        """Solves one image: masses of predictions and rows, costs (P, K), regularisation -> plan (P, K)."""
        sinkhorn = _python_optimal_transport().unbalanced.sinkhorn_unbalanced
        options = {"method": self.method, "numItermax": self.num_iter, "stopThr": self.tolerance}
        strength = self.reg_pred_target
        return lambda supply, demand, cost, reg: sinkhorn(
            supply, demand, cost, reg, strength, reg_type="entropy", **options
        )


def _python_optimal_transport() -> Any:
    try:
        return importlib.import_module("ot")
    except ImportError as error:
        raise ImportError(
            'this matcher needs Python Optimal Transport: pip install "ragged-batch[pot]"', name="ot"
        ) from error
