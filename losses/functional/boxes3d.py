"""The loss of boxes in 3D: L1 of their parameters, with a weight for each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from matchers.geometry.codes import check_codes, checked_code_weights
from ragged.interop.operands import takes_batches
from ragged.values.checks import check_broadcast
from ragged.values.once import known_row
from ragged.values.precision import wide


@takes_batches(pred=1, target=1)
def box3d_l1_loss(pred: Tensor, target: Tensor, *, code_weights: Sequence[float] | None = None) -> Tensor:
    """``sum_d w_d |x_d - t_d|`` of the D parameters of each box; 0 where one of the target is not finite.

    nuScenes marks unknown velocities with NaN: such a box has no loss, as in DETR3D and StreamPETR.

    Args:
        pred: ``(…, D)``.
        target: ``(…, D)``, for example from ``Box3DCoder.encode``. It is a constant: no gradient flows into it.
        code_weights: D weights; 1 for all if not given. DETR3D weighs the velocities by 0.2, StreamPETR x and y by 2.

    Returns:
        ``(…)``, float32 at least.

    Raises:
        ValueError, TypeError: Shapes, dtypes or weights that do not fit.

    Source: Wang et al., DETR3D, 2021; Wang et al., StreamPETR, 2023.

    >>> target = torch.tensor([[1.0, 0.0, 0.5], [1.0, 0.0, torch.nan]])
    >>> box3d_l1_loss(torch.zeros(2, 3), target, code_weights=(2.0, 1.0, 0.2))
    tensor([2.1000, 0.0000])
    """
    check_codes(pred, target, "pred", "target")
    check_broadcast(pred.shape, target.shape, "pred", "target")
    found = wide(pred)
    wanted = target.detach().to(found.dtype)
    values = (found - wanted.nan_to_num()).abs()
    if code_weights is not None:
        values = values * known_row(checked_code_weights(code_weights, values.shape[-1]), values)
    return values.sum(-1).masked_fill(~wanted.isfinite().all(-1), 0)
