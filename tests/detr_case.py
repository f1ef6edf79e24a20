"""Cases of the criteria of detection transformers, for the tests of what every criterion keeps to."""

from __future__ import annotations

from typing import Any

import torch
from criterion_types import CLASSES, WITHOUT_GRADIENT
from torch import Tensor

from losses import DEIMCriterion, DetrCriterion, DFINECriterion
from losses.testing import CriterionCase, near
from matchers import convert
from matchers.testing import CANVAS

QUERIES, REG_MAX, GROUPS = 12, 4, 2
# Slots of denoising queries: as many as images have targets at most, but always the same, so that batches can be cut.
SLOTS = 6
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


def _case(make: Any, **options: Any) -> CriterionCase:
    return CriterionCase(
        make,
        lambda boxes, seed: outputs(boxes, seed, **options),
        box_format="cxcywh",
        normalized=True,
        constants=WITHOUT_GRADIENT,
    )


CASES = {
    "detr": _case(lambda **options: DetrCriterion(WEIGHTS, 0.75, 2.0, CLASSES, **options)),
    "dfine": _case(lambda **options: DFINECriterion(FINE_WEIGHTS, 0.75, 2.0, CLASSES, REG_MAX, **options), fine=True),
    "deim": _case(
        lambda **options: DEIMCriterion(FINE_WEIGHTS | {"loss_mal": 1.0}, 0.75, 1.5, CLASSES, REG_MAX, **options),
        fine=True,
        denoising=False,
    ),
}
