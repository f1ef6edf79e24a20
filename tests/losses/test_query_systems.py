"""Criteria of queries as published systems have them, against losses of one query at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION as CASES
from cases.common import CLASSES, cast
from cases.decoder import QUERIES, REG_MAX, expected_of_system, layer, system
from reference import detr_loss as loops
from reference import hungarian
from test_detr import SCENES, close, gradients, scene
from torch import Tensor, nn

import losses
from losses import CrossEntropy, DetrCriterion, DFINECriterion, FocalLoss, WeightedClasses, query_criterion, total
from losses.testing import leaves_of
from matchers import Hungarian, Targets, denormalize, detr_costs

EOS = 0.1
WEIGHTS = {"loss_cls": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
SYSTEMS: dict[str, Any] = {
    "detr": EOS,
    "conditional-detr": loops.focal,
    "deformable-detr": loops.focal,
    "dab-detr": loops.focal,
    "dino": loops.focal,
    "lw-detr": loops.iou_aware,
    "rf-detr": loops.iou_aware,
}


def of_system(sizes: list[int], *, extra: str = "", **options: Any) -> tuple[Any, Targets]:
    _, targets = scene(sizes, extra=extra, fine=False)
    return cast(system(CASES["detr"].boxes(sizes), 0, **options), torch.float64), targets


def compare(criterion: Any, predictions: Any, targets: Targets, loss: Any, *, mask: Any = None) -> None:
    found = criterion(predictions, targets, valid_label_mask=mask)
    wanted = expected_of_system(criterion, predictions, targets, loss, mask=mask)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        close(found[name].detach(), torch.as_tensor(value, dtype=torch.float64).detach())
    for one, other in zip(gradients(found, predictions), gradients(wanted, predictions), strict=True):
        close(one, other)


@pytest.mark.parametrize("extra", ["", "weights, ignored"])
@pytest.mark.parametrize("sizes", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("name", ["detr", "deformable-detr", "rf-detr"])
def test_a_system_is_its_reference(name: str, sizes: list[int], extra: str) -> None:
    changes = {"num_groups": 4} if name == "rf-detr" else {}
    criterion = query_criterion(name, CLASSES, **changes)
    compare(criterion, *of_system(sizes, extra=extra, background=name == "detr"), SYSTEMS[name])


@pytest.mark.parametrize("name", ["detr", "dino"])
def test_targets_in_pixels_are_matched_as_fractions_are(name: str) -> None:
    criterion = query_criterion(name, CLASSES)
    predictions, targets = of_system([3, 0, 6], background=name == "detr")
    size = torch.tensor([480.0, 640.0])
    boxes = targets.boxes.apply(lambda each: denormalize(each, size.expand(3, 2).to(each)))
    pixels = Targets(boxes, targets.labels, box_format="cxcywh", canvas_size=size)
    torch.testing.assert_close(criterion(predictions, pixels), criterion(predictions, targets))


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_defaults_of_systems(name: str) -> None:
    criterion = query_criterion(name, CLASSES, **({"num_groups": 3} if name in ("lw-detr", "rf-detr") else {}))
    weight = 2.0 if name in ("conditional-detr", "deformable-detr") else 1.0
    assert criterion.weight_dict == {"loss_cls": weight, "loss_bbox": 5.0, "loss_giou": 2.0}
    assert query_criterion(name).num_groups == (13 if name in ("lw-detr", "rf-detr") else 1)
    compare(criterion, *of_system([3, 0], background=name == "detr"), SYSTEMS[name])


def test_the_defaults_of_systems_with_terms_of_their_own() -> None:
    boxes, fine = {"loss_bbox": 5.0, "loss_giou": 2.0}, {"loss_fgl": 0.15, "loss_ddf": 1.5}
    rt_detr, d_fine, deim = (query_criterion(name, 7) for name in ("rt-detr", "d-fine", "deim"))
    assert (rt_detr.weight_dict, rt_detr.alpha, rt_detr.gamma) == ({"loss_vfl": 1.0, **boxes}, 0.75, 2.0)
    assert (d_fine.weight_dict, d_fine.alpha, d_fine.gamma) == ({"loss_vfl": 1.0, **boxes, **fine}, 0.75, 2.0)
    assert (deim.weight_dict, deim.gamma, deim.num_classes) == ({"loss_mal": 1.0, **boxes, **fine}, 1.5, 7)
    assert isinstance(deim, losses.DEIMCriterion) and isinstance(d_fine, DFINECriterion)
    assert query_criterion("detr", reduction="sum", weight_dict={"loss_cls": 3.0}).weight_dict == {"loss_cls": 3.0}


def test_two_criteria_of_a_system_share_nothing() -> None:
    one, other = query_criterion("detr"), query_criterion("detr")
    assert one.loss_cls is not other.loss_cls and one.weight_dict is not other.weight_dict


# --- class losses ---------------------------------------------------------------------------------------------------


def test_a_class_loss_of_torch_and_one_of_ones_own() -> None:
    predictions, targets = of_system([3, 0, 2], background=True)
    weight = torch.tensor([1.0] * CLASSES + [EOS], dtype=torch.float64)
    of_torch = nn.CrossEntropyLoss(weight, reduction="none")
    own, theirs = (
        DetrCriterion(WEIGHTS, num_classes=CLASSES, loss_cls=loss) for loss in (CrossEntropy(eos_coef=EOS), of_torch)
    )
    close(theirs(predictions, targets), own(predictions, targets))
    assert list(own.matcher.terms) == list(detr_costs()) and own.has_background
    predictions, targets = of_system([3, 0, 2])
    summed = losses.SigmoidFocalLoss(alpha=0.25)  # takes labels, and has no background
    found = DetrCriterion(WEIGHTS, num_classes=CLASSES, loss_cls=summed)(predictions, targets)
    close(found, DetrCriterion(WEIGHTS, num_classes=CLASSES, loss_cls=FocalLoss())(predictions, targets))
    elements = nn.BCEWithLogitsLoss(reduction="none")
    found = DetrCriterion(WEIGHTS, num_classes=CLASSES, loss_cls=elements)(predictions, targets)
    of_ours = DetrCriterion(WEIGHTS, num_classes=CLASSES, loss_cls=losses.BinaryCrossEntropy())
    close(found, of_ours(predictions, targets))

    def doubled(logits: Tensor, labels: Tensor, *, scores: Tensor | None = None) -> Tensor:
        return 2 * losses.varifocal_loss(logits, labels, scores=scores)

    found = DetrCriterion({"loss_cls": 0.5}, num_classes=CLASSES, loss_cls=doubled)(predictions, targets)
    known = DetrCriterion({"loss_cls": 1.0}, num_classes=CLASSES, loss_cls=losses.VarifocalLoss())
    close(found, known(predictions, targets))


def test_the_class_loss_of_rt_detr_by_its_name_and_as_a_module() -> None:
    predictions, targets = scene([3, 1], fine=False)
    module = losses.VarifocalLoss(alpha=0.75, detach_weights=True)
    named = query_criterion("rt-detr", CLASSES)(predictions, targets)
    given = query_criterion("rt-detr", CLASSES, loss_cls=module, weight_dict=WEIGHTS)(predictions, targets)
    close({name.replace("loss_cls", "loss_vfl"): value for name, value in given.items()}, named)


def test_softmax_with_denoising_queries_is_divided_by_their_own_weights() -> None:
    predictions, targets = scene([3, 1], fine=False)
    for each in (predictions, *predictions["aux_outputs"], *predictions["dn_aux_outputs"]):
        each["pred_logits"] = torch.cat([each["pred_logits"], each["pred_logits"][..., :1] * 0.5], -1)
    criterion = query_criterion("detr", CLASSES)
    found, assigned = criterion(predictions, targets), criterion.assign(predictions, targets)
    for index, each in enumerate(predictions["dn_aux_outputs"]):
        matches = assigned[f"_dn_{index}"].target_index.tolist()
        entropy, mass = loops.softmax_sums(each, targets.to_dicts(), matches, EOS)
        close(found[f"loss_cls_dn_{index}"], entropy / mass)
    fewer = {key: value for key, value in predictions.items() if not key.startswith("dn_")}
    counts = [criterion.counts(each, targets, criterion.assign(each, targets)) for each in (predictions, fewer)]
    assert list(counts[0]) == list(counts[1]) and counts[1]["class_mass_dn"].shape == counts[0]["class_mass_dn"].shape


def test_weights_of_classes() -> None:
    predictions, targets = of_system([3, 0, 2])
    weight = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    criterion = DetrCriterion(WEIGHTS, num_classes=CLASSES, loss_cls=WeightedClasses(FocalLoss(), weight))
    compare_with_mask = partial(expected_of_system, criterion, predictions, targets, loops.focal)
    close(criterion(predictions, targets), compare_with_mask(mask=weight.expand(3, CLASSES).tolist()))
    criterion.loss_cls = WeightedClasses(FocalLoss(), weight[:3])
    with pytest.raises(ValueError, match="WeightedClasses has 3 weights, for a loss with a value for each class"):
        criterion(predictions, targets)
    with pytest.raises(ValueError, match=r"weight must have shape \(C,\), got \(1, 5\)"):
        WeightedClasses(FocalLoss(), weight[None])
    softmax = CrossEntropy(eos_coef=EOS, weight=weight.float())
    logits, labels = torch.randn(4, CLASSES + 1), torch.tensor([0, 4, -1, 5])
    close(
        softmax(logits, labels),
        nn.functional.cross_entropy(logits, labels % 6, torch.tensor([*weight.float(), EOS]), reduction="none"),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", ["detr", "deformable-detr"])
def test_classes_that_an_image_was_not_annotated_for(name: str) -> None:
    predictions, targets = of_system([3, 0, 2], background=name == "detr")
    mask = torch.rand(3, CLASSES, generator=torch.Generator().manual_seed(3)) < 0.5
    compare(query_criterion(name, CLASSES), predictions, targets, SYSTEMS[name], mask=mask)
    criterion = query_criterion(name, CLASSES)
    own = criterion(predictions, targets)
    close(criterion(predictions, targets, valid_label_mask=torch.ones(1, CLASSES, dtype=torch.bool)), own)
    assignment = criterion.assign(predictions, targets)
    close(
        criterion.loss(predictions, targets, assignment, valid_label_mask=mask),
        criterion(predictions, targets, valid_label_mask=mask.unsqueeze(1)),
    )
    known = torch.cat([mask, torch.ones(3, 1, dtype=torch.bool)], -1)[:, None, : predictions["logits"].shape[-1]]
    garbage = {**predictions, "logits": predictions["logits"].detach().masked_fill(~known, torch.nan)}
    _, empty = of_system([0, 0, 0])
    assert criterion(garbage, empty, valid_label_mask=mask)["loss_cls"].isfinite()


# --- groups ---------------------------------------------------------------------------------------------------------


def test_every_group_of_queries_is_matched_on_its_own() -> None:
    predictions, targets = of_system([3, 0, 7], per_image=15)
    criterion, alone = query_criterion("rf-detr", CLASSES, num_groups=3), query_criterion("rf-detr", CLASSES)
    found = criterion.assign(predictions, targets)
    for suffix, given in (("", predictions), ("_enc", predictions["enc_outputs"])):
        for group in range(3):
            part = slice(5 * group, 5 * group + 5)
            index = found[suffix].target_index[:, part]
            assert (index >= 0).sum(-1).tolist() == [3, 0, 5]
            pieces = {key: given[key][:, part] for key in ("logits", "pred_boxes")}
            assert torch.equal(index, alone.eval().assign(pieces, targets)[""].target_index)
    boxes, labels = targets.to_dicts()[0]["boxes"], targets.to_dicts()[0]["labels"]
    pairs = list(zip(boxes, labels, strict=True))
    cost = torch.tensor([[cost_of(predictions, query, *pair) for query in range(5)] for pair in pairs])
    index = found[""].target_index[0, :5].tolist()
    matched = sum(float(cost[target, query]) for query, target in enumerate(index) if target >= 0)
    assert matched == pytest.approx(hungarian.brute_force(cost)[-1], rel=1e-5)


def cost_of(predictions: Any, query: int, box: Tensor, label: Tensor) -> float:
    own, x = predictions["pred_boxes"][0, query].detach(), predictions["logits"][0, query, int(label)].detach()
    _, giou = loops.iou_and_giou(own, box)
    focal = loops.focal(x, torch.tensor(1.0)) - loops.focal(x, None)
    return float(2 * focal + 5 * (own - box).abs().sum() + 2 * (1 - giou))


def test_in_evaluation_there_is_one_group() -> None:
    predictions, targets = of_system([3, 2])
    grouped, one = query_criterion("rf-detr", CLASSES), query_criterion("rf-detr", CLASSES, num_groups=1)
    with pytest.raises(ValueError, match="num_groups must divide the queries: got 13 groups and 12 queries"):
        grouped(predictions, targets)
    close(grouped.eval()(predictions, targets), one(predictions, targets))


def test_groups_that_are_added_up() -> None:
    predictions, targets = of_system([3, 2])
    mean, summed = (query_criterion("rf-detr", CLASSES, num_groups=4, sum_groups=flag) for flag in (False, True))
    found = mean(predictions, targets)
    close(summed(predictions, targets), {name: 4 * value for name, value in found.items()})
    predictions, nothing = of_system([0, 0])
    close(summed(predictions, nothing), mean(predictions, nothing))


# --- the encoder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["detr", "deformable-detr"])
def test_an_encoder_that_asks_for_no_class(name: str) -> None:
    predictions, targets = of_system([3, 0, 2], background=name == "detr", agnostic=True)
    compare(query_criterion(name, CLASSES), predictions, targets, SYSTEMS[name])


def test_an_encoder_with_all_channels_that_asks_for_no_class() -> None:
    predictions, targets = of_system([3, 0, 2])
    criterion = query_criterion("deformable-detr", CLASSES, agnostic_encoder=True)
    found = criterion(predictions, targets)
    alone = query_criterion("deformable-detr", CLASSES)
    close(
        {name: found[name] for name in ("loss_cls", "loss_bbox", "loss_cls_aux_0")},
        partial_of(alone, predictions, targets),
    )
    first = Targets(targets.boxes, targets.labels * 0, box_format="cxcywh", normalized=True)
    of_encoder = alone(predictions["enc_outputs"], first)
    close({name: found[f"{name}_enc"] for name in of_encoder}, of_encoder)
    described = {**predictions, "enc_meta": {"class_agnostic": True}}
    close(alone(described, targets), found)
    with pytest.raises(TypeError, match=r"outputs\['enc_meta'\] must be a dict"):
        alone({**predictions, "enc_meta": True}, targets)
    lists = {key: value for key, value in predictions.items() if key != "enc_outputs"}
    several = alone(
        lists | {"enc_aux_outputs": [predictions["enc_outputs"]], "interm_outputs": predictions["enc_outputs"]}, targets
    )
    close(several["loss_cls_enc_0"], several["loss_cls_interm"])


def partial_of(criterion: Any, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    own = criterion({key: value for key, value in predictions.items() if key != "enc_outputs"}, targets)
    return {name: own[name] for name in ("loss_cls", "loss_bbox", "loss_cls_aux_0")}


# --- distributions --------------------------------------------------------------------------------------------------


def test_constants_of_the_bins_of_the_criterion() -> None:
    predictions, targets = scene([3, 1])
    without = {key: value for key, value in predictions.items() if key not in ("up", "reg_scale")}
    options = {"union": False, "balance": "own", "reg_max": REG_MAX}
    own = query_criterion("d-fine", CLASSES, up=0.5, reg_scale=4.0, **options)
    close(own(without, targets), query_criterion("d-fine", CLASSES, **options)(predictions, targets))
    with pytest.raises(KeyError, match="must have 'reg_scale' as well, for loss_fgl, or the criterion reg_scale="):
        query_criterion("d-fine", CLASSES, up=0.5, **options)(without, targets)


# --- the number of objects ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [True, False])
def test_the_error_of_the_number_of_objects(background: bool) -> None:
    sizes = [3, 0, 2]
    predictions, targets = of_system(sizes, background=background)
    criterion = query_criterion("detr" if background else "dino", CLASSES)
    found = criterion.cardinality_error(predictions, targets)
    layers = {"": predictions, "_aux_0": predictions["auxiliary_outputs"][0], "_enc": predictions["enc_outputs"]}
    assert list(found) == [f"cardinality_error{suffix}" for suffix in layers]
    for suffix, given in layers.items():
        seen = []
        for rows in given["logits"]:
            objects = [int(row.argmax()) < CLASSES if background else max(row.sigmoid()) > 0.5 for row in rows]
            seen.append(sum(map(bool, objects)))
        wanted = sum(abs(count - size) for count, size in zip(seen, sizes, strict=True)) / len(sizes)
        assert float(found[f"cardinality_error{suffix}"]) == pytest.approx(wanted)
    assert not any(value.requires_grad for value in found.values())
    assert not set(found) & set(criterion(predictions, targets))


def test_the_error_of_groups_is_their_mean() -> None:
    logits = torch.tensor([[[1.0], [1.0], [-1.0], [-1.0]]])  # two of the first group, none of the second
    outputs = {"pred_logits": logits, "pred_boxes": torch.full((1, 4, 4), 0.5)}
    one = [{"boxes": torch.full((1, 4), 0.5), "labels": torch.tensor([0])}]
    criterion = query_criterion("rf-detr", 1, num_groups=2)
    assert float(criterion.cardinality_error(outputs, one)["cardinality_error"]) == 1.0
    assert float(criterion.eval().cardinality_error(outputs, one)["cardinality_error"]) == 1.0
    assert float(criterion.cardinality_error(outputs, one * 1)["cardinality_error"]) == 1.0


# --- denoising of some targets --------------------------------------------------------------------------------------


def test_denoising_queries_of_some_targets() -> None:
    boxes = CASES["detr"].boxes([3, 0, 2])
    predictions, targets = scene([3, 0, 2], fine=False, denoising=False)
    generator = torch.Generator().manual_seed(7)
    noisy = cast(layer(boxes, 6, generator), torch.float64)
    positive = [torch.tensor([0, 5, 2]), torch.tensor([], dtype=torch.int64), torch.tensor([1])]
    chosen = [torch.tensor([2, 0, 2]), torch.tensor([], dtype=torch.int64), torch.tensor([1])]
    meta = {"dn_num_group": 1, "dn_num_split": [6, QUERIES], "dn_positive_idx": positive, "dn_target_idx": chosen}
    criterion = query_criterion("rt-detr", CLASSES)
    given = predictions | {"dn_outputs": [noisy], "dn_meta": meta}
    assert criterion.assign(given, targets)["_dn_0"].target_index.tolist() == [
        [2, -1, 2, -1, -1, 0],
        [-1] * 6,
        [-1, 1, -1, -1, -1, -1],
    ]
    found = criterion(given, targets)
    matches, images = criterion.assign(given, targets)["_dn_0"].target_index.tolist(), targets.to_dicts()
    l1, giou = loops.box_sums(noisy, images, matches)
    vfl = loops.class_sum(noisy, images, matches, lambda x, score: loops.varifocal(x, score, 0.75, 2.0))
    close(found["loss_bbox_dn_0"], 5 * l1 / 4)
    close(found["loss_giou_dn_0"], 2 * giou / 4)
    close(found["loss_vfl_dn_0"], vfl / 4)
    for change, error, message in (
        ({"dn_positive_idx": None}, ValueError, "needs 'dn_positive_idx' as well"),
        ({"dn_target_idx": [chosen[0], chosen[1], chosen[0]]}, ValueError, "dn_target_idx and dn_positive_idx"),
        ({"dn_target_idx": [chosen[0], chosen[1], chosen[2] + 1]}, ValueError, "of sample 2 has 2, of 2 targets"),
        ({"dn_target_idx": 3}, TypeError, "dn_target_idx must be a list of tensors"),
        ({"dn_target_idx": None}, ValueError, "3 positive queries; 'dn_target_idx' can say|'dn_target_idx' can say"),
    ):
        with pytest.raises(error, match=message):
            criterion(given | {"dn_meta": meta | change}, targets)


# --- classes of images, for all criteria ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_criterion_takes_the_classes_of_images(name: str) -> None:
    """All classes count: nothing changes. None counts: an image without targets has no loss of classes to learn from."""
    case = CASES[name]
    criterion = case.make()
    predictions, targets = case.cast(case.predictions([2, 0]), torch.float32), case.targets([2, 0])
    classes = getattr(criterion, "num_classes", case.num_classes)
    if isinstance(criterion, losses.DetectionLoss):
        classes = predictions["pred_logits"].shape[-1]
    every = torch.ones(2, classes, dtype=torch.bool)
    if isinstance(criterion, (losses.RPNCriterion, losses.RoICriterion)):
        with pytest.raises(ValueError, match="valid_label_mask"):
            case.losses(criterion, predictions, targets, valid_label_mask=every)
        return
    close(
        case.losses(criterion, predictions, targets, valid_label_mask=every),
        case.losses(criterion, predictions, targets),
        rtol=1e-5,
        atol=1e-6,
    )
    predictions, nothing = case.cast(case.predictions([0]), torch.float32), case.targets([0])
    found = case.losses(criterion, predictions, nothing, valid_label_mask=~every[:1])
    classes_of = {key: value for key, value in found.items() if "cls" in key or "vfl" in key or "mal" in key}
    if "detr with a background" in name:  # its encoder asks for no class, and learns
        classes_of.pop("loss_cls_enc")
    assert all(value.abs().sum() == 0 for value in classes_of.values())
    gradients = torch.autograd.grad(total(classes_of), leaves_of(predictions), allow_unused=True) if classes_of else ()
    assert all(each is None or not each.any() for each in gradients)
    with pytest.raises((TypeError, ValueError), match="valid_label_mask must"):
        case.losses(criterion, predictions, nothing, valid_label_mask=torch.ones(1, classes + 3, dtype=torch.bool))


def test_a_softmax_is_over_the_classes_that_count() -> None:
    """As if the channel of the other class was not there."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    boxes = torch.rand(2, 6, 2, generator=generator).repeat(1, 1, 2) + torch.tensor([0.0, 0.0, 0.5, 0.5])
    nothing = {"boxes": torch.zeros(0, 4).double(), "labels": torch.zeros(0, dtype=torch.int64)}
    targets = [{"boxes": boxes[0, :2].double(), "labels": torch.tensor([1, 2])}, nothing]
    matcher = Hungarian(loc_match_module=losses.GIoULoss())
    loss = losses.DetectionLoss(nn.CrossEntropyLoss(reduction="none"), losses.GIoULoss(), matcher, reduction="sum")
    given = {"pred_logits": logits, "pred_boxes": boxes.double()}
    mask = torch.tensor([[True, False, False, False], [False, True, True, False]])  # of the first, targets say more
    cut = {key: value[..., :3] if key == "pred_logits" else value for key, value in given.items()}
    close(loss(given, targets, valid_label_mask=mask), loss(cut, targets))
    (gradient,) = torch.autograd.grad(loss(given, targets, valid_label_mask=mask), logits)
    assert not gradient[..., 3].any() and gradient[..., :3].any()


def test_default_boxes_and_the_channel_of_a_class_that_does_not_count() -> None:
    """Class 1, which the target has, is channel 2: the background is the first."""
    boxes = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.5, 1.0]])
    scores = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, 0.25, 0.5, 0.5, 1.0]])
    loss = losses.SSDLoss(boxes)
    for hidden in range(3):
        mask = torch.arange(3) != hidden
        value, _ = loss((torch.zeros(1, 4, 2), scores), targets, valid_label_mask=mask[None])
        (gradient,) = torch.autograd.grad(value, scores)
        silent = [channel for channel in range(4) if not gradient[:, channel].any()]
        assert silent == ([] if hidden == 1 else [hidden + 1])
