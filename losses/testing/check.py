"""What every criterion promises, checked for one in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from losses.core.criterion import Criterion
from losses.testing.case import SIZES, CriterionCase, Reference
from losses.testing.predictions import queries
from losses.testing.properties.smallest import smallest_scene, violation_of
from losses.testing.properties.table import CRITERION_PROPERTIES, DECLARED, reasons
from matchers.testing import MakeTargets, Report
from matchers.testing.reporting.code import scene_as_code, without_code
from matchers.testing.reporting.report import check_is_instance, check_without
from ragged.testing import PropertyViolation

DIVISORS = ("batch", "image")


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
    divides_by: str | None = None,
    reference: Reference | None = None,
    without: Collection[str] = (),
) -> Report:
    """Check all that a criterion of this package promises.

    Args:
        criterion: Called with predictions and ``Targets``; gives a dict of terms. Its attribute ``reduction``, if it
            has one, is set to each of ``"mean"``, ``"sample"``, ``"sum"`` and ``"none"``. Or a ``CriterionCase``,
            which replaces all other arguments.
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
        divides_by: ``"batch"``: sums over the batch are divided by counts of the batch, such as its number of
            targets; ``"image"``: each term is the mean over images. None: not checked.
        reference: ``reference(predictions, targets)`` gives the terms in another way, such as plain loops.
        without: Names of ``CRITERION_PROPERTIES`` that the criterion does not promise.

    Returns:
        The names of the properties that were checked: those of reductions, micro-batches and of ``assign`` and ``loss``
        only where the criterion has such attributes, those of moved boxes only where predictions are
        ``"pred_logits"`` and ``"pred_boxes"``. The attribute ``not_checked`` says which were not, and why.

    Raises:
        PropertyViolation: With the property, the term or prediction, the position, both values, and the smallest scene
            that shows it, as code. An error of the criterion is one, too: it is the cause of the violation.
        TypeError: The criterion is a class, or ``without`` a string.
        ValueError: ``without`` names something else than a property; ``make_targets`` comes without ``predict``, or
            gives targets of other sizes.

    >>> from losses import DetrCriterion
    >>> criterion = DetrCriterion({"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}, num_classes=5)
    >>> names = check_criterion(criterion, box_format="cxcywh", normalized=True, without=["compilation"])
    >>> names[:3]
    ('result', 'repeatable', 'randomness')
    """
    check_without(without, CRITERION_PROPERTIES)
    if divides_by is not None and divides_by not in DIVISORS:
        raise ValueError(f"divides_by must be one of {', '.join(DIVISORS)} or None, got {divides_by!r}")
    if make_targets is not None and predict is None:
        raise ValueError("targets of make_targets need predictions near them: give predict(targets, seed) as well")
    if isinstance(criterion, CriterionCase):
        case = criterion
    else:
        check_is_instance(criterion, "criterion", "check_criterion")
        own = partial(queries, num_classes=num_classes, box_format=box_format, normalized=normalized)
        case = CriterionCase(
            partial(_variant, criterion),
            own if predict is None else predict,
            num_classes=num_classes,
            box_format=box_format,
            normalized=normalized,
            as_terms=as_terms,
            reductions=(),
            constants=constants,
            make_targets=make_targets,
            divides_by=divides_by,
            reference=reference,
        )
        case = _with_reductions(case, criterion)
    return _check_all(case, without)


def _check_all(case: CriterionCase, without: Collection[str]) -> Report:
    case.scene()  # what is wrong with make_targets or predict is no fault of the criterion
    _check("result", case)  # without terms there is nothing else to look at
    skipped = dict.fromkeys(without, "without=")
    skipped |= {name: why for name, why in reasons(case).items() if name not in without}
    names = [name for name in CRITERION_PROPERTIES if name not in skipped]
    for name in names:
        _check(name, case)
    for name, given in zip(DECLARED, (case.divides_by, case.reference), strict=True):
        if given is None:
            skipped[name] = f"there is no {name.replace(' ', '_')}="
        else:
            _check(name, case)
            names.append(name)
    return Report(names, skipped)


def _check(name: str, case: CriterionCase) -> None:
    violation = violation_of(name, case)
    if violation is None:
        return
    found = None if name == "compilation" else smallest_scene(name, case)
    scene, shown = (case.scene(), violation) if found is None else found
    text = without_code(str(shown)).removeprefix("criterion: ")
    advice = f'If the criterion does not promise this: without=["{name}"].\n' if name in CRITERION_PROPERTIES else ""
    scene_code = scene_as_code("criterion(predictions, targets)", predictions=scene[0], targets=scene[1])
    message = f'criterion, property "{name}": {text}\n{advice}{scene_code}'
    raise PropertyViolation(message) from (shown.__cause__ or violation.__cause__)


def _with_reductions(case: CriterionCase, criterion: Any) -> CriterionCase:
    """The case with the reductions of this toolkit, if the criterion has them."""
    if not hasattr(criterion, "reduction"):
        return case
    if not isinstance(criterion, Criterion) and not _takes_reductions(case):
        return case
    return replace(case, reductions=CriterionCase.reductions)


def _takes_reductions(case: CriterionCase) -> bool:
    """Whether ``reduction="sample"`` gives something for each image; an attribute may mean something else."""
    try:
        terms = case.losses(case.make(reduction="sample"), *case.scene())
    except Exception:
        return False
    return any(isinstance(value, Tensor) and value.shape == (len(SIZES),) for value in terms.values())


def _variant(criterion: nn.Module, **options: Any) -> nn.Module:
    """A copy with another reduction."""
    made = copy.deepcopy(criterion)
    for name, value in options.items():
        setattr(made, name, value)
    return made
