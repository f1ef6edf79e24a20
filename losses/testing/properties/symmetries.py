"""Symmetries of criteria: the same scene, written down in another way, has the same terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from losses.testing.case import SIZES, CriterionCase, Outcome, leaves_of, take_targets
from losses.testing.properties.comparing import expect_same
from losses.testing.roles import in_order, map_named, named, take
from matchers import Targets
from matchers.testing import CANVAS
from matchers.testing.changes.moves import (
    FORMATS,
    MOVES,
    canvas_of,
    corner_box,
    cover_box,
    moved_boxes,
    moved_targets,
    targets_in,
)
from matchers.testing.changes.rows import (
    class_order,
    in_target_order,
    renamed_columns,
    renamed_labels,
    reversed_order,
    with_ignored_target,
    with_other_ignored,
)
from matchers.testing.under_test import REFUSALS, nudged
from ragged.testing import PropertyViolation

WIDE = (CANVAS, 2 * CANVAS)
"""Height and width of images in which neither can be taken for the other."""
CROWDED = (12, 40)
_COVERED = (3, 1)
_RTOL, _ATOL = 1e-4, 1e-5


def target_order(case: CriterionCase) -> None:
    """The targets of each image in another order, and with 40 of them, which may be more than predictions."""
    for sizes in (SIZES, CROWDED) if case.fixed is None else (SIZES,):
        predictions, targets = case.scene(sizes)
        turned = in_target_order(targets, reversed_order(targets))
        found = case.value_and_gradients(case.make(), predictions, turned)
        claim = "the targets of each image in reversed order, then as they were"
        _expect_same_unless_tied(case, sizes, found, case.outcome(sizes), claim)


def _expect_same_unless_tied(
    case: CriterionCase, sizes: Sequence[int], found: Outcome, expected: Outcome, claim: str
) -> None:
    """Raise unless both are the same, or what is hardly another scene has another outcome, so that a tie decides."""
    try:
        expect_same(found, expected, claim, _RTOL, _ATOL)
    except PropertyViolation:
        predictions, targets = case.scene(sizes)
        for seed in range(4):
            near = case.losses(case.make(), nudged(predictions, torch.Generator().manual_seed(seed)), targets)
            for name, value in near.items():
                if not torch.allclose(value.detach(), expected[0][name], rtol=1e-2, atol=1e-3):
                    return
        raise


def prediction_order(case: CriterionCase) -> None:
    """The predictions of all images in another order, where they are queries."""
    predictions, targets = case.scene()
    known = named((*case.logits, *case.boxes_keys), predictions)
    problem = None
    # Behind the images may be layers, which keep their order.
    for dim in range(min(each.dim() for each in known) - 2, 0, -1):
        turn = partial(in_order, order=torch.arange(known[0].shape[dim]).flip(0), dim=dim)
        try:
            _expect_same_after(case, turn, targets, "the predictions in reversed order, then as they were")
            return
        except PropertyViolation as violation:
            problem = problem or violation
    if problem is not None:
        raise problem


def classes(case: CriterionCase) -> None:
    """Classes with other numbers, in logits and labels alike; a background is the first or the last logit."""
    predictions, targets = case.scene()
    logits = named(case.logits, predictions)[0]
    # No class is a background, so that all can have another number; a shift of all would go along with labels shifted.
    order = class_order(case.num_classes).flip(0)
    known = list(range(case.num_classes))
    orders = [order]
    if logits.shape[-1] == case.num_classes + 1:
        full = torch.tensor([*known[1:], 0])
        orders = [torch.cat([full, full.new_tensor([len(full)])]), torch.cat([full.new_tensor([0]), full + 1])]
        order = full
    renamed = renamed_labels(targets, order)
    problem = None
    # Others as wide, such as those of denoising queries, may be logits, too.
    for columns, names in [(columns, names) for columns in orders for names in (case.logits, None)]:
        change = partial(map_named, partial(renamed_columns, order=columns), names, width=len(columns))
        claim = f"classes renamed to {order.tolist()} in logits and labels, then as they were"
        try:
            return _expect_same_after(case, change, renamed, claim)
        except PropertyViolation as violation:
            problem = problem or violation
    assert problem is not None
    raise problem


def formats(case: CriterionCase) -> None:
    """Targets in each box format and unit, which they say themselves; images are no squares."""
    predictions, targets = case.scene()
    sizes = torch.tensor([WIDE, WIDE[::-1], (2 * CANVAS, 2 * CANVAS)])
    wide = replace(targets, canvas_size=sizes[torch.arange(len(targets.num_targets)) % len(sizes)])
    expected = case.value_and_gradients(case.make(), predictions, wide)
    canvas = canvas_of(wide, CANVAS)
    problems: list[tuple[PropertyViolation, bool]] = []
    for box_format, normalized in [(name, unit) for unit in (False, True) for name in FORMATS]:
        if (box_format, normalized) == (targets.box_format, targets.normalized):
            continue
        changed = targets_in(wide, box_format, normalized, canvas)
        try:
            found = case.value_and_gradients(case.make(), predictions, changed)
        except REFUSALS:
            continue  # it does not take them, and says so
        claim = f"targets {_form(changed)}, then {_form(targets)}; targets.boxes_as gives the form that you need"
        try:
            expect_same(found, expected, claim, 1e-3, 1e-4)
        except PropertyViolation as violation:
            problems.append((violation, _learns_alike(case, predictions, found, expected)))
    # Another match is that of a criterion which takes predictions to be in the form of the targets, as matchers do.
    if problems and all(alike for _, alike in problems):
        raise problems[0][0]


def _form(targets: Targets) -> str:
    return f"{targets.box_format} in {'fractions' if targets.normalized else 'pixels'}"


def _learns_alike(case: CriterionCase, predictions: Any, found: Outcome, expected: Outcome) -> bool:
    """Whether the same predicted boxes have a gradient, so that the match is the same; of other heads nobody knows."""
    boxes = named(case.boxes_keys, predictions)
    if not boxes:
        return True
    pairs = [
        (one, other)
        for one, other in zip(found[1], expected[1], strict=True)
        if one is not None and other is not None and any(one.shape == each.shape for each in boxes)
    ]
    return all(torch.equal((one != 0).any(-1), (other != 0).any(-1)) for one, other in pairs)


def moved(name: str) -> Callable[[CriterionCase], None]:
    """A property that one of ``MOVES`` changes no term."""
    move, words = MOVES[name]

    def check(case: CriterionCase) -> None:
        predictions, targets = inside(case, *case.scene()) if case.fixed is None else case.scene()
        canvas = canvas_of(targets, CANVAS)
        expected = case.losses(case.make(), predictions, targets)

        def change(boxes: Tensor) -> Tensor:
            rows = boxes.flatten(1, -2)  # of all layers
            return moved_boxes(rows, move, targets.box_format, targets.normalized, canvas).reshape(boxes.shape)

        after = map_named(change, case.boxes_keys, predictions)
        found = case.losses(case.make(), after, moved_targets(targets, move, canvas))
        expect_same((found, []), (expected, []), f"{words}, then as they were", 1e-3, 1e-4)

    check.__doc__ = f"{words[0].upper()}{words[1:]}."
    return check


def inside(case: CriterionCase, predictions: Any, targets: Targets) -> tuple[Any, Targets]:
    """The scene in images that are wider than high, and so much smaller that it can be shifted."""
    canvas = torch.tensor(WIDE).expand(len(targets.num_targets), 2)
    boxes = targets.boxes.apply(_three_quarters)
    return map_named(_three_quarters, case.boxes_keys, predictions), replace(targets, boxes=boxes, canvas_size=canvas)


def _three_quarters(boxes: Tensor) -> Tensor:
    return boxes * 0.75  # in any format and unit


def repetition(case: CriterionCase) -> None:
    """Each image twice in the batch: the same mean, or twice the sum."""
    predictions, targets = case.scene()
    twice = [*range(len(targets.num_targets))] * 2
    found = case.losses(case.make(), take(predictions, twice), take_targets(targets, twice))
    expected = case.losses(case.make(), predictions, targets)
    doubled = {name: 2 * value if _is_twice(found.get(name), value) else value for name, value in expected.items()}
    expect_same((found, []), (doubled, []), "each image twice in the batch, then once", _RTOL, _ATOL)


def _is_twice(found: Any, expected: Tensor) -> bool:
    return isinstance(found, Tensor) and torch.allclose(found, 2 * expected, rtol=_RTOL, atol=_ATOL)


def ignored_target(case: CriterionCase) -> None:
    """A target more that is ignored and far from all others; other labels and weights of ignored targets."""
    predictions, targets = case.scene()
    box = None if targets.boxes is None else corner_box(targets, canvas_of(targets, CANVAS))
    more = with_ignored_target(targets, box)
    found = case.value_and_gradients(case.make(), predictions, more)
    claim = "an ignored target more in front of each image, then without"
    expect_same(found, case.outcome(), claim, _RTOL, _ATOL)
    found = case.value_and_gradients(case.make(), predictions, with_other_ignored(targets))
    claim = "other labels and weights of ignored targets, then as they were"
    expect_same(found, case.outcome(), claim, _RTOL, _ATOL)


def region(case: CriterionCase) -> None:
    """Where an ignored target covers an image, and there is no other, nothing of the image counts."""
    predictions, targets = case.scene(_COVERED)
    if targets.num_targets.tolist() != list(_COVERED):
        return
    cover = cover_box(targets, canvas_of(targets, CANVAS))
    boxes, ignore = targets.boxes.tensor.clone(), targets.ignored.clone()
    boxes[1, 0], ignore[1, 0] = cover[1].to(boxes), True
    own = targets.boxes.create_with_sample_sizes_like_self
    covered = replace(targets, boxes=own(boxes), ignore=own(ignore))
    _, gradients = case.value_and_gradients(case.make(), predictions, covered)
    for place, gradient in enumerate(gradients):
        if gradient is not None and gradient[1].any():
            raise PropertyViolation(
                f"criterion: prediction {place} of image 1 has a gradient, but an ignored target covers the image and "
                "there is no other: predictions of index -2 do not count"
            )


def _expect_same_after(case: CriterionCase, change: Callable[[Any], Any], targets: Targets, claim: str) -> None:
    """The terms are the same after a change of the predictions, which their gradients go along with."""
    predictions, _ = case.scene()
    values, gradients = case.outcome()
    found = case.value_and_gradients(case.make(), change(predictions), targets)
    expected: Outcome = (values, _changed(case, change, predictions, gradients))
    _expect_same_unless_tied(case, SIZES, found, expected, claim)


def _changed(case: CriterionCase, change: Callable[[Any], Any], predictions: Any, gradients: list[Any]) -> list[Any]:
    """Gradients as the predictions that they belong to."""
    if any(each is None for each in gradients):
        return gradients
    given = case.cast(predictions, gradients[0].dtype if gradients else torch.float32)
    waiting = iter(gradients)
    tree = pytree.tree_map(
        lambda leaf: next(waiting).requires_grad_() if isinstance(leaf, Tensor) and leaf.requires_grad else leaf, given
    )
    return [leaf.detach() for leaf in leaves_of(change(tree))]
