"""Ours beside the plain loops over samples, predictions and targets that the tests compare with: small sizes only."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import criteria, matchers
from benchmarks.contest import Options, Run, milliseconds
from benchmarks.criteria import gradients_of, ground_truth
from benchmarks.criterion_scenes import CriterionScene
from benchmarks.scenes import STRIDES, Scene, normalized
from benchmarks.timing import compare
from matchers import BACKGROUND

DESCRIPTION = """Milliseconds of ours and of the plain Python loops in tests/reference, which have no tensor of more
than one pair; 2 images. Matchers: one call. Criteria: forward and backward; the loops are given our assignment. Before
they are timed, they are compared: the share of positives that differ, or the relative distance of the losses.
"""
SIZE = "small"


def reference(name: str) -> Any:
    """A module of tests/reference."""
    folder = str(Path(__file__).parent.parent / "tests")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(f"reference.{name}")


def _matcher(function: str, on_anchors: bool = False, **options: Any) -> Callable[[Scene], Run]:
    def make(scene: Scene) -> Run:
        dense = reference("dense")
        logits, boxes = scene.predictions.logits, scene.predictions.boxes
        assert logits is not None and boxes is not None
        priors = (scene.anchors if on_anchors else scene.points).tolist()
        pictures = [
            dense.Picture(
                priors=priors,
                gt=gt.tolist(),
                labels=label.tolist(),
                ignore=[False] * len(gt),
                logits=row.tolist(),
                boxes=predicted.tolist(),
                level_sizes=scene.level_sizes,
            )
            for gt, label, row, predicted in zip(scene.boxes, scene.labels, logits, boxes, strict=True)
        ]
        return lambda: [getattr(dense, function)(picture, **options).target for picture in pictures]

    return make


MATCHERS: dict[str, Callable[[Scene], Run]] = {
    "SimOTA": _matcher("simota"),
    "DynamicSoftLabel": _matcher("dynamic_soft_label"),
    "ATSS": _matcher("atss", on_anchors=True),
    "TaskAligned": _matcher("task_aligned"),
    "MaxIoU": _matcher("max_iou", on_anchors=True),
}


def _detr(scene: CriterionScene, assigned: Any) -> Tensor:
    loops = reference("detr_loss")
    index = assigned[""].target_index.tolist()
    images = [{"boxes": box, "labels": label} for box, label in zip(normalized(scene.truth), scene.labels, strict=True)]
    classes = loops.class_sum(scene.output, images, index, lambda x, score: loops.varifocal(x, score, 0.75, 2.0))
    l1, giou = loops.box_sums(scene.output, images, index)
    return (classes + 5 * l1 + 2 * giou) / max(sum(map(len, scene.labels)), 1)


def _yolox(scene: CriterionScene, assigned: Any) -> Tensor:
    loss = reference("yolox_loss").yolox
    terms = loss(scene.output, scene.boxes, scene.labels, assigned.target_index, assigned.quality, strides=STRIDES)
    return torch.stack([value for name, value in terms.items() if name != "loss_l1"]).sum()


def _yolov9(scene: CriterionScene, assigned: Any) -> Tensor:
    loss = reference("yolov9_loss").yolov9
    terms = loss(scene.output, scene.boxes, scene.labels, assigned.target_index, assigned.quality, strides=STRIDES)
    return torch.stack(list(terms.values())).sum()


CRITERIA: dict[str, Callable[[CriterionScene, Any], Tensor]] = {
    "DetrCriterion": _detr,
    "YOLOXCriterion": _yolox,
    "YOLOv9Criterion": _yolov9,
}


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named."""
    lines = ["| of | size | ours, ms | loops, ms | times faster | apart |", "|---" * 6 + "|"]
    for name, ours, theirs, apart in _contests(options):
        timings = compare({"ours": ours, "theirs": theirs})
        faster = timings["theirs"].median / timings["ours"].median
        cells = [name, SIZE, milliseconds(timings["ours"]), milliseconds(timings["theirs"]), f"{faster:.0f}"]
        lines.append(f"| {' | '.join([*cells, f'{apart:.0e}'])} |")
    return f"{DESCRIPTION}\n" + "\n".join(lines)


def _contests(options: Options) -> Iterator[tuple[str, Run, Run, float]]:
    for name, make in MATCHERS.items():
        if options.wants(name):
            scene = matchers.CASES[name].scene(SIZE)
            ours, theirs = matchers.CASES[name].run(scene), make(scene)
            yield name, ours, theirs, _share_of_differing(torch.tensor(theirs()), ours())
    for name, loops in CRITERIA.items():
        if options.wants(name):
            case = criteria.CASES[name]
            given = case.scene(SIZE)
            truth = ground_truth(given, case.layout)
            criterion: Any = case.criterion()
            assigned = criterion.assign(given.output, truth)

            def loss(loops: Any = loops, given: Any = given, assigned: Any = assigned) -> Tensor:
                return loops(given, assigned)

            expected = float(case.loss(given.output, truth).detach())
            apart = abs(float(loss().detach()) - expected) / abs(expected)
            yield name, case.run(given), gradients_of(loss, given.leaves), apart


def _share_of_differing(index: Tensor, assignment: Any) -> float:
    """Of the positives of either."""
    positive = (index > BACKGROUND) | assignment.is_positive
    return float((index != assignment.target_index)[positive].sum()) / max(int(positive.sum()), 1)
