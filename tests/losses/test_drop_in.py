"""Criteria in the place of the losses of other packages: they read what those are called with, and return the same kind."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses import (
    DEIMCriterion,
    DetrCriterion,
    DFINECriterion,
    FCOSCriterion,
    RetinaNetCriterion,
    SetCriterion,
    SSDCriterion,
    TorchvisionLoss,
    TransformersLoss,
    UltralyticsLoss,
    YOLOv8Criterion,
    YOLOv10Criterion,
    YOLOXCriterion,
    query_criterion,
    total,
)
from matchers import MaxIoU

CLASSES, BINS = 4, 8
COSTS = {"class_cost": 1.5, "bbox_cost": 4.0, "giou_cost": 3.0}
BOXES = {"bbox_loss_coefficient": 4.5, "giou_loss_coefficient": 2.5}
MATCHER = {
    "matcher_class_cost": 1.5, "matcher_bbox_cost": 4.0, "matcher_giou_cost": 3.0, "matcher_alpha": 0.3,
    "matcher_gamma": 1.5, "use_focal_loss": True, "focal_loss_alpha": 0.7, "focal_loss_gamma": 1.7,
    "weight_loss_bbox": 4.5, "weight_loss_giou": 2.5,
}  # fmt: skip
DISTRIBUTIONS = MATCHER | {
    "max_num_bins": BINS, "up": 0.5, "reg_scale": 4.0, "weight_loss_fgl": 0.2, "weight_loss_ddf": 1.25,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "detr": COSTS | BOXES | {"eos_coefficient": 0.2},
    "deformable_detr": COSTS | BOXES | {"focal_alpha": 0.3},
    "lw_detr": COSTS | BOXES | {"focal_alpha": 0.3, "class_loss_coefficient": 1.25, "group_detr": 2, "num_queries": 3},
    "rt_detr": MATCHER | {"weight_loss_vfl": 1.25},
    "d_fine": DISTRIBUTIONS | {"weight_loss_vfl": 1.25},
    "deimv2": DISTRIBUTIONS | {"weight_loss_mal": 1.25, "mal_alpha": None, "use_dense_one_to_one": True},
}


def config_of(model_type: str, **changes: Any) -> Any:
    own = {"model_type": model_type, "num_labels": CLASSES, "auxiliary_loss": True} | CONFIGS[model_type] | changes
    return SimpleNamespace(**own)


def labels() -> list[dict[str, Tensor]]:
    boxes = [[0.3, 0.3, 0.2, 0.4], [0.7, 0.6, 0.3, 0.2]]
    return [
        {"class_labels": torch.tensor([2, 0]), "boxes": torch.tensor(boxes)},
        {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)},
    ]


def boxes(*shape: int) -> Tensor:
    return torch.rand(*shape, 4) * 0.5 + 0.2


def arguments(config: Any, layers: int = 3, queries: int = 6) -> dict[str, Any]:
    """What models with layers first call their loss with."""
    channels = CLASSES + (config.model_type == "detr")
    found = {"outputs_class": torch.randn(layers, 2, queries, channels), "outputs_coord": boxes(layers, 2, queries)}
    last = {"logits": found["outputs_class"][-1], "pred_boxes": found["outputs_coord"][-1]}
    return {**last, "labels": labels(), "device": "cpu", "config": config, **found}


META = {"dn_positive_idx": [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.int64)], "dn_num_group": 1}


def arguments_with_denoising(config: Any, layers: int = 3, queries: int = 5, denoising: int = 4) -> dict[str, Any]:
    """What models with images first call their loss with; those with distributions have a first guess besides."""
    fine, count = hasattr(config, "max_num_bins"), denoising + queries
    guess = layers + fine
    found: dict[str, Any] = {
        "outputs_class": torch.randn(2, guess, count, CLASSES),
        "outputs_coord": boxes(2, guess, count) * 1.2,  # some are beyond 1, which D-FINE bounds
        "enc_topk_logits": torch.randn(2, queries, CLASSES),
        "enc_topk_bboxes": boxes(2, queries),
        "denoising_meta_values": META | {"dn_num_split": [denoising, queries]},
        "predicted_corners": torch.randn(2, layers, count, 4 * (BINS + 1)) if fine else None,
        "initial_reference_points": boxes(2, layers, count) if fine else None,
    }
    last = {"logits": found["outputs_class"][:, -1], "pred_boxes": found["outputs_coord"][:, -1]}
    return {**last, "labels": labels(), "device": "cpu", "config": config, **found}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert list(found) == list(wanted) and len(found) > 2
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("model_type", ["detr", "deformable_detr"])
def test_layers_first(model_type: str) -> None:
    torch.manual_seed(0)
    loss_function = TransformersLoss.from_config(config_of(model_type))
    given = arguments(config_of(model_type))
    loss, terms, auxiliary = loss_function(**given)
    layers = [
        {"logits": logits, "pred_boxes": own}
        for logits, own in zip(given["outputs_class"], given["outputs_coord"], strict=True)
    ]
    same(terms, loss_function.criterion({**layers[-1], "auxiliary_outputs": layers[:-1]}, labels()))
    torch.testing.assert_close(loss, total(terms))
    assert auxiliary is not None and [each["logits"].shape for each in auxiliary] == [given["logits"].shape] * 2


class Model(nn.Module):
    """Has its loss as models of transformers do."""

    _loss_function: Any

    @property
    def loss_function(self) -> Any:
        return self._loss_function if hasattr(self, "_loss_function") else None

    @loss_function.setter
    def loss_function(self, value: Any) -> None:
        self._loss_function = value


def test_a_model_takes_it_as_its_loss_function() -> None:
    model, loss_function = Model(), TransformersLoss.from_config(config_of("detr"))
    model.loss_function = loss_function
    assert model.loss_function is loss_function
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert isinstance(copied.loss_function, TransformersLoss) and not copied.state_dict()


@pytest.mark.parametrize("groups", [2, 1])
def test_groups_of_queries_and_the_encoder(groups: int) -> None:
    """A model gives the queries of all groups in training, and those of one in evaluation."""
    torch.manual_seed(0)
    config = config_of("lw_detr", num_queries=6 // groups)
    loss_function = TransformersLoss.from_config(config)
    criterion = query_criterion(
        "lw-detr", CLASSES, num_groups=groups, weight_dict=loss_function.criterion.weight_dict,
        loss_cls=loss_function.criterion.loss_cls, matcher=loss_function.criterion.matcher,
    )  # fmt: skip
    given = arguments(config) | {"enc_outputs_class": torch.randn(2, 6, CLASSES), "enc_outputs_coord": boxes(2, 6)}
    layers = [
        {"logits": logits, "pred_boxes": own}
        for logits, own in zip(given["outputs_class"], given["outputs_coord"], strict=True)
    ]
    encoder = {"logits": given["enc_outputs_class"], "pred_boxes": given["enc_outputs_coord"]}
    outputs = {**layers[-1], "auxiliary_outputs": layers[:-1], "enc_outputs": encoder}
    same(loss_function(**given)[1], criterion(outputs, labels()))


@pytest.mark.parametrize("model_type", ["rt_detr", "d_fine", "deimv2"])
@pytest.mark.parametrize("denoised", [True, False])
def test_images_first_with_denoising_queries(model_type: str, denoised: bool) -> None:
    torch.manual_seed(0)
    config = config_of(model_type)
    loss_function, given = TransformersLoss.from_config(config), arguments_with_denoising(config)
    split, fine = 4, model_type != "rt_detr"
    if not denoised:
        for name in ("logits", "pred_boxes"):
            given[name] = given[name][:, split:]
        for name in ("outputs_class", "outputs_coord", "predicted_corners", "initial_reference_points"):
            given[name] = None if given[name] is None else given[name][:, :, split:]
        given["denoising_meta_values"], split = None, 0

    def layers(queries: slice) -> list[dict[str, Tensor]]:
        found = []
        for index in range(given["outputs_class"].shape[1]):
            own = {
                "logits": given["outputs_class"][:, index, queries],
                "pred_boxes": given["outputs_coord"][:, index, queries],
            }
            if fine:
                own["pred_boxes"] = own["pred_boxes"].clamp(0, 1)
            if fine and index:
                own["pred_corners"] = given["predicted_corners"][:, index - 1, queries]
                own["ref_points"] = given["initial_reference_points"][:, index - 1, queries]
                own["teacher_corners"] = given["predicted_corners"][:, -1, queries]
                own["teacher_logits"] = given["outputs_class"][:, -1, queries]
            found.append(own)
        return found

    *before, last = layers(slice(split, None))
    outputs: dict[str, Any] = {key: value for key, value in last.items() if "teacher" not in key}
    if fine:
        outputs["pre_outputs"] = before.pop(0)
    encoder = {"logits": given["enc_topk_logits"], "pred_boxes": given["enc_topk_bboxes"]}
    outputs["auxiliary_outputs"] = [*before, encoder]
    if denoised:
        dn = layers(slice(0, split))
        if fine:
            outputs["dn_pre_outputs"] = dn.pop(0)
        outputs |= {"dn_auxiliary_outputs": dn, "denoising_meta_values": given["denoising_meta_values"]}
    loss, terms, auxiliary = loss_function(**given)
    same(terms, loss_function.criterion(outputs, labels()))
    torch.testing.assert_close(loss, total(terms))
    assert auxiliary is not None and auxiliary[-1]["logits"] is given["enc_topk_logits"]


@pytest.mark.parametrize("model_type", CONFIGS)
def test_without_auxiliary_loss_there_is_the_last_layer_alone(model_type: str) -> None:
    config = config_of(model_type, auxiliary_loss=False)
    given = arguments(config) if "class_cost" in CONFIGS[model_type] else arguments_with_denoising(config)
    _, terms, auxiliary = TransformersLoss.from_config(config)(**given)
    assert auxiliary is None and all("_aux" not in name and "_dn" not in name for name in terms)


def test_values_of_the_configuration() -> None:
    made = {name: TransformersLoss.from_config(config_of(name)).criterion for name in CONFIGS}
    assert [type(made[name]) for name in ("rt_detr", "d_fine", "deimv2")] == [
        DetrCriterion,
        DFINECriterion,
        DEIMCriterion,
    ]
    own = {"loss_bbox": 4.5, "loss_giou": 2.5}
    assert made["detr"].weight_dict == made["deformable_detr"].weight_dict == {"loss_cls": 1.0, **own}
    assert made["lw_detr"].weight_dict == {"loss_cls": 1.25, **own} and made["lw_detr"].num_groups == 2
    assert made["rt_detr"].weight_dict == {"loss_vfl": 1.25, **own}
    assert (made["rt_detr"].alpha, made["rt_detr"].gamma) == (0.7, 1.7)
    fine, deim = made["d_fine"], made["deimv2"]
    assert isinstance(fine, DFINECriterion) and isinstance(deim, DEIMCriterion)
    assert fine.weight_dict == {"loss_vfl": 1.25, **own, "loss_fgl": 0.2, "loss_ddf": 1.25}
    assert (fine.union, fine.balance, fine.reg_max, fine.up, fine.reg_scale) == (False, "own", BINS, 0.5, 4.0)
    assert deim.weight_dict == {"loss_mal": 1.25, **own, "loss_fgl": 0.2, "loss_ddf": 1.25} and deim.union
    changed = TransformersLoss.from_config(config_of("rt_detr"), num_classes=7, reduction="sum").criterion
    assert (changed.num_classes, changed.reduction) == (7, "sum")


@pytest.mark.parametrize("model_type", ["detr", "rt_detr"])
def test_costs_of_the_configuration(model_type: str) -> None:
    """The match is that of costs with the weights of the configuration: of class alone, the query that says it best."""
    names = ("class_cost", "bbox_cost", "giou_cost")
    for index in range(3):
        weights = {
            name if model_type == "detr" else f"matcher_{name}": float(place == index)
            for place, name in enumerate(names)
        }
        criterion = TransformersLoss.from_config(config_of(model_type, **weights)).criterion
        logits = torch.full((1, 3, CLASSES + (model_type == "detr")), -1.0)
        logits[0, 0, 2] = 3.0
        near = torch.tensor([[[0.9, 0.9, 0.1, 0.1], [0.52, 0.5, 0.2, 0.2], [0.5, 0.5, 0.3, 0.3]]])
        target = [{"labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}]
        found = criterion.assign({"pred_logits": logits, "pred_boxes": near}, target)[""]
        assert found.target_index[0].tolist().index(0) == (0 if index == 0 else 1)


def test_wrong_arguments_of_a_model() -> None:
    config = config_of("detr")
    loss_function, given = TransformersLoss.from_config(config), arguments(config)
    masks = torch.zeros(2, 6, 8, 8)
    with pytest.raises(TypeError, match="the fifth argument must be the config of a model.* got a tensor; .* masks"):
        loss_function(given["logits"], labels(), "cpu", given["pred_boxes"], masks, config)
    with pytest.raises(KeyError, match=r"nobody reads 'outputs_masks', a tensor of shape \(2, 6, 8, 8\)"):
        loss_function(**given, outputs_masks=masks)
    loss_function(**given, num_items_in_batch=None)
    images_first = given | {"outputs_class": given["outputs_class"].transpose(0, 1)}
    with pytest.raises(ValueError, match=r"outputs_class must have shape \(L, 2, 6, …\), .* got \(2, 3, 6, 5\)"):
        loss_function(**images_first)
    fine = config_of("d_fine")
    with pytest.raises(TypeError, match="predicted_corners must be a torch.Tensor, got NoneType"):
        TransformersLoss.from_config(fine)(**(arguments_with_denoising(fine) | {"predicted_corners": None}))


def test_wrong_configurations() -> None:
    with pytest.raises(ValueError, match="one of the models detr, .* got model_type 'mask2former'; for another one"):
        TransformersLoss.from_config(SimpleNamespace(model_type="mask2former"))
    with pytest.raises(ValueError, match="one of the models detr, .* got model_type None"):
        TransformersLoss.from_config({"model_type": "detr"})
    with pytest.raises(
        AttributeError, match="config of model_type 'yolos' must have 'bbox_loss_coefficient', which its"
    ):
        TransformersLoss.from_config(SimpleNamespace(model_type="yolos", num_labels=3))
    with pytest.raises(ValueError, match="mal_alpha of config must be None, as DEIM has it, got 0.5"):
        TransformersLoss.from_config(config_of("deimv2", mal_alpha=0.5))


@pytest.mark.parametrize(
    ("make", "which"),
    [
        (TransformersLoss, "of queries"),
        (SetCriterion, "of queries"),
        (UltralyticsLoss, "YOLOv8"),
        (TorchvisionLoss, "SSD"),
    ],
)
def test_wrong_criteria(make: Any, which: str) -> None:
    with pytest.raises(TypeError, match=f"criterion must be .*{which}.*, got YOLOXCriterion"):
        make(YOLOXCriterion(CLASSES))
    fits = {
        TransformersLoss: query_criterion("detr"), SetCriterion: query_criterion("detr"),
        UltralyticsLoss: YOLOv8Criterion(CLASSES), TorchvisionLoss: RetinaNetCriterion(CLASSES),
    }[make]  # fmt: skip
    fits.reduction = "sample"
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', got 'sample'"):
        make(fits)


def test_a_loop_that_weighs_terms_itself() -> None:
    torch.manual_seed(0)
    own = query_criterion("rf-detr", CLASSES, num_groups=2)
    criterion = copy.deepcopy(pickle.loads(pickle.dumps(SetCriterion(own))))
    layer = {"pred_logits": torch.randn(2, 6, CLASSES), "pred_boxes": boxes(2, 6)}
    outputs = {**layer, "aux_outputs": [dict(layer)], "enc_outputs": dict(layer)}
    for training in (True, False):
        terms, wanted = criterion.train(training)(outputs, labels()), own.train(training)(outputs, labels())
        same(terms, wanted)
        weighed = sum(terms[name] * criterion.weight_dict[name] for name in terms if name in criterion.weight_dict)
        torch.testing.assert_close(weighed, total(wanted))
    assert criterion.num_classes == CLASSES and criterion.weight_dict
    with pytest.raises(KeyError):
        criterion.weight_dict[0]


def yolo(*, pair: bool, reg_max: int = 16, **more: Any) -> Any:
    head = SimpleNamespace(nc=CLASSES, reg_max=reg_max, stride=torch.tensor([8.0, 16.0]))
    if pair:
        head.one2one_cv2 = nn.Identity()
    gains = SimpleNamespace(box=7.0, cls=0.4, dfl=1.25, epochs=8)
    return SimpleNamespace(model=[nn.Identity(), head], args=gains, **more)


def head_and_batch(reg_max: int = 16) -> tuple[dict[str, Any], dict[str, Tensor]]:
    feats = [torch.zeros(2, 1, side, side) for side in (4, 2)]
    head = {"scores": torch.randn(2, CLASSES, 20), "boxes": torch.rand(2, 4 * reg_max, 20), "feats": feats}
    batch = {"batch_idx": torch.tensor([0.0, 1.0]), "cls": torch.tensor([[1.0], [3.0]])}
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.3, 0.6, 0.5, 0.4]])
    return head, batch | {"bboxes": boxes, "img": torch.zeros(2, 3, 32, 32)}


def test_a_model_with_one_head() -> None:
    torch.manual_seed(0)
    loss_function = UltralyticsLoss.from_model(yolo(pair=False))
    head, batch = head_and_batch()
    head["scores"].requires_grad_()
    loss, items = loss_function(head, batch)
    rates: dict[str, Any] = {"iou_rate": 7.0, "cls_rate": 0.4, "dfl_rate": 1.25}
    wanted = YOLOv8Criterion(CLASSES, strides=(8, 16), times_batch_size=True, **rates)(head, batch)
    same(items, {name: value / 2 for name, value in wanted.items()})
    torch.testing.assert_close(loss, total(wanted))
    assert loss.requires_grad and not any(value.requires_grad for value in items.values())
    loss_function.update()  # of one head there is nothing to shift


def test_class_weights_of_a_model() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([1.0, 2.0, 0.5, 0.0])
    head, batch = head_and_batch()
    head["scores"].requires_grad_()
    loss, _ = UltralyticsLoss.from_model(yolo(pair=False, class_weights=weights))(head, batch)
    plain, _ = UltralyticsLoss.from_model(yolo(pair=False))(head, batch)
    (own,), (other,) = (torch.autograd.grad(each, head["scores"]) for each in (loss, plain))
    torch.testing.assert_close(own, other * weights.view(1, -1, 1))


def test_a_pair_of_heads_shifts_its_weights_after_each_epoch() -> None:
    torch.manual_seed(0)
    loss_function = UltralyticsLoss.from_model(yolo(pair=True, reg_max=1), strides=(8, 16))
    criterion = loss_function.criterion
    assert isinstance(criterion, YOLOv10Criterion) and criterion.reg_max == 1
    (one, batch), (two, _) = head_and_batch(1), head_and_batch(1)
    seen = []
    for _ in range(9):
        seen.append((criterion.one_to_many_rate, criterion.one_to_one_rate))
        loss, items = loss_function({"one2many": one, "one2one": two}, batch)
        torch.testing.assert_close(loss, 2 * total(items))
        loss_function.update()
    wanted = [0.8 - 0.7 * min(epoch / 7, 1.0) for epoch in range(9)]
    torch.testing.assert_close(torch.tensor(seen), torch.tensor([(rate, 1 - rate) for rate in wanted]))
    fixed = UltralyticsLoss(YOLOv10Criterion(CLASSES))
    fixed.update()
    assert (fixed.criterion.one_to_many_rate, fixed.criterion.one_to_one_rate) == (0.8, 0.2)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        UltralyticsLoss(YOLOv10Criterion(CLASSES), epochs=0)


ANCHORS = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0], [0.0, 0.0, 16.0, 16.0]])


class Detector(nn.Module):
    def compute_loss(self, targets: Any, head_outputs: Any, anchors: Any, more: Any = None) -> Any:
        raise AssertionError("this loss was to be replaced")

    def forward(self, targets: Any, head_outputs: Any, *more: Any) -> Any:
        return self.compute_loss(targets, head_outputs, [ANCHORS, ANCHORS], *more)


@pytest.mark.parametrize(
    ("criterion", "channels", "more"),
    [
        (RetinaNetCriterion(CLASSES), CLASSES, ()),
        (FCOSCriterion(CLASSES), CLASSES, ([3],)),
        (SSDCriterion(CLASSES + 1, bg_class_position="first", matcher=MaxIoU()), CLASSES + 1, ([torch.zeros(3)],)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_method_of_a_detector(criterion: Any, channels: int, more: Any) -> None:
    torch.manual_seed(0)
    model = Detector()
    model.compute_loss = TorchvisionLoss(criterion)  # type: ignore[method-assign, assignment]
    model = copy.deepcopy(model)
    head = {"cls_logits": torch.randn(2, 3, channels), "bbox_regression": torch.rand(2, 3, 4)}
    if isinstance(criterion, FCOSCriterion):
        head["bbox_ctrness"] = torch.randn(2, 3, 1)
    targets = [
        {"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([1])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    found = model(targets, head, *more)
    wanted = criterion({**head, "anchors": ANCHORS}, targets)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


def test_wrong_anchors() -> None:
    compute_loss = TorchvisionLoss(RetinaNetCriterion(CLASSES))
    head = {"cls_logits": torch.zeros(2, 3, CLASSES), "bbox_regression": torch.zeros(2, 3, 4)}
    with pytest.raises(ValueError, match=r"anchors of all images must be the same, got shapes \[\(3, 4\), \(2, 4\)\]"):
        compute_loss([], head, [ANCHORS, ANCHORS[:2]])
    with pytest.raises(TypeError, match="anchors must be a list with those of each image, got Tensor"):
        compute_loss([], head, ANCHORS)  # type: ignore[arg-type]
