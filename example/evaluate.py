"""Detections from predictions, and COCO mean average precision of detections."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch.utils.data import DataLoader

from example.data import Sample, Task, to_targets
from example.detector import Detector
from matchers import Predictions, iou, pairwise

Objects = dict[str, Tensor]

_MAX_DETECTIONS = 100


def to_detections(predictions: Predictions, max_detections: int = _MAX_DETECTIONS) -> list[Objects]:
    """Keep the best-scored pairs of cell and class in every image, best first, without near-duplicates.

    Args:
        predictions: Logits (B, P, C) and boxes (B, P, 4), xyxy in pixels.
        max_detections: How many to look at per image.

    Returns:
        For each image ``{"boxes": (D, 4), "scores": (D,), "labels": (D,)}`` on the CPU.
    """
    assert predictions.logits is not None and predictions.boxes is not None
    num_classes = predictions.logits.shape[-1]
    flat = predictions.logits.sigmoid().flatten(1)
    scores, chosen = flat.topk(min(max_detections, flat.shape[1]), dim=1)
    boxes = predictions.boxes.gather(1, (chosen // num_classes).unsqueeze(-1).expand(-1, -1, 4))
    labels = chosen % num_classes
    keep = ~is_duplicate(boxes, labels)
    columns = boxes.cpu(), scores.cpu(), labels.cpu(), keep.cpu()
    return [{"boxes": b[k], "scores": s[k], "labels": c[k]} for b, s, c, k in zip(*columns, strict=True)]


def is_duplicate(boxes: Tensor, labels: Tensor, threshold: float = 0.6) -> Tensor:
    """Tell which detections overlap a better one of their class, at once (Bolya et al., YOLACT, 2019).

    Args:
        boxes: (B, D, 4), xyxy, best first.
        labels: (B, D).
        threshold: From this IoU on, the worse detection is a duplicate.

    Returns:
        (B, D), bool. A detection may be a duplicate of a duplicate.
    """
    same_class = labels.unsqueeze(2) == labels.unsqueeze(1)
    overlaps = (pairwise(iou, boxes, boxes) >= threshold) & same_class
    return overlaps.triu(diagonal=1).any(dim=1)


@dataclass(frozen=True)
class Evaluation:
    """What came out for each image.

    Args:
        detections: See `to_detections`.
        targets: ``{"boxes": (n, 4), "labels": (n,)}``, and ``"ignore"`` (n,) where the dataset has it.
        losses: Of each loss term (N,), what each image would have alone.
    """

    detections: list[Objects]
    targets: list[Objects]
    losses: dict[str, Tensor]


@torch.no_grad()
def evaluate(
    detector: Detector, loader: DataLoader[Sample], task: Task, *, device: torch.device | str = "cpu"
) -> Evaluation:
    """Run the detector over a loader, and look at each image for itself."""
    model, criterion = detector.model.to(device).eval(), detector.make_criterion("sample").to(device).eval()
    detections: list[Objects] = []
    targets: list[Objects] = []
    losses: list[dict[str, Tensor]] = []
    for images, batch in loader:
        output = model(images.to(device))
        detections += to_detections(detector.decode(output))
        read = to_targets(batch, task)
        targets += read.to_dicts()
        losses.append(detector.losses(output, read.to(device), criterion))
    return Evaluation(
        detections, targets, {name: torch.cat([each[name].cpu() for each in losses]) for name in losses[0]}
    )


def _records(objects: list[Objects]) -> list[dict[str, Any]]:
    """Return one COCO annotation per object; categories and identifiers start at 1."""
    records: list[dict[str, Any]] = []
    for image_id, one in enumerate(objects):
        corners = one["boxes"].double()
        sides = corners[:, 2:] - corners[:, :2]
        boxes, areas = torch.cat([corners[:, :2], sides], dim=1).tolist(), sides.prod(dim=1).tolist()
        scores = one["scores"].tolist() if "scores" in one else [1.0] * len(boxes)
        crowds = one["ignore"].tolist() if "ignore" in one else [False] * len(boxes)
        for box, area, label, score, crowd in zip(boxes, areas, one["labels"].tolist(), scores, crowds, strict=True):
            entry = {"image_id": image_id, "category_id": label + 1, "bbox": box, "area": area, "score": score}
            records.append({"id": len(records) + 1, "iscrowd": int(crowd), **entry})
    return records


def coco_map(detections: list[Objects], targets: list[Objects], *, num_classes: int) -> dict[str, float]:
    """Compute COCO mean average precision.

    Args:
        detections: For each image ``{"boxes": (D, 4) xyxy in pixels, "scores": (D,), "labels": (D,)}``.
        targets: For each image ``{"boxes": (n, 4) xyxy in pixels, "labels": (n,)}``, and ``"ignore": (n,)`` if there
            are crowds.
        num_classes: Number of classes.

    Returns:
        ``"mAP@0.5"`` and ``"mAP@[.5:.95]"``; NaN where there is not a single target.
    """
    if len(detections) != len(targets):
        raise ValueError(f"expected as many images in detections as in targets, got {len(detections)}, {len(targets)}")
    names = ("mAP@[.5:.95]", "mAP@0.5")
    annotations, results = _records(targets), _records(detections)
    if not annotations or not results:
        return dict.fromkeys(names, 0.0 if annotations else math.nan)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image_id} for image_id in range(len(targets))],
            "categories": [{"id": label + 1} for label in range(num_classes)],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # Where only crowds are annotated, it says -1.
    scores = [float(score) if score >= 0 else math.nan for score in evaluation.stats[:2]]
    return dict(zip(names, scores, strict=True))
