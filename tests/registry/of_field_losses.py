"""The modules and the coder of ``losses`` for keypoints and boxes in 3D; their functions are in ``loss_cases``."""

from __future__ import annotations

import torch
from reference import boxes3d as loops

import losses
from registry.entries import SIZES, SLOTS, Elsewhere, Operation, data, normal, per_row, uniform, wrapped
from registry.of_field_costs import SIGMAS, WEIGHTS, K, gt

CODER = losses.Box3DCoder()

PACKAGE = "losses"
ENTRIES: dict[str, Operation | Elsewhere] = {
    "OKSLoss": Operation(
        losses.OKSLoss(sigmas=SIGMAS),
        lambda: (data(K, 2), gt(), data(seed=3)),
        constants=(1, 2),
        reference=lambda *own: losses.oks_loss(*own, sigmas=SIGMAS),
    ),
    "Box3DL1Loss": Operation(
        losses.Box3DL1Loss(code_weights=WEIGHTS),
        lambda: (data(4), data(4, seed=1)),
        constants=(1,),
        reference=lambda *own: losses.box3d_l1_loss(*own, code_weights=WEIGHTS),
    ),
    "Box3DCoder": Operation(CODER.encode, lambda: (data(9),), reference=per_row(loops.encode, 10), is_loop=True),
    "Box3DCoder.decode": Operation(
        CODER.decode,
        lambda: (wrapped(torch.cat([uniform(len(SIZES), SLOTS, 6), normal(len(SIZES), SLOTS, 2)], -1)),),
        reference=per_row(loops.decode, 7),
        is_loop=True,
    ),
}
