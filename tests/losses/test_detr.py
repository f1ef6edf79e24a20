"""The criteria of DETR, D-FINE and DEIM, against losses of one query at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION as CASES
from cases.common import CLASSES, cast
from cases.decoder import (
    ALPHA,
    FINE_WEIGHTS,
    QUERIES,
    REG_MAX,
    WEIGHTS,
    every_layer,
    expected,
    outputs,
    term_of,
)
from torch import Tensor

import losses
from losses import DEIMCriterion, DetrCriterion, DFINECriterion, total
from losses.testing import leaves_of
from matchers import Hungarian, Targets
from ragged import RaggedBatch

GAMMA = 2.0
SCENES = {
    "usual": [3, 1, 4],
    "one empty image": [2, 0],
    "one object": [1],
    "more targets than queries": [20, 2],
    "no object": [0, 0],
}
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


def scene(sizes: list[int], *, extra: str = "", fine: bool = True, denoising: bool = True) -> tuple[Any, Targets]:
    """Outputs and targets in float64; ``extra`` adds weights or ignore flags."""
    case = CASES["dfine"]
    predictions = cast(outputs(case.boxes(sizes), 0, fine=fine, denoising=denoising), torch.float64)
    targets = case.targets(sizes).to(torch.float64)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.rand(len(sizes), max(*sizes, 1), generator=generator, dtype=torch.float64)[:, : max(sizes)]
    batch = RaggedBatch(drawn, sample_sizes=targets.num_targets)
    if "weights" in extra:
        targets = replace(targets, weights=batch * 2 + 0.5)
    if "ignored" in extra:
        targets = replace(targets, ignore=RaggedBatch(drawn < 0.4, sample_sizes=targets.num_targets))
    return predictions, targets


def gradients(values: dict[str, Any], predictions: Any) -> list[Tensor]:
    summed: Any = sum(value for value in values.values() if isinstance(value, Tensor) and value.requires_grad)
    leaves = leaves_of(predictions)
    found = torch.autograd.grad(summed, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, found, strict=True)]


def compare(criterion: Any, predictions: Any, targets: Targets, *, fine: bool, gamma: float = GAMMA) -> None:
    assignments = criterion.assign(predictions, targets)
    values = criterion.loss(predictions, targets, assignments)
    reference_values = expected(
        predictions, targets, assignments, fine=fine, weights=criterion.weight_dict, gamma=gamma
    )
    assert values.keys() == reference_values.keys()
    for name, value in reference_values.items():
        close(
            values[name].detach(),
            torch.as_tensor(value, dtype=torch.float64).detach(),
            msg=lambda m, n=name: f"{n}: {m}",
        )
    for one, other in zip(gradients(values, predictions), gradients(reference_values, predictions), strict=True):
        close(one, other)


@pytest.mark.parametrize("extra", ["", "weights", "ignored", "weights, ignored"])
@pytest.mark.parametrize("sizes", SCENES.values(), ids=SCENES)
def test_detr(sizes: list[int], extra: str) -> None:
    predictions, targets = scene(sizes, extra=extra, fine=False)
    compare(DetrCriterion(WEIGHTS, ALPHA, GAMMA, CLASSES), predictions, targets, fine=False)


@pytest.mark.parametrize("extra", ["", "weights", "ignored", "weights, ignored"])
@pytest.mark.parametrize("sizes", SCENES.values(), ids=SCENES)
def test_dfine(sizes: list[int], extra: str) -> None:
    predictions, targets = scene(sizes, extra=extra)
    compare(DFINECriterion(FINE_WEIGHTS, ALPHA, GAMMA, CLASSES, REG_MAX), predictions, targets, fine=True)


@pytest.mark.parametrize("sizes", [SCENES["usual"], SCENES["no object"]])
def test_deim(sizes: list[int]) -> None:
    predictions, targets = scene(sizes)
    weights = FINE_WEIGHTS | {"loss_mal": 0.5}
    criterion = DEIMCriterion(weights, ALPHA, 1.5, CLASSES, REG_MAX)
    compare(criterion, predictions, targets, fine=True, gamma=1.5)


def test_float32_is_close_to_float64() -> None:
    predictions, targets = scene(SCENES["usual"])
    criterion = DFINECriterion(FINE_WEIGHTS, ALPHA, GAMMA, CLASSES, REG_MAX)
    exact = criterion(predictions, targets)
    single = cast(predictions, torch.float32)
    values = criterion(single, targets.to(torch.float32))
    for name, value in exact.items():
        torch.testing.assert_close(values[name].double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["detr", "dfine"])
def test_all_layers_at_once_are_the_layers_one_by_one(name: str) -> None:
    predictions, targets = scene([3, 0, 5], fine=False, denoising=False)
    criterion = CASES[name].make()
    together = criterion(predictions, targets)
    layers = every_layer(predictions)
    if name == "detr":
        for suffix, layer in layers.items():
            alone = criterion({key: layer[key] for key in ("pred_logits", "pred_boxes")}, targets)
            for term, value in alone.items():
                close(together[term + suffix], value)
    else:  # the class losses only: boxes are compared with the union of all layers
        for suffix, layer in layers.items():
            alone = criterion({key: layer[key] for key in ("pred_logits", "pred_boxes")}, targets)
            close(together["loss_vfl" + suffix], alone["loss_vfl"])


def test_layers_of_other_widths_are_matched_on_their_own() -> None:
    predictions, targets = scene([3, 2], fine=False, denoising=False)
    wide = {
        key: torch.cat([value, value[:, :5] * 0.9], 1).detach() for key, value in predictions["aux_outputs"][0].items()
    }
    predictions["enc_aux_outputs"] = [wide]
    for criterion in (CASES["detr"].make(), CASES["dfine"].make()):
        found = criterion(predictions, targets)
        alone = criterion(wide, targets)
        close({name: found[f"{name}_enc_0"] for name in alone}, alone)


def test_outputs_are_not_changed() -> None:
    predictions, targets = scene([3, 2])
    keys = {suffix: list(layer) for suffix, layer in every_layer(predictions).items()}
    CASES["dfine"].make()(predictions, targets)
    assert keys == {suffix: list(layer) for suffix, layer in every_layer(predictions).items()}


def test_targets_in_pixels_are_converted() -> None:
    case = CASES["detr"]
    predictions, targets = scene([3, 2], fine=False)
    pixels = Targets.of((case.boxes([3, 2]), [each["labels"] for each in targets.to_dicts()]), canvas_size=(64, 64))
    criterion = case.make()
    torch.testing.assert_close(criterion(predictions, pixels), criterion(predictions, targets), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="give the targets a canvas_size"):
        criterion(predictions, replace(pixels, canvas_size=None))


def test_raw_targets_are_fractions_as_centre_and_size() -> None:
    predictions, targets = scene([3, 0, 2], fine=False)
    criterion = CASES["detr"].make()
    close(criterion(predictions, targets.to_dicts()), criterion(predictions, targets))
    wrong = [{"boxes": each["boxes"] * 64, "labels": each["labels"]} for each in targets.to_dicts()]
    with pytest.raises(ValueError, match="normalized=True"):
        criterion(predictions, wrong)


def test_any_matcher() -> None:
    predictions, targets = scene([3, 2], fine=False, denoising=False)
    matcher = Hungarian(lambda pairs: -pairs.logits_of_labels())
    criterion = DetrCriterion(WEIGHTS, num_classes=CLASSES, matcher=matcher)
    found = criterion.assign(predictions, targets)
    assert not torch.equal(
        found[""].target_index,
        DetrCriterion(WEIGHTS, num_classes=CLASSES).assign(predictions, targets)[""].target_index,
    )
    close(criterion(predictions, targets), criterion.loss(predictions, targets, found))


def test_the_last_layer_learns_nothing_as_a_teacher() -> None:
    predictions, targets = scene([3, 2])
    teachers = [
        layer[key].requires_grad_()
        for layer in every_layer(predictions).values()
        for key in ("teacher_corners", "teacher_logits")
        if key in layer
    ]
    found = DFINECriterion({"loss_ddf": 1.5}, num_classes=CLASSES, reg_max=REG_MAX)(predictions, targets)
    assert len(teachers) == 8 and total(found) > 0
    assert torch.autograd.grad(total(found), teachers, allow_unused=True) == (None,) * 8


def test_terms_without_a_weight_are_left_out() -> None:
    predictions, targets = scene([3, 2])
    found = DFINECriterion({"loss_fgl": 2.0}, num_classes=CLASSES, reg_max=REG_MAX)(predictions, targets)
    assert set(found) == {
        "loss_fgl",
        "loss_fgl_aux_0",
        "loss_fgl_aux_1",
        "loss_fgl_dn_0",
        "loss_fgl_dn_1",
        "loss_fgl_dn_2",
    }


def test_unreduced_terms_know_their_layer() -> None:
    predictions, targets = scene([3, 0, 2])
    none = CASES["dfine"].make(reduction="none")(predictions, targets)
    sample = CASES["dfine"].make(reduction="sum")(predictions, targets)
    for name, values in none.items():
        queries = every_layer(predictions)[name.removeprefix(term_of(name))]["pred_logits"].shape[1]
        assert values.tensor.shape == (3, queries)
        close(values.tensor.sum(), sample[name])


def test_denoising_without_queries() -> None:
    predictions, targets = scene([0, 0], fine=False, denoising=False)
    empty = {
        "pred_logits": torch.zeros(2, 0, CLASSES, dtype=torch.float64, requires_grad=True),
        "pred_boxes": torch.zeros(2, 0, 4, dtype=torch.float64),
    }
    found = CASES["detr"].make()(predictions | {"dn_aux_outputs": [empty], "dn_meta": None}, targets)
    assert {"loss_vfl_dn_0", "loss_bbox_dn_0", "loss_giou_dn_0"} <= set(found)
    assert found["loss_vfl_dn_0"] == 0 and found["loss_vfl_dn_0"].requires_grad


def test_positive_queries_of_denoising() -> None:
    _, targets = scene([2, 0, 1], fine=False)
    positive = [torch.tensor([0, 1, 4, 5]), torch.tensor([], dtype=torch.int64), torch.tensor([0, 4])]
    meta = {"dn_num_group": 2, "dn_num_split": [8, QUERIES], "dn_positive_idx": positive}
    found = DetrCriterion.get_cdn_matched_indices(meta, targets)
    assert [query.tolist() for query, _ in found] == [[0, 1, 4, 5], [], [0, 4]]
    assert [target.tolist() for _, target in found] == [[0, 1, 0, 1], [], [0, 0]]


@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_static_fgl_loss(reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    preds, quality = torch.randn(6, 5, generator=generator), torch.rand(6, generator=generator)
    targets, right = torch.tensor([0.0, 1, 2, 3, 3, 0]), torch.rand(6, generator=generator)
    found = DFINECriterion.fgl_loss(preds, targets, right, 1 - right, quality, reduction=reduction)
    log_p = preds.log_softmax(-1)
    rows = torch.stack(
        [-quality[k] * ((1 - right[k]) * log_p[k, n] + right[k] * log_p[k, n + 1]) for k, n in enumerate(targets.int())]
    )
    wanted = {"sum": rows.sum(), "mean": rows.mean(), "none": rows}[reduction]
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        DFINECriterion.fgl_loss(preds, targets, right, 1 - right, quality, avg_factor=3.0), rows.sum() / 3
    )
    assert DFINECriterion.fgl_loss(preds, targets, right, 1 - right, quality * 0) == 0
    with pytest.raises(ValueError, match="reduction must be"):
        DFINECriterion.fgl_loss(preds, targets, right, 1 - right, reduction="max")


def broken(**changes: Any) -> Any:
    predictions, _ = scene([2, 1], fine=False, denoising=False)
    return {key: value for key, value in (predictions | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        (broken(pred_boxes=None), KeyError, "outputs must have 'pred_boxes'"),
        (broken(aux_outputs=[{}]), KeyError, r"outputs\['aux_outputs'\]\[0\] must have 'pred_logits'"),
        (broken(aux_outputs={}), TypeError, r"outputs\['aux_outputs'\] must be a list of dicts"),
        (broken(pre_outputs=[]), TypeError, r"outputs\['pre_outputs'\] must be a dict, got list"),
        (broken(pred_logits=torch.zeros(2, QUERIES, 7)), ValueError, rf"\(B, Q, {CLASSES}\), got \(2, {QUERIES}, 7\)"),
        (
            broken(pred_boxes=torch.zeros(2, 3, 4)),
            ValueError,
            rf"shape \(2, {QUERIES}, 4\), as pred_logits have it, got \(2, 3, 4\)",
        ),
        (
            broken(aux_outputs=[{"pred_logits": torch.zeros(3, 2, CLASSES), "pred_boxes": torch.zeros(3, 2, 4)}]),
            ValueError,
            "are of 3 images, those of the last layer of 2",
        ),
        (broken(dn_aux_outputs=broken()["aux_outputs"]), KeyError, "need 'dn_meta'"),
        (
            broken(dn_aux_outputs=broken()["aux_outputs"], dn_meta={"dn_num_group": 1, "dn_num_split": [4, 12]}),
            ValueError,
            "dn_meta is of 4 denoising queries, outputs are of 12",
        ),
        ([1], TypeError, "outputs must be a dict, got list"),
    ],
)
def test_wrong_outputs(predictions: Any, error: type[Exception], message: str) -> None:
    _, targets = scene([2, 1], fine=False)
    with pytest.raises(error, match=message):
        CASES["detr"].make()(predictions, targets)


def test_wrong_corners() -> None:
    predictions, targets = scene([2, 1])
    predictions["aux_outputs"][0]["pred_corners"] = torch.zeros(2, QUERIES, 7)
    with pytest.raises(
        ValueError, match=rf"\(B, Q, 4 \* \(reg_max \+ 1\)\) = \(2, {QUERIES}, 20\), got \(2, {QUERIES}, 7\)"
    ):
        CASES["dfine"].make()(predictions, targets)
    predictions, targets = scene([2, 1])
    del predictions["aux_outputs"][0]["ref_points"]
    with pytest.raises(KeyError, match="must have 'ref_points' as well"):
        CASES["dfine"].make()(predictions, targets)
    predictions, targets = scene([2, 1])
    del predictions["up"]
    with pytest.raises(KeyError, match="'up'"):
        CASES["dfine"].make()(predictions, targets)


def test_wrong_arguments() -> None:
    with pytest.raises(KeyError, match=r"weight for 'loss_fgl', but the terms are \['loss_vfl', .*'loss_cls'\]"):
        DetrCriterion({"loss_fgl": 1.0})
    with pytest.raises(TypeError, match="weight of loss_vfl must be a number"):
        DetrCriterion({"loss_vfl": "1"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="reduction must be one of"):
        DetrCriterion(WEIGHTS, reduction="max")
    predictions, targets = scene([2, 1], fine=False, denoising=False)
    criterion = CASES["detr"].make()
    with pytest.raises(ValueError, match="needs the assignments of all layers"):
        criterion.loss(predictions, targets)
    with pytest.raises(KeyError, match="no assignment of layer '_aux_0'"):
        criterion.loss(predictions, targets, {"": criterion.assign(predictions, targets)[""]})
    bad = Targets.of(
        [{"boxes": torch.rand(1, 4) / 2, "labels": torch.tensor([CLASSES])}] * 2, box_format="cxcywh", normalized=True
    )
    with pytest.raises(ValueError, match=f"label {CLASSES} at position 0 of sample 0 is out of range"):
        criterion(predictions, bad)


def test_terms_add_up_and_log() -> None:
    predictions, targets = scene([2, 1], fine=False)
    found = CASES["detr"].make()(predictions, targets)
    close(total(found), sum(found.values()))
    assert not any(value.requires_grad for value in losses.detached(found).values())


@pytest.mark.parametrize("name", ["detr", "dfine"])
def test_counts_have_the_same_names_without_denoising_queries(name: str) -> None:
    """Ranks add up their counts one by one, and a batch without targets may have no denoising queries."""
    case = CASES[name]
    criterion, outputs, targets = case.make(), case.predictions([0, 0]), case.targets([0, 0])
    fewer = {key: value for key, value in outputs.items() if not key.startswith("dn_")}
    counts = [criterion.counts(each, targets, criterion.assign(each, targets)) for each in (outputs, fewer)]
    assert list(counts[0]) == list(counts[1])
    assert all(counts[1][key] == 0 for key in counts[1] if key.endswith("_dn"))
