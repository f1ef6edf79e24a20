"""Bad input is an error on the rank that has it, before the rank meets the others: none of them waits for it in vain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION, WITHOUT_LABELS
from torch import Tensor
from torch.utils import _pytree as pytree

from losses import total
from losses.testing import CriterionCase, is_of_images
from matchers import Targets

SIZES = [2, 3]
every_criterion = pytest.mark.parametrize("case", EVERY_CRITERION.values(), ids=EVERY_CRITERION)
RawTargets = list[dict[str, Tensor]]


@pytest.fixture
def collectives(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The process takes itself for one of two ranks; what it gives to collectives is kept here."""
    given: list[Tensor] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor, group=None: given.append(tensor))
    for name in ("all_gather", "broadcast", "barrier", "reduce", "all_gather_into_tensor", "all_gather_object"):
        monkeypatch.setattr(torch.distributed, name, lambda *args, **kwargs: given.append(torch.zeros(())))
    return given


@every_criterion
def test_good_input_is_one_collective(case: CriterionCase, collectives: list[Tensor]) -> None:
    case.losses(case.make(), case.predictions(SIZES), case.targets(SIZES))
    assert len(collectives) == 1 and collectives[0].numel() > 0


def label_out_of_range(raw: RawTargets) -> RawTargets:
    raw[1]["labels"][2] = 99
    return raw


def negative_label(raw: RawTargets) -> RawTargets:
    raw[1]["labels"][0] = -3
    return raw


def no_labels(raw: RawTargets) -> RawTargets:
    del raw[1]["labels"]
    return raw


def three_coordinates(raw: RawTargets) -> RawTargets:
    raw[1]["boxes"] = raw[1]["boxes"][:, :3]
    return raw


def too_few_labels(raw: RawTargets) -> RawTargets:
    raw[1]["labels"] = raw[1]["labels"][:2]
    return raw


def one_image_more(raw: RawTargets) -> RawTargets:
    return [*raw, raw[0]]


def not_a_number(raw: RawTargets) -> RawTargets:
    raw[1]["boxes"][0, 1] = torch.nan
    return raw


def floating_labels(raw: RawTargets) -> RawTargets:
    raw[0]["labels"] = raw[0]["labels"] + 0.5
    return raw


BAD_TARGETS: dict[str, tuple[Callable[[RawTargets], RawTargets], str]] = {
    "label out of range": (label_out_of_range, "99 at position 2 of sample 1"),
    "negative label": (negative_label, "-3.*sample 1"),
    "no labels": (no_labels, "sample 1.*labels"),
    "three coordinates": (three_coordinates, r"4.*3"),
    "too few labels": (too_few_labels, "sample 1|2.*3|3.*2"),
    "an image more": (one_image_more, "2.*3|3.*2"),
    "not a number": (not_a_number, "position 0 of sample 1 is not finite"),
    "floating labels": (floating_labels, "labels"),
}


@pytest.mark.parametrize("kind", BAD_TARGETS)
@every_criterion
def test_bad_targets(case: CriterionCase, kind: str, collectives: list[Tensor]) -> None:
    change, message = BAD_TARGETS[kind]
    if kind == "label out of range" and case in [EVERY_CRITERION[name] for name in WITHOUT_LABELS]:
        pytest.skip("asks for no class")
    predictions, targets = case.predictions(SIZES), case.targets(SIZES)
    raw = change(targets.to_dicts())

    def step() -> Tensor:
        layout = {"box_format": case.box_format, "normalized": case.normalized, "canvas_size": (64, 64)}
        return total(case.losses(case.make(), predictions, Targets.of(raw, **layout)))

    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        step()
    assert not collectives


def of_first(predictions: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change the first tensor that has images."""
    leaves, structure = pytree.tree_flatten(predictions)
    place = next(index for index, leaf in enumerate(leaves) if is_of_images(leaf) and leaf.dim() >= 3)
    leaves[place] = change(leaves[place])
    return pytree.tree_unflatten(leaves, structure)


BAD_PREDICTIONS: dict[str, Callable[[Any], Any]] = {
    "an image fewer": lambda given: of_first(given, lambda leaf: leaf[:1]),
    "no image dimension": lambda given: of_first(given, lambda leaf: leaf[0]),
    "channels missing": lambda given: of_first(given, lambda leaf: leaf[:, :2, ...][..., :2]),
    "integers": lambda given: of_first(given, lambda leaf: leaf.long()),
    "another container": lambda given: {"logits": given},
    "nothing": lambda given: None,
    "a number": lambda given: of_first(given, lambda leaf: 3.0),
}


@pytest.mark.parametrize("kind", BAD_PREDICTIONS)
@every_criterion
def test_bad_predictions(case: CriterionCase, kind: str, collectives: list[Tensor]) -> None:
    bad, targets = BAD_PREDICTIONS[kind](case.predictions(SIZES)), case.targets(SIZES)
    with pytest.raises((ValueError, TypeError, KeyError)) as raised:
        case.losses(case.make(), bad, targets)
    assert not collectives
    # Ours, which says what it wants: no message of torch from somewhere on the way.
    assert any(word in str(raised.value) for word in ("must", "need", "are of", "are for", "is of", "nobody reads")), (
        raised.value
    )
    assert "/torch/" not in raised.traceback[-1].path.as_posix()


@every_criterion
def test_all_predictions_of_an_image_more(case: CriterionCase, collectives: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="batch shape|images"):
        case.losses(case.make(), case.predictions([*SIZES, 1]), case.targets(SIZES))
    assert not collectives
