"""What ``check_matcher`` and ``check_criterion`` say: of wrong arguments, of what they skip, and of what they found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import matchers
from losses.testing import check_criterion, queries
from matchers import ClosestPrediction, Hungarian, Predictions, Targets
from matchers.testing import MATCHER_PROPERTIES, Report, check_matcher
from matchers.testing.reporting.shrinking import Shrinker
from ragged import RaggedBatch
from ragged.testing import PropertyViolation
from tests.mutation.users.matching import BestOverlap
from tests.mutation.users.training import SetLoss

TRACED = ("compilation", "synchronisation")
QUERIES: dict[str, Any] = {"box_format": "cxcywh", "normalized": True}


def fails(match: str, call: Callable[[], Any]) -> str:
    with pytest.raises(PropertyViolation, match=match) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_matcher(Hungarian), TypeError, r"takes a matcher, got the class Hungarian: give an instance"),
        (lambda: check_criterion(SetLoss), TypeError, r"takes a criterion, got the class SetLoss: give an instance"),
        (lambda: check_matcher(3), TypeError, "a matcher that can be called, got int"),  # type: ignore[arg-type]
        (lambda: check_matcher(Hungarian(), without="layers"), TypeError, r"write without=\['layers'\]"),
        (lambda: check_criterion(SetLoss(), without="ranks"), TypeError, r"write without=\['ranks'\]"),
        (
            lambda: check_criterion(SetLoss(), divides_by="layer"),
            ValueError,
            "one of batch, image or None, got 'layer'",
        ),
        (lambda: check_matcher(lambda predictions: None), TypeError, r"must take \(predictions, targets\)"),
    ],
)
def test_wrong_arguments_get_a_sentence(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


class FirstTen(BestOverlap):
    def scores(self, predictions: Predictions, targets: Targets) -> Tensor:
        scores = super().scores(predictions, targets)
        scores[..., 10:, :] = -1
        return scores


def test_a_counterexample_is_small_and_can_be_pasted() -> None:
    text = fails('property "target order": .*image 0, prediction', lambda: check_matcher(FirstTen(), without=TRACED))
    assert 'without=["target order"]' in text and len(text) < 2500
    code = re.sub("^    ", "", text.partition("Reproduce with\n")[2], flags=re.MULTILINE)
    found: dict[str, Any] = {"matcher": FirstTen()}
    exec(code, found)
    assert found["predictions"].batch_shape == (1,) and found["predictions"].num_predictions <= 2
    assert found["targets"].num_targets.tolist() == [11]


def test_an_error_of_a_matcher_comes_with_the_scene_and_as_the_cause() -> None:
    def raises(predictions: Predictions, targets: Targets) -> Any:
        raise RuntimeError("no such thing")

    with pytest.raises(PropertyViolation, match="the matcher raises RuntimeError: no such thing") as caught:
        check_matcher(raises)
    assert isinstance(caught.value.__cause__, RuntimeError) and "Predictions(" in str(caught.value)


def test_an_error_of_a_criterion_comes_with_the_scene_and_as_the_cause() -> None:
    class Raises(SetLoss):
        def forward(self, *_: Any) -> Any:
            raise RuntimeError("no such thing")

    with pytest.raises(PropertyViolation, match="the criterion raises RuntimeError: no such thing") as caught:
        check_criterion(Raises(), **QUERIES)
    assert isinstance(caught.value.__cause__, RuntimeError) and "Targets(" in str(caught.value)


@pytest.mark.parametrize("result", [None, [torch.ones(())], {}, {"loss": 1.0}])
def test_what_is_no_dict_of_terms_is_named(result: Any) -> None:
    class Returns(SetLoss):
        def forward(self, *_: Any) -> Any:
            return result

    fails("returns a (NoneType|list), expected|without terms|is a float, expected", lambda: check_criterion(Returns()))


def test_a_report_says_what_was_not_checked_and_why() -> None:
    names = check_matcher(BestOverlap(), without=TRACED)
    assert isinstance(names, Report) and names == tuple(name for name in MATCHER_PROPERTIES if name not in TRACED)
    assert names.not_checked == dict.fromkeys(TRACED, "without=")
    assert names.text().splitlines()[-1] == "not checked: synchronisation (without=)"
    points = matchers.grid_points((64, 64), [16])
    assert (
        check_matcher(matchers.SimOTA(), points, without=TRACED).not_checked["crowd"] == "predictions belong to priors"
    )


def test_a_reference_is_compared() -> None:
    same = check_matcher(BestOverlap(), reference=BestOverlap(), without=TRACED)
    assert same[-1] == "reference"
    fails('property "reference"', lambda: check_matcher(BestOverlap(), reference=BestOverlap(0.5), without=TRACED))
    others = [name for name in check_criterion.__globals__["CRITERION_PROPERTIES"] if name != "result"]

    def doubled(predictions: Any, targets: Targets) -> dict[str, Tensor]:
        return {name: 2 * value.detach() for name, value in SetLoss()(predictions, targets).items()}

    call = lambda: check_criterion(SetLoss(), **QUERIES, reference=doubled, without=others)  # noqa: E731
    fails("loss_cls.*the criterion, then the reference", call)


class OfLayers(SetLoss):
    def forward(self, predictions: Any, targets: Targets) -> dict[str, Any]:
        last = super().forward({name: predictions[name] for name in ("pred_logits", "pred_boxes")}, targets)
        unused = sum(0 * value.sum() for value in predictions["aux_outputs"][0].values())
        return {name: value + unused for name, value in last.items()}


def test_a_layer_that_is_left_out_is_named() -> None:
    def predict(boxes: list[Tensor], seed: int) -> dict[str, Any]:
        last, aux = (queries(boxes, seed + k, **QUERIES) for k in range(2))
        return {**last, "aux_outputs": [aux]}

    others = [name for name in check_criterion.__globals__["CRITERION_PROPERTIES"] if name != "gradients"]
    call = lambda: check_criterion(OfLayers(), predict, **QUERIES, without=others)  # noqa: E731
    fails(r"\['aux_outputs'\]\[0\].* have no gradient, though .* a layer is left out", call)


def test_a_matcher_with_ties_is_no_finding() -> None:
    """The distance of centres alone: whether targets are exchanged makes no difference for many pairs of boxes."""

    def centres(pairs: Any) -> Tensor:
        one, other = pairs.gt, pairs.predicted
        return (one.x1 + one.x2 - other.x1 - other.x2).abs() + (one.y1 + one.y2 - other.y1 - other.y2).abs()

    for matcher in (Hungarian(centres), ClosestPrediction()):
        assert "target order" in check_matcher(matcher, without=TRACED)


def test_a_shrinker_keeps_what_is_needed() -> None:
    shrinker = Shrinker(lambda items: {3, 7} <= set(items))
    assert shrinker.fewest(range(20), 0, list) == [3, 7]
    assert Shrinker(lambda items: True).fewest(range(20), 1, list) in [[item] for item in range(20)]


def test_fields_of_batches_are_code() -> None:
    text = matchers.testing.reporting.code.scene_as_code("f(x)", x=RaggedBatch(torch.ones(1, 2), sample_sizes=[1]))
    assert text.splitlines()[1:3] == ["    from ragged import RaggedBatch", "    import torch"]
