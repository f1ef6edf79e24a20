"""Options of ``DetectionLoss`` that depend on each other."""

from __future__ import annotations

import warnings

from losses.core.terms import check_reduction
from ragged.values.checks import check_flag, check_not_negative


def checked_ratio(mining: bool, ratio: float | None) -> float | None:
    """The ratio of hard negative mining, which has to have one."""
    if ratio is not None:
        check_not_negative(ratio, "neg_to_pos_ratio")
    if mining and ratio is None:
        raise ValueError("use_hard_negative_mining needs a neg_to_pos_ratio, got None")
    if not mining and ratio is not None:
        warnings.warn("neg_to_pos_ratio has no effect without use_hard_negative_mining", UserWarning, stacklevel=3)
    return ratio


def checked_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction, also as torch said it before: the old arguments win."""
    check_reduction(reduction)
    for name, flag in (("size_average", size_average), ("reduce", reduce)):
        if flag is not None:
            check_flag(flag, name)
    if size_average is None and reduce is None:
        return reduction
    summed = size_average is not None and not size_average
    old = "none" if reduce is not None and not reduce else "sum" if summed else "mean"
    warnings.warn(f"size_average and reduce are deprecated, use reduction={old!r}", DeprecationWarning, stacklevel=3)
    return old
