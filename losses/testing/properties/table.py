"""All properties of criteria by name, and when one does not apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from losses.testing.case import CriterionCase
from losses.testing.properties import batches, calls, gradients, precision, symmetries, weighing
from losses.testing.properties.layers import has_layers, layers
from losses.testing.properties.ranks import ranks
from losses.testing.roles import named
from matchers.testing.changes.moves import MOVES

Property = Callable[[CriterionCase], None]

CRITERION_PROPERTIES: Mapping[str, Property] = {
    "result": calls.result,
    "repeatable": calls.repeatable,
    "randomness": calls.randomness,
    "padding": batches.padding,
    "plausible filler": batches.plausible_filler,
    "order": batches.order,
    "any number of objects": batches.any_number_of_objects,
    "ignored target": symmetries.ignored_target,
    "region": symmetries.region,
    "weights": weighing.weights,
    "weighted counts": weighing.weighted_counts,
    "target order": symmetries.target_order,
    "prediction order": symmetries.prediction_order,
    "layers": layers,
    "classes": symmetries.classes,
    "formats": symmetries.formats,
    **{name: symmetries.moved(name) for name in MOVES},
    "repetition": symmetries.repetition,
    "counts": weighing.counted,
    "negatives": weighing.negatives,
    "ranks": ranks,
    "gradients": gradients.first,
    "second derivatives": gradients.second,
    "half precision": precision.half_precision,
    "large images": precision.large_images,
    "autocast": precision.autocast,
    "double precision": precision.double_precision,
    "synchronisation": precision.synchronisation,
    "compilation": precision.compilation,
    "images alone": batches.images_alone,
    "unreduced values": batches.unreduced_values,
    "one image": batches.one_image,
    "NaN stays": calls.nan_stays,
    "sums": batches.sums,
    "micro-batches": calls.micro_batches,
    "two steps": calls.two_steps,
    "copies": calls.copies,
}
"""What ``check_criterion`` checks, by the names that its ``without`` takes."""

DECLARED: Mapping[str, Property] = {"divides by": weighing.divides_by, "reference": calls.as_reference}
"""What is checked where the case says something of it."""

# What a criterion must have for a property to make sense.
NEEDS_REDUCTIONS = ("images alone", "unreduced values", "one image", "sums")
NEEDS_METHODS: Mapping[str, tuple[str, ...]] = {"micro-batches": ("assign", "counts"), "two steps": ("assign", "loss")}
_NEEDS_BOXES = ("formats", "region", "large images", *MOVES)


def reasons(case: CriterionCase) -> dict[str, str]:
    """Why a property makes no sense for a criterion, by name."""
    criterion, (predictions, targets) = case.make(), case.scene()
    found = {name: "there is no attribute reduction" for name in NEEDS_REDUCTIONS if not case.reductions}
    for name, methods in NEEDS_METHODS.items():
        lacking = [method for method in methods if not hasattr(criterion, method)]
        if lacking:
            found[name] = f"there is no method {lacking[0]}"
    is_of_queries = case.is_of_queries()
    if not is_of_queries:
        only = f"predictions are more than {case.logits[0]} and {case.boxes_keys[0]}: they may belong to priors"
        found |= dict.fromkeys(("prediction order", "large images", *MOVES), only)
    elif not named(case.boxes_keys, predictions):
        found |= dict.fromkeys(("large images", *MOVES), "there are no predicted boxes")
    logits = named(case.logits, predictions)
    if targets.labels is None or not logits:
        found["classes"] = f"there are no labels, or no predictions {case.logits[0]}"
    elif logits[0].shape[-1] not in (case.num_classes, case.num_classes + 1):
        found["classes"] = f"there are {logits[0].shape[-1]} logits for {case.num_classes} classes"
    if targets.normalized:
        found["large images"] = "boxes are fractions of the image"
    if targets.boxes is None or targets.fields:
        found |= dict.fromkeys(_NEEDS_BOXES, "targets are more than boxes, or have none")
    if not is_of_queries:
        found["negatives"] = "predictions may belong to priors"
    if is_of_queries and not targets.normalized:
        found.setdefault("scale", "lengths in pixels grow with the image")
    if not has_layers(case):
        found["layers"] = "predictions have no list of layers"
    if criterion_is_distributed(criterion) is False:
        found["ranks"] = "the normalizer does not count over ranks"
    return found | dict(case.without)


def criterion_is_distributed(criterion: object) -> bool | None:
    """What the normalizer of the criterion says, if it has one."""
    return getattr(getattr(criterion, "normalizer", None), "distributed", None)


def applicable(case: CriterionCase) -> list[str]:
    """The properties that a criterion can have at all."""
    without = reasons(case)
    return [name for name in CRITERION_PROPERTIES if name not in without]
