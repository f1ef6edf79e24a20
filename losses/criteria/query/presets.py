"""Criteria of queries as published systems have them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from losses.criteria.query.deim import DEIMCriterion
from losses.criteria.query.detr import DetrCriterion
from losses.criteria.query.dfine import DFINECriterion
from losses.modules.classes import FocalLoss, IoUAwareBinaryCrossEntropy
from losses.modules.per_prediction import CrossEntropy

_BOXES = {"loss_bbox": 5.0, "loss_giou": 2.0}
_DISTRIBUTIONS = {"loss_fgl": 0.15, "loss_ddf": 1.5}
_QUALITY = {"loss_vfl": 1.0, **_BOXES}


def _system(
    kind: type[DetrCriterion], class_weight: float | None, loss: Any = None, weights: Any = None, **options: Any
) -> tuple[type[DetrCriterion], Any, dict[str, Any]]:
    own = _BOXES if weights is None else weights
    return kind, loss, {"weight_dict": own if class_weight is None else {"loss_cls": class_weight, **own}, **options}


# The loss is made anew for each criterion; the cost is 2 focal + 5 L1 + 2 GIoU, and for DETR 1 softmax + 5 L1 + 2 GIoU.
_SYSTEMS = {
    "detr": _system(DetrCriterion, 1.0, CrossEntropy),
    "conditional-detr": _system(DetrCriterion, 2.0, FocalLoss),
    "deformable-detr": _system(DetrCriterion, 2.0, FocalLoss),
    "dab-detr": _system(DetrCriterion, 1.0, FocalLoss),
    "dino": _system(DetrCriterion, 1.0, FocalLoss),
    "rt-detr": _system(DetrCriterion, None, weights=_QUALITY, alpha=0.75, gamma=2.0),
    "lw-detr": _system(DetrCriterion, 1.0, IoUAwareBinaryCrossEntropy, num_groups=13),
    "rf-detr": _system(DetrCriterion, 1.0, IoUAwareBinaryCrossEntropy, num_groups=13),
    "d-fine": _system(DFINECriterion, None, weights=_QUALITY | _DISTRIBUTIONS, alpha=0.75, gamma=2.0),
    "deim": _system(DEIMCriterion, None, weights={"loss_mal": 1.0, **_BOXES, **_DISTRIBUTIONS}, gamma=1.5),
}


def query_criterion(system: str, num_classes: int = 80, **changes: Any) -> DetrCriterion:
    """The criterion of a published system, with its defaults.

    Each line: criterion; class loss; weights of class, L1 and GIoU; other settings.

    * ``"detr"``: ``DetrCriterion``; ``CrossEntropy(eos_coef=0.1)``; 1, 5, 2; softmax cost
    * ``"conditional-detr"``, ``"deformable-detr"``: ``DetrCriterion``; ``FocalLoss()``; 2, 5, 2
    * ``"dab-detr"``, ``"dino"``: ``DetrCriterion``; ``FocalLoss()``; 1, 5, 2
    * ``"rt-detr"``: ``DetrCriterion``; ``loss_vfl``, alpha 0.75; 1, 5, 2
    * ``"lw-detr"``, ``"rf-detr"``: ``DetrCriterion``; ``IoUAwareBinaryCrossEntropy()``; 1, 5, 2; 13 groups
    * ``"d-fine"``: ``DFINECriterion``; ``loss_vfl``, alpha 0.75; 1, 5, 2; ``loss_fgl`` 0.15, ``loss_ddf`` 1.5
    * ``"deim"``: ``DEIMCriterion``; ``loss_mal``, gamma 1.5; 1, 5, 2; ``loss_fgl`` 0.15, ``loss_ddf`` 1.5

    Args:
        system: One of the above.
        num_classes: C, without a background.
        changes: Other arguments of the criterion, such as ``num_groups=1`` or ``reduction="sample"``.

    Raises:
        ValueError: There is no such system; the message suggests similar names.
        TypeError: The criterion has no such argument.

    Source: Carion et al., DETR, 2020; Zhu et al., Deformable DETR, 2021; Meng et al., Conditional DETR, 2021; Liu et
    al., DAB-DETR, 2022; Zhang et al., DINO, 2023; Zhao et al., RT-DETR, 2024; Chen et al., LW-DETR, 2024; Robinson et
    al., RF-DETR, 2025; Peng et al., D-FINE, 2024; Huang et al., DEIM, 2025.

    >>> criterion = query_criterion("rf-detr", num_classes=3)
    >>> criterion.loss_cls, criterion.num_groups
    (IoUAwareBinaryCrossEntropy(), 13)
    """
    if system not in _SYSTEMS:
        near = get_close_matches(str(system).lower().replace("_", "-"), _SYSTEMS, n=2)
        advice = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"system must be one of {', '.join(_SYSTEMS)}, got {system!r}; {advice}".rstrip("; "))
    kind, loss, options = _SYSTEMS[system]
    if loss is not None and "loss_cls" not in changes:
        options = options | {"loss_cls": loss()}
    return kind(num_classes=num_classes, **(options | changes))
