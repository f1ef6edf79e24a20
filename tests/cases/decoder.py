"""The outputs of a decoder, and its terms from the definition: for the criteria of detection transformers."""

from __future__ import annotations

from typing import Any

import torch
from reference import detr_loss as loops
from reference.denoising import union
from torch import Tensor

from cases.common import CLASSES, WITHOUT_GRADIENT, given
from losses.testing import CriterionCase, near
from matchers import Assignment, Targets, convert
from matchers.testing import CANVAS

QUERIES, REG_MAX, GROUPS = 12, 4, 2
# Slots of denoising queries: as many as images have targets at most, but always the same, so that batches can be cut.
SLOTS = 6
OF_DENOISING = {
    "target order": "denoising queries belong to targets in their order; among equal votes of layers the first decides",
    "ignored target": "there are denoising queries for so many targets",
    "region": "denoising queries of no target learn to find nothing wherever they are",
}
OF_DISTILLATION = {"counts": "the weight of matched queries beside others in loss_ddf is a root of their number"}
ALPHA = 0.75
WEIGHTS = {"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
FINE_WEIGHTS = WEIGHTS | {"loss_fgl": 0.15, "loss_ddf": 1.5}


def layer(boxes: list[Tensor], queries: int, generator: torch.Generator, *, corners: bool = False) -> dict[str, Any]:
    """One layer's output."""
    pred = convert(near(boxes, queries, generator), "xyxy", "cxcywh") / CANVAS
    shape = pred.shape[:-1]
    found: dict[str, Any] = {
        "pred_logits": torch.randn(*shape, CLASSES, generator=generator),
        "pred_boxes": pred,
    }
    if corners:
        found["pred_corners"] = torch.randn(*shape, 4 * (REG_MAX + 1), generator=generator)
        found["ref_points"] = (pred + 0.03 * torch.randn(pred.shape, generator=generator)).clamp(0.05, 0.95)
    return found


def outputs(boxes: list[Tensor], seed: int, *, fine: bool = False, denoising: bool = True) -> dict[str, Any]:
    """The output of a decoder with three layers, an encoder, and denoising queries."""
    generator = torch.Generator().manual_seed(seed + 2)

    def layers(queries: int) -> list[dict[str, Any]]:
        found = [layer(boxes, queries, generator, corners=fine) for _ in range(3)]
        if fine:
            for each in found[:-1]:
                each["teacher_corners"] = found[-1]["pred_corners"].clone()
                each["teacher_logits"] = found[-1]["pred_logits"].clone()
        return found

    aux = layers(QUERIES)
    result: dict[str, Any] = {**aux[-1], "aux_outputs": aux[:-1]}
    most = max([SLOTS, *(len(each) for each in boxes)])
    dn_queries = 2 * GROUPS * most
    if fine:
        result["pre_outputs"] = layer(boxes, QUERIES, generator)
        result["enc_aux_outputs"] = [layer(boxes, QUERIES, generator)]
        result |= {"up": torch.tensor([0.5]), "reg_scale": torch.tensor([4.0])}
    if denoising:
        result["dn_meta"] = {"dn_num_group": GROUPS, "dn_num_split": [dn_queries, QUERIES]}
        result["dn_outputs" if fine else "dn_aux_outputs"] = layers(dn_queries)
        if fine:
            result["dn_pre_outputs"] = layer(boxes, dn_queries, generator)
    return result


def system(
    boxes: list[Tensor], seed: int, *, background: bool = False, agnostic: bool = False, per_image: int = QUERIES
) -> dict[str, Any]:
    """The output of a decoder with two layers and of an encoder, by the names of transformers."""
    generator = torch.Generator().manual_seed(seed + 3)

    def one(classes: int) -> dict[str, Any]:
        own = layer(boxes, per_image, generator)
        logits = torch.randn(*own["pred_boxes"].shape[:-1], classes + background, generator=generator)
        return {"logits": logits, "pred_boxes": own["pred_boxes"]}

    found: dict[str, Any] = {**one(CLASSES), "auxiliary_outputs": [one(CLASSES)]}
    return found | {"enc_outputs": one(1 if agnostic else CLASSES)}


def system_case(make: Any, **options: Any) -> CriterionCase:
    """A case whose predictions are ``system`` with these options."""
    return CriterionCase(make, lambda boxes, seed: system(boxes, seed, **options), box_format="cxcywh", normalized=True)


def decoder_case(make: Any, **options: Any) -> CriterionCase:
    """A case whose predictions are ``outputs`` with these options."""
    return CriterionCase(
        make,
        lambda boxes, seed: outputs(boxes, seed, **options),
        box_format="cxcywh",
        normalized=True,
        constants=WITHOUT_GRADIENT,
        without=OF_DENOISING | (OF_DISTILLATION if options.get("fine") else {}),
    )


def changed(case: CriterionCase, **entries: Any) -> dict[str, Any]:
    """The output of a call with other entries; those that are None are left out."""
    return {key: value for key, value in (given(case)[0] | entries).items() if value is not None}


# --- from the definition --------------------------------------------------------------------------------------------


def every_layer(predictions: Any) -> dict[str, Any]:
    """The layers by suffix, each a dict of its own tensors."""
    layers = {"": predictions}
    for key, suffix in (("aux", "_aux"), ("enc_aux", "_enc"), ("dn", "_dn"), ("dn_aux", "_dn")):
        layers |= {f"{suffix}_{k}": each for k, each in enumerate(predictions.get(f"{key}_outputs", []))}
    for key, suffix in (("pre_outputs", "_pre"), ("dn_pre_outputs", "_dn_pre")):
        layers |= {suffix: predictions[key]} if key in predictions else {}
    return layers


def expected_of_system(
    criterion: Any, predictions: Any, targets: Targets, loss: Any, *, mask: Any = None
) -> dict[str, Tensor]:
    """The terms of ``system``, each image and query alone; ``loss`` is of a class, or the weight of the background."""
    found, assigned = {}, criterion.assign(predictions, targets)
    groups = criterion.num_groups if criterion.training and not criterion.sum_groups else 1
    layers = {"": predictions, "_aux_0": predictions["auxiliary_outputs"][0], "_enc": predictions["enc_outputs"]}
    for suffix, given_layer in layers.items():
        own = {"pred_logits": given_layer["logits"], "pred_boxes": given_layer["pred_boxes"]}
        images, matches, own_mask = targets.to_dicts(), assigned[suffix].target_index.tolist(), mask
        num_boxes = max(sum(_weight_of(image) for image in images) * groups, 1)
        if own["pred_logits"].shape[-1] <= 2:  # the encoder asks whether there is something
            images = [{**image, "labels": image["labels"] * 0} for image in images]
            own_mask = None
        if callable(loss):
            classes = loops.class_sum(own, images, matches, loss, own_mask) / num_boxes
        else:
            entropy, mass = loops.softmax_sums(own, images, matches, loss, own_mask)
            classes = entropy / max(mass, 1)
        l1, giou = (each / num_boxes for each in loops.box_sums(own, images, matches))
        values = {"loss_cls": classes, "loss_bbox": l1, "loss_giou": giou}
        found |= {name + suffix: value * criterion.weight_dict[name] for name, value in values.items()}
    return found


def term_of(key: str) -> str:
    """The name of a term without the suffix of its layer."""
    return "_".join(key.split("_")[:2])


def expected(
    predictions: Any,
    targets: Targets,
    assignments: dict[str, Assignment],
    *,
    fine: bool,
    weights: Any,
    gamma: float,
    union_of_layers: bool = True,
    own_numbers: bool = False,
) -> dict[str, Tensor]:
    """The terms of given assignments.

    ``fine`` if there are distributions; boxes are compared with the union of all layers' matches then, or else with
    those of their layer. Numbers of matches that balance distillation are the decoder's also for denoising queries, or
    else those of the layer.
    """
    images, layers = targets.to_dicts(), every_layer(predictions)
    own = {suffix: assignments[suffix].target_index.tolist() for suffix in layers}
    others = [matches for suffix, matches in own.items() if "_dn" not in suffix]
    joined = fine and union_of_layers
    shared = [union([layer[image] for layer in others]) for image in range(len(images))] if joined else None
    num_boxes = sum(_weight_of(image) for image in images)
    found: dict[str, Any] = {}
    for suffix, layer in layers.items():
        denoising = "_dn" in suffix
        boxes = own[suffix] if shared is None or denoising else shared
        by_classes = max(num_boxes * (GROUPS if denoising else 1), 1)
        in_union = sum(float(match[-1]) for match in loops.matched(layer, images, boxes))
        by_boxes = max(in_union, 1) if shared is not None and not denoising else by_classes
        for name, loss in (("vfl", loops.varifocal), ("mal", loops.matchability)):
            values = loops.class_sum(
                layer, images, own[suffix], lambda x, score, loss=loss: loss(x, score, ALPHA, gamma)
            )
            found[f"loss_{name}{suffix}"] = values / by_classes
        l1, giou = loops.box_sums(layer, images, boxes)
        found |= {f"loss_bbox{suffix}": l1 / by_boxes, f"loss_giou{suffix}": giou / by_boxes}
        if fine and "pred_corners" in layer:
            fgl = loops.fgl_sum(layer, images, boxes, reg_max=REG_MAX, up=0.5, reg_scale=4.0)
            found[f"loss_fgl{suffix}"] = fgl / by_boxes
        if fine and "teacher_corners" in layer:
            numbers = None
            if denoising and not own_numbers:
                last = own[""] if shared is None else shared
                n = sum(float(match[-1]) for match in loops.matched(layers[""], images, last))
                numbers = (n, float(sum(index == -1 for image in last for index in image)))
            found[f"loss_ddf{suffix}"] = loops.ddf(
                layer, images, boxes, reg_max=REG_MAX, temperature=5.0, numbers=numbers
            )
    return {key: value * weights[term_of(key)] for key, value in found.items() if term_of(key) in weights}


def _weight_of(image: Any) -> float:
    """Of all targets of an image that are not ignored."""
    count = len(image["labels"])
    weights, ignored = image.get("weights", [1.0] * count), image.get("ignore", torch.zeros(count)).tolist()
    return sum(float(weight) for weight, off in zip(weights, ignored, strict=True) if not off)
