"""What every criterion promises, checked for one in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from torch import nn

from losses.testing.case import CriterionCase
from losses.testing.predictions import queries
from losses.testing.properties import CRITERION_PROPERTIES, applicable
from matchers.testing import MakeTargets


def check_criterion(
    criterion: nn.Module | CriterionCase,
    predict: Callable[[Any, int], Any] | None = None,
    *,
    make_targets: MakeTargets | None = None,
    num_classes: int = 5,
    box_format: str = "xyxy",
    normalized: bool = False,
    as_terms: Callable[[Any], dict[str, Any]] | None = None,
    constants: tuple[str, ...] = (),
    without: Collection[str] = (),
) -> tuple[str, ...]:
    """Check all that a criterion of this package promises.

    Args:
        criterion: Called with predictions and ``Targets``; gives a dict of terms. Its attribute ``reduction``, if it
            has one, is set to each of ``"mean"``, ``"sample"``, ``"sum"`` and ``"none"``. Or a ``CriterionCase``, which
            says all of this and makes the arguments that follow superfluous.
        predict: ``predict(boxes, seed)`` gives predictions for images with these target boxes (n, 4), xyxy in an image
            of 64 pixels: a pytree of tensors with images in dimension 0. By default ``queries``: a dict of
            ``"pred_logits"`` (B, 12, C) and ``"pred_boxes"`` (B, 12, 4), some near the targets.
        make_targets: For targets of your own, such as keypoints: ``make_targets(sizes, generator)`` gives ``Targets``
            of images with so many objects each, of the generator's random numbers. ``predict(targets, seed)`` is then
            needed, and gets these targets in place of boxes.
        num_classes: Labels of the targets are below it; C for ``queries``.
        box_format, normalized: Of the targets, and of the boxes of ``queries``.
        as_terms: Makes a dict of terms of what the criterion returns, if it returns something else.
        constants: Keys of predictions that get no gradient.
        without: Names of ``CRITERION_PROPERTIES`` that the criterion does not promise.

    Returns:
        The names of the properties that were checked: those of reductions, micro-batches and of ``assign`` and ``loss``
        only where the criterion has such attributes.

    Raises:
        PropertyViolation: With the property, the term or prediction, the position, and both values.
        ValueError: ``without`` names something else than a property; ``make_targets`` comes without ``predict``, or
            gives targets of other sizes.

    >>> from losses import DetrCriterion
    >>> criterion = DetrCriterion({"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}, num_classes=5)
    >>> names = check_criterion(criterion, box_format="cxcywh", normalized=True, without=["compilation"])
    >>> names[:3]
    ('padding', 'order', 'any number of objects')
    """
    unknown = set(without) - CRITERION_PROPERTIES.keys()
    if unknown:
        raise ValueError(f"unknown property {min(unknown)!r}; there are {', '.join(CRITERION_PROPERTIES)}")
    if make_targets is not None and predict is None:
        raise ValueError("targets of make_targets need predictions near them: give predict(targets, seed) as well")
    if isinstance(criterion, CriterionCase):
        case = criterion
    else:
        own = partial(queries, num_classes=num_classes, box_format=box_format, normalized=normalized)
        case = CriterionCase(
            partial(_variant, criterion),
            own if predict is None else predict,
            num_classes=num_classes,
            box_format=box_format,
            normalized=normalized,
            as_terms=as_terms,
            reductions=CriterionCase.reductions if hasattr(criterion, "reduction") else (),
            constants=constants,
            make_targets=make_targets,
        )
    names = tuple(name for name in applicable(case) if name not in without)
    for name in names:
        CRITERION_PROPERTIES[name](case)
    return names


def _variant(criterion: nn.Module, **options: Any) -> nn.Module:
    """A copy with another reduction."""
    made = copy.deepcopy(criterion)
    for name, value in options.items():
        setattr(made, name, value)
    return made
