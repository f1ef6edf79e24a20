"""All properties of matchers by name, the scenes that each is looked for in, and when one does not apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matchers.testing.changes.moves import MOVES
from matchers.testing.properties import results, symmetries
from matchers.testing.properties.crowd import crowd
from matchers.testing.properties.of_operations import by_kit, compilation, synchronisation
from matchers.testing.properties.regions import REGIONS
from matchers.testing.scene import Scene
from matchers.testing.under_test import UnderTest
from ragged.testing import (
    assert_batch_equivariant,
    assert_dtype_stable,
    assert_filler_invariant,
    assert_padding_invariant,
    assert_random_state_kept,
    assert_sample_independent,
)

Property = Callable[[UnderTest, Scene], None]

SYMMETRIES: Mapping[str, Property] = {
    "target order": symmetries.target_order,
    "prediction order": symmetries.prediction_order,
    "classes": symmetries.classes,
    "formats": symmetries.formats,
    **{name: symmetries.moved(name) for name in MOVES},
    "repetition": symmetries.repetition,
    "ignored target": symmetries.ignored_target,
    "weights": symmetries.weights,
    "crowd": crowd,
    **REGIONS,
}
MATCHER_PROPERTIES: Mapping[str, Property] = {
    "result": results.result,
    "repeatable": results.repeatable,
    "randomness": by_kit(assert_random_state_kept, exact=True),
    "ignored": results.ignored,
    "layers": results.layers,
    "filler": by_kit(assert_filler_invariant, exact=True),
    "padding": by_kit(assert_padding_invariant),
    "order": by_kit(assert_batch_equivariant),
    "independence": by_kit(assert_sample_independent),
    "precision": by_kit(assert_dtype_stable),
    **SYMMETRIES,
    "synchronisation": synchronisation,
    "compilation": compilation,
}
"""What ``check_matcher`` checks, by the names that its ``without`` takes."""

_NEEDS_BOXES = ("formats", "crowd", "region", "large images", *MOVES)


def reason_against(name: str, matcher: UnderTest, scene: Scene) -> str | None:
    """Why a symmetry makes no sense for a matcher of such scenes; None if it does."""
    predictions, targets = scene.predictions, scene.targets
    if name not in SYMMETRIES:
        return None
    if name in ("prediction order", "crowd", "ragged predictions") and matcher.priors:
        return "predictions belong to priors"
    if name in ("prediction order", "ragged predictions") and predictions.sizes is not None:
        return "images have different numbers of predictions"
    if name == "classes" and (predictions.logits is None or targets.labels is None):
        return "there are no logits or no labels"
    if name in _NEEDS_BOXES and targets.boxes is None:
        return "targets have no boxes"
    if name in _NEEDS_BOXES and (predictions.fields or targets.fields):
        return "there are fields that only you know how to change along"
    return None
