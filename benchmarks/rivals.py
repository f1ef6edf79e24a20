"""Public packages as rivals: what is installed of ``benchmarks/requirements.txt`` takes part, the rest is missing.

Each is asked once for the same thing as ours before it is timed, and its name says how far the two are apart.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks import criteria, matchers
from benchmarks.criteria import gradients_of
from benchmarks.criterion_scenes import CriterionScene
from benchmarks.scenes import NUM_CLASSES, Scene, normalized

Rival = tuple[str, Callable[[], object]]
_MODULES = {"transformers": "transformers.loss.loss_rt_detr", "ultralytics": "ultralytics.utils.tal"}
# As ``Hungarian`` and ``DetrCriterion`` of the benchmarks.
_RT_DETR = SimpleNamespace(
    matcher_class_cost=2.0,
    matcher_bbox_cost=5.0,
    matcher_giou_cost=2.0,
    matcher_alpha=0.25,
    matcher_gamma=2.0,
    use_focal_loss=True,
    num_labels=NUM_CLASSES,
    weight_loss_vfl=1.0,
    weight_loss_bbox=5.0,
    weight_loss_giou=2.0,
    eos_coefficient=1e-4,
    focal_loss_alpha=0.75,
    focal_loss_gamma=2.0,
)


def module_of(package: str) -> Any:
    """The module that is compared with, or why there is none, as a string."""
    try:
        return importlib.import_module(_MODULES[package])
    except Exception as error:  # what a package raises when it is imported is its own affair
        return f"missing ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"


def packages() -> str:
    """All packages, with versions, and those that are missing."""
    found = {name: module_of(name) for name in _MODULES}
    return ", ".join(f"{name} {it if isinstance(it, str) else metadata.version(name)}" for name, it in found.items())


def rival(name: str, scene: Any) -> Rival | None:
    """The counterpart of a case, with what it says in the table, and the call."""
    if name not in _RIVALS:
        return None
    package, make = _RIVALS[name]
    module = module_of(package)
    if isinstance(module, str):
        return None
    label, run = make(module, name, scene)
    return f"{package} {metadata.version(package)} {label}", run


def _loss(module: Any, name: str, scene: CriterionScene) -> Rival:
    criterion = module.RTDetrLoss(_RT_DETR)

    def loss() -> Tensor:
        layers = [_renamed(layer) for layer in [scene.output, *scene.output.get("aux_outputs", ())]]
        output = layers[0] | ({"auxiliary_outputs": layers[1:]} if layers[1:] else {})
        return torch.stack(list(criterion(output, _dicts(scene.truth)).values())).sum()

    case = criteria.CASES[name]
    with torch.no_grad():
        ours = float(case.loss(scene.output, criteria.ground_truth(scene, case.layout)))
        apart = abs(float(loss()) - ours) / abs(ours)
    return f"RTDetrLoss, {apart:.0e} apart", gradients_of(loss, scene.leaves)


def _hungarian(module: Any, name: str, scene: Scene) -> Rival:
    matcher = module.RTDetrHungarianMatcher(_RT_DETR)

    def match() -> Any:
        return matcher({"logits": scene.predictions.logits, "pred_boxes": scene.predictions.boxes}, _dicts(scene))

    ours: Any = matchers.CASES[name].run(scene)()
    index = torch.full_like(ours.target_index, -1)
    for image, (query, target) in enumerate(match()):
        index[image, query] = target
    return f"RTDetrHungarianMatcher, {_differing(index, ours.target_index)}", match


def _task_aligned(module: Any, name: str, scene: Scene) -> Rival:
    assigner = module.TaskAlignedAssigner(topk=10, num_classes=NUM_CLASSES, alpha=0.5, beta=6.0)
    logits, boxes = scene.predictions.logits, scene.predictions.boxes
    assert logits is not None and boxes is not None

    def assign() -> Any:
        gt = pad_sequence(scene.boxes, batch_first=True)
        labels = pad_sequence(scene.labels, batch_first=True).unsqueeze(-1)
        mask = pad_sequence([torch.ones(len(each), 1) for each in scene.boxes], batch_first=True)
        return assigner(logits.sigmoid(), boxes, scene.points[:, :2], labels, gt, mask)

    ours: Any = matchers.CASES[name].run(scene)()
    *_, positive, target = assign()
    index = torch.where(positive.bool(), target.long(), -1)
    return f"TaskAlignedAssigner, {_differing(index, ours.target_index)}", assign


def _renamed(layer: dict[str, Tensor]) -> dict[str, Any]:
    return {"logits": layer["pred_logits"], "pred_boxes": layer["pred_boxes"]}


def _dicts(scene: Scene) -> list[dict[str, Tensor]]:
    return [{"boxes": box, "class_labels": label} for box, label in zip(normalized(scene), scene.labels, strict=True)]


def _differing(theirs: Tensor, ours: Tensor) -> str:
    """How many of all positives of either are assigned otherwise."""
    positive = (theirs >= 0) | (ours >= 0)
    return f"{int((theirs != ours)[positive].sum())} of {int(positive.sum())} positives differ"


_RIVALS: dict[str, tuple[str, Callable[[Any, str, Any], Rival]]] = {
    "DetrCriterion": ("transformers", _loss),
    "DetrCriterion, 6 layers": ("transformers", _loss),
    "Hungarian": ("transformers", _hungarian),
    "TaskAligned, YOLOv8": ("ultralytics", _task_aligned),
}
