"""Costs of boxes in 3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from matchers.costs.checks import check_values_of
from matchers.geometry.codes import check_codes, checked_code_weights
from ragged.interop.operands import takes_batches_of_pairs
from ragged.values.checks import check_broadcast
from ragged.values.once import known_row
from ragged.values.precision import wide


@takes_batches_of_pairs(rows={"gt_codes": 1}, columns={"codes": 1})
@torch.no_grad()
def box3d_l1_cost(gt_codes: Tensor, codes: Tensor, *, code_weights: Sequence[float] | None = None) -> Tensor:
    """``sum_d w_d |g_d - p_d|`` of the D parameters of boxes ``(…, G, D)`` and ``(…, P, D)``: ``(…, G, P)``.

    Args:
        gt_codes: ``(…, G, D)``, the parameters of targets, such as ``Box3DCoder`` makes.
        codes: ``(…, P, D)``, the predicted parameters.
        code_weights: D weights; 1 for all if not given. A parameter of weight 0 is not read: with ``(1,) * 8 + (0, 0)``
            can be NaN (unknown).

    >>> box3d_l1_cost(torch.zeros(1, 3), torch.tensor([[1.0, -2.0, torch.nan]]), code_weights=(1, 0.5, 0))
    tensor([[2.]])
    """
    for values, name, last in ((gt_codes, "gt_codes", "(…, G, D)"), (codes, "codes", "(…, P, D)")):
        check_values_of(values, name, last, at_least=2)
    check_codes(codes, gt_codes, "codes", "gt_codes")
    check_broadcast(gt_codes.shape[:-2], codes.shape[:-2], "the batch dimensions of gt_codes", "those of codes")
    gt, found = wide(gt_codes), wide(codes)
    if code_weights is not None:
        weights = checked_code_weights(code_weights, gt.shape[-1])
        gt, found = (_weighted(each, weights) for each in (gt, found))
    dtype = torch.promote_types(gt.dtype, found.dtype)
    return torch.cdist(gt.to(dtype), found.to(dtype), p=1)


def _weighted(codes: Tensor, weights: tuple[float, ...]) -> Tensor:
    """The parameters that have a weight, times that."""
    if not all(weights):
        codes = _with_weight(codes, weights)
        weights = tuple(weight for weight in weights if weight)
    return codes if all(weight == 1 for weight in weights) else codes * known_row(weights, codes)


def _with_weight(codes: Tensor, weights: tuple[float, ...]) -> Tensor:
    # Slices: an index is a tensor that an accelerator would wait for.
    bounds = [at for at in range(len(weights) + 1) if bool(_at(weights, at)) != bool(_at(weights, at - 1))]
    parts = [codes[..., start:stop] for start, stop in zip(bounds[::2], bounds[1::2], strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1) if parts else codes[..., :0]


def _at(weights: tuple[float, ...], place: int) -> float:
    return weights[place] if 0 <= place < len(weights) else 0
