"""The dense matchers for one image, one target and one prediction at a time, from the papers, in plain floats.

Each function takes lists and gives ``Answer``. ``noise`` is put on every quantity that a decision compares: a decision
that changes with a little of it is one that float32 may take either way.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from reference.boxes import area, ciou, intersection, iou
from torch import Tensor

from matchers import Assignment, Predictions
from matchers.testing import CANVAS, SCENES, Scene, dense_scene

Rows = Sequence[Sequence[float]]
Noise = Callable[[float], float]

NO_TARGET, NOT_COUNTED = -1, -2


@dataclass
class Answer:
    """Of one image: the target of each prediction, how well it fits, how many costs were unusable."""

    target: list[int]
    quality: list[float]
    invalid: int = 0


@dataclass
class Picture:
    """One image: priors (P, 4), predictions, and targets in pixels, xyxy."""

    priors: Rows
    gt: Rows
    labels: Sequence[int]
    ignore: Sequence[bool]
    logits: Rows | None = None
    boxes: Rows | None = None
    objectness: Sequence[float] | None = None
    level_sizes: Sequence[int] | None = None
    real: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.real = [g for g, flag in enumerate(self.ignore) if not flag]

    def points(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y, *_ in self.priors]

    def in_regions(self, test: Callable[[int, Sequence[float]], bool], target: list[int]) -> list[int]:
        """Background that passes the test with an ignored target does not count."""
        regions = [self.gt[g] for g, flag in enumerate(self.ignore) if flag]
        return [
            NOT_COUNTED if t == NO_TARGET and any(test(p, region) for region in regions) else t
            for p, t in enumerate(target)
        ]

    def overlap(self, p: int, g: int) -> float:
        """IoU of a predicted box and a target; NaN for a box that is not finite."""
        box = self.boxes[p]
        return iou(box, self.gt[g]) if all(map(math.isfinite, box)) else math.nan


def exact(value: float) -> float:
    return value


def noise(seed: int, scale: float = 1e-5) -> Noise:
    """Relative noise; it leaves 0, and the order of what differs by much, alone."""
    source = random.Random(seed)
    return lambda value: value * (1 + scale * source.uniform(-1, 1))


def is_inside(x: float, y: float, box: Sequence[float], margin: float = 0.0, vary: Noise = exact) -> bool:
    return vary(min(x - box[0], box[2] - x, y - box[1], box[3] - y)) > margin


def part_inside(box: Sequence[float], region: Sequence[float]) -> float:
    return intersection(box, region) / area(box) if area(box) > 1e-12 else 0.0


# --- by thresholds ---------------------------------------------------------------------------------------------------


def max_iou(
    picture: Picture,
    vary: Noise = exact,
    *,
    pos_iou_thr: float = 0.5,
    neg_iou_thr: Any = 0.5,
    min_pos_iou: float = 0.0,
    match_low_quality: bool = True,
    gt_max_assign_all: bool = False,
    keep_best_target: bool = False,
    ignore_iof: float = 0.5,
) -> Answer:
    low, high = neg_iou_thr if isinstance(neg_iou_thr, tuple) else (0.0, neg_iou_thr)
    priors = picture.priors
    table = {
        (g, p): vary(iou(prior, picture.gt[g])) if all(map(math.isfinite, prior)) else 0.0
        for g in picture.real
        for p, prior in enumerate(priors)
    }
    target, quality = [NO_TARGET] * len(priors), [0.0] * len(priors)
    for p in range(len(priors)):
        if not picture.real:
            continue
        best = max(picture.real, key=lambda g: (table[g, p], -g))
        overlap = table[best, p]
        if overlap >= pos_iou_thr:
            target[p], quality[p] = best, overlap
        elif not low <= overlap < high:
            target[p] = NOT_COUNTED
    claims: dict[int, list[tuple[float, int]]] = {}
    for g in picture.real if match_low_quality and priors else []:
        highest = max(table[g, p] for p in range(len(priors)))
        best_priors = [p for p in range(len(priors)) if table[g, p] == highest]
        if highest > 0 and highest >= min_pos_iou:
            for p in best_priors if gt_max_assign_all else best_priors[:1]:
                claims.setdefault(p, []).append((highest, g))
    for p, claim in claims.items():
        quality[p], target[p] = max(claim, key=lambda each: (each[0], -each[1]))
        if keep_best_target:
            target[p] = max(picture.real, key=lambda g, p=p: (table[g, p], -g))
            quality[p] = table[target[p], p]
    target = picture.in_regions(lambda p, region: part_inside(priors[p], region) >= ignore_iof, target)
    return Answer(target, quality)


def atss(
    picture: Picture,
    vary: Noise = exact,
    *,
    topk: int = 9,
    min_center_margin: float = 0.01,
    ignore_iof: float = 0.5,
) -> Answer:
    priors = picture.priors
    wanted: list[list[tuple[float, int]]] = [[] for _ in priors]
    centers = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in priors]
    for g in picture.real:
        box, candidates, first = picture.gt[g], [], 0
        cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        for size in picture.level_sizes or [len(priors)]:
            level = range(first, first + size)
            distance = {p: vary((centers[p][0] - cx) ** 2 + (centers[p][1] - cy) ** 2) for p in level}
            candidates += sorted(level, key=lambda p: (distance[p], p))[:topk]
            first += size
        overlaps = [iou(priors[p], box) for p in candidates]
        mean = sum(overlaps) / max(len(overlaps), 1)
        spread = math.sqrt(sum((v - mean) ** 2 for v in overlaps) / (len(overlaps) - 1)) if len(overlaps) > 1 else 0.0
        for p, overlap in zip(candidates, overlaps, strict=True):
            if overlap >= vary(mean + spread) and is_inside(*centers[p], box, min_center_margin, vary):
                wanted[p].append((vary(overlap), g))
    target, quality = [NO_TARGET] * len(priors), [0.0] * len(priors)
    for p, wants in enumerate(wanted):
        if wants:
            quality[p], target[p] = max(wants, key=lambda each: (each[0], -each[1]))
    target = picture.in_regions(lambda p, region: part_inside(priors[p], region) >= ignore_iof, target)
    return Answer(target, quality)


def fcos(
    picture: Picture,
    vary: Noise = exact,
    *,
    center_radius: float | None = 1.5,
    regress_range: tuple[float, float] = (4.0, 8.0),
) -> Answer:
    strides = [max(sx, sy) for _, _, sx, sy in picture.priors]
    target = [NO_TARGET] * len(strides)
    for p, (x, y, *_) in enumerate(picture.priors):
        low = 0.0 if strides[p] == min(strides) else regress_range[0] * strides[p]
        high = math.inf if strides[p] == max(strides) else regress_range[1] * strides[p]
        wants = []
        for g in picture.real:
            x1, y1, x2, y2 = box = picture.gt[g]
            off_center = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            if not is_inside(x, y, box, vary=vary):
                continue
            if center_radius is not None and vary(off_center) >= center_radius * strides[p]:
                continue
            if low < vary(max(x - x1, y - y1, x2 - x, y2 - y)) < high:
                wants.append((vary(area(box)), g))
        if wants:
            target[p] = min(wants)[1]
    target = picture.in_regions(lambda p, region: is_inside(*picture.points()[p], region), target)
    return Answer(target, [float(t >= 0) for t in target])


# --- dynamic k -------------------------------------------------------------------------------------------------------


def dynamic_k(
    picture: Picture,
    vary: Noise,
    topk: int,
    cost: dict[tuple[int, int], float],
    candidate: dict[tuple[int, int], bool],
    counted: list[bool],
) -> Answer:
    """``cost`` and ``candidate`` of (target, prediction); predictions that are ``counted`` have their overlaps added.

    A sum that is whole, but for rounding, is whole.
    """
    count = len(picture.priors)
    price = {}
    for pair, value in cost.items():
        varied = vary(value) + (vary(1e-5) - 1e-5)
        price[pair] = (not math.isfinite(value), varied if math.isfinite(value) else 0.0)
    takers: list[list[int]] = [[] for _ in range(count)]
    for g in picture.real:
        # A prediction that is avoided adds to no sum.
        adds = [counted[p] and math.isfinite(cost[g, p]) for p in range(count)]
        overlaps = [picture.overlap(p, g) if adds[p] else 0.0 for p in range(count)]
        largest = sorted((0.0 if math.isnan(v) else v for v in overlaps), reverse=True)[:topk]
        k = max(1, math.floor(sum(largest) + vary(1e-4) + 0.1 * (vary(1.0) - 1.0)))
        offers = sorted((p for p in range(count) if candidate[g, p]), key=lambda p: (price[g, p], p))
        for p in offers[: min(k, topk)]:
            takers[p].append(g)
    target, quality = [NO_TARGET] * count, [0.0] * count
    for p, who in enumerate(takers):
        if len(who) > 1:
            who = [min((g for g in picture.real if candidate[g, p]), key=lambda g: (price[g, p], g))]
        if who:
            target[p] = who[0]
            overlap = picture.overlap(p, who[0])
            quality[p] = 0.0 if math.isnan(overlap) else overlap
    target = picture.in_regions(lambda p, region: is_inside(*picture.points()[p], region), target)
    return Answer(target, quality, sum(not math.isfinite(value) for value in cost.values()))


def simota(
    picture: Picture,
    vary: Noise = exact,
    *,
    center_radius: float = 2.5,
    candidate_topk: int = 10,
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
) -> Answer:
    cost, candidate = {}, {}
    for g in picture.real:
        x1, y1, x2, y2 = box = picture.gt[g]
        for p, (x, y, *strides) in enumerate(picture.priors):
            off_center = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            near = vary(off_center) < center_radius * max(strides)
            within = is_inside(x, y, box, vary=vary)
            candidate[g, p] = near or within
            classes = 0.0
            for c, logit in enumerate(picture.logits[p]):
                chance = sigmoid(logit) * (1.0 if picture.objectness is None else sigmoid(picture.objectness[p]))
                classes += binary_cross_entropy(math.sqrt(chance), float(c == picture.labels[g]))
            overlap = picture.overlap(p, g)
            value = vary(cls_weight * classes - iou_weight * math.log(overlap + 1e-7))
            # Half of what a float32 can tell near 1e5 is 1/256: both have to add it in the same precision.
            cost[g, p] = float(np.float32(value) + np.float32(0.0 if near and within else 1e5))
    counted = [any(candidate[g, p] for g in picture.real) for p in range(len(picture.priors))]
    return dynamic_k(picture, vary, candidate_topk, cost, candidate, counted)


def dynamic_soft_label(
    picture: Picture,
    vary: Noise = exact,
    *,
    topk: int = 13,
    soft_center_radius: float = 3.0,
    iou_weight: float = 3.0,
) -> Answer:
    priors = picture.priors
    counted = [any(is_inside(x, y, picture.gt[g], vary=vary) for g in picture.real) for x, y, *_ in priors]
    cost, candidate = {}, {}
    for g in picture.real:
        x1, y1, x2, y2 = picture.gt[g]
        for p, (x, y, stride, _) in enumerate(priors):
            candidate[g, p] = counted[p]
            overlap = picture.overlap(p, g)
            total = -iou_weight * math.log(overlap + 1e-7)
            for c, logit in enumerate(picture.logits[p]):
                label = overlap if c == picture.labels[g] else 0.0
                loss = softplus(logit) - logit * label
                total += loss * (label - sigmoid(logit)) ** 2
            strides = math.hypot(x - (x1 + x2) / 2, y - (y1 + y2) / 2) / stride
            cost[g, p] = total + 10.0 ** min(strides - soft_center_radius, 30)
    return dynamic_k(picture, vary, topk, cost, candidate, counted)


# --- task-aligned ----------------------------------------------------------------------------------------------------


def at_least(box: Sequence[float], side: float) -> list[float]:
    """The box with sides of at least this length, around the same centre."""
    across, down = (max(side - (box[k + 2] - box[k]), 0.0) / 2 for k in (0, 1))
    return [box[0] - across, box[1] - down, box[2] + across, box[3] + down]


def task_aligned(
    picture: Picture,
    vary: Noise = exact,
    *,
    topk: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
    overlap: str = "iou",
    only_inside: bool = False,
    conflict: str = "overlap",
    quality: str = "normalized",
    min_center_margin: float = 0.01,
    topk2: int | None = None,
    min_side: float = 0.0,
    add_eps: bool = False,
    max_pairwise_bytes: None = None,
) -> Answer:
    count, measure = len(picture.priors), {"iou": iou, "ciou": ciou}[overlap]
    metric, overlaps, holds, invalid = {}, {}, {}, 0
    wanted: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    for g in picture.real:
        for p in range(count):
            box, logit = picture.boxes[p], picture.logits[p][picture.labels[g]]
            found = min(max(measure(box, picture.gt[g]), 0.0), 1.0) if all(map(math.isfinite, box)) else math.nan
            value = vary(sigmoid(logit) ** alpha * found**beta) if math.isfinite(logit) else math.nan
            invalid += math.isnan(value)
            overlaps[g, p] = 0.0 if math.isnan(found) else found
            # What is 0 in float32 does not count.
            metric[g, p] = float(np.float32(0.0 if math.isnan(value) else value))
        within = [
            is_inside(x, y, at_least(picture.gt[g], min_side), min_center_margin, vary) for x, y in picture.points()
        ]
        holds[g] = within
        offers = sorted((p for p in range(count) if within[p] or not only_inside), key=lambda p: (-metric[g, p], p))
        for p in offers[:topk]:
            if metric[g, p] > 0 and within[p]:
                decisive = metric[g, p] if conflict == "metric" else vary(overlaps[g, p])
                wanted[p].append((decisive, g))
    target = [max(wants, key=lambda each: (each[0], -each[1]))[1] if wants else NO_TARGET for wants in wanted]
    for p in range(count):
        if conflict == "overlap_inside" and len(wanted[p]) > 1:
            around = [g for g in picture.real if holds[g][p]]
            target[p] = max(around, key=lambda g, p=p: (vary(overlaps[g, p]), -g))
    value = [0.0] * count
    for g in picture.real:
        own = sorted((p for p in range(count) if target[p] == g), key=lambda p, g=g: (-vary(metric[g, p]), p))
        for p in own[topk2:] if topk2 is not None else []:
            target[p] = NO_TARGET
        own = own[:topk2]
        among = [p for p in range(count) if any(h == g for _, h in wanted[p])]
        among = among if quality == "normalized_over_all" else own
        most = max((metric[g, p] for p in among), default=0.0)
        scope = range(count) if quality == "normalized_over_all" else own
        highest = max((overlaps[g, p] for p in scope), default=0.0)
        for p in own:
            divisor = most + 1e-9 if add_eps else max(most, 1e-9)
            value[p] = metric[g, p] if quality == "metric" else metric[g, p] / divisor * highest
    target = picture.in_regions(lambda p, region: is_inside(*picture.points()[p], region), target)
    return Answer(target, value, invalid)


# --- parts -----------------------------------------------------------------------------------------------------------


def sigmoid(x: float) -> float:
    if math.isnan(x):
        return math.nan
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def binary_cross_entropy(score: float, label: float) -> float:
    """With logarithms of at least -100."""
    if math.isnan(score):
        return math.nan
    yes = max(math.log(score), -100.0) if score > 0 else -100.0
    no = max(math.log1p(-score), -100.0) if score < 1 else -100.0
    return -(label * yes + (1 - label) * no)


# --- scenes, and how they are compared -------------------------------------------------------------------------------


def grid(strides: Sequence[int] = (8, 16, 32), *, offset: float = 0.5, count: int | None = None) -> Tensor:
    """Grid points (P, 4) of the canvas: x, y and strides; the first ``count`` of them."""
    rows = [
        [(column + offset) * stride, (row + offset) * stride, float(stride), float(stride)]
        for stride in strides
        for row in range(math.ceil(CANVAS / stride))
        for column in range(math.ceil(CANVAS / stride))
    ]
    return torch.tensor(rows[:count]).reshape(-1, 4)


def level_sizes(strides: Sequence[int] = (8, 16, 32)) -> list[int]:
    return [math.ceil(CANVAS / stride) ** 2 for stride in strides]


def anchors(strides: Sequence[int] = (8, 16, 32), *, scale: float = 2.0, count: int | None = None) -> Tensor:
    """Square anchors (P, 4), xyxy, around the grid points."""
    points = grid(strides, count=count)
    half = points[:, 2:] * scale / 2
    return torch.cat([points[:, :2] - half, points[:, :2] + half], -1)


FINITE_SCENES = {name: options for name, options in SCENES.items() if "bad" not in options}


def pictures(scene: Scene, priors: Tensor, levels: Sequence[int] | None = None) -> list[Picture]:
    """Every image of a scene, layers first."""
    shape = scene.predictions.batch_shape
    images = scene.images()
    own = [priors] * len(images) if priors.dim() == 2 else priors.expand(*shape, *priors.shape[-2:]).flatten(0, -3)
    confidence = scene.predictions.objectness
    confidence = [None] * len(images) if confidence is None else confidence.flatten(0, -2).tolist()
    return [
        Picture(
            priors=prior.tolist(),
            gt=image.gt_boxes.tolist(),
            labels=image.labels.tolist(),
            ignore=image.ignore.tolist(),
            logits=image.logits.tolist(),
            boxes=image.boxes.tolist(),
            objectness=objectness,
            level_sizes=levels,
        )
        for image, prior, objectness in zip(images, own, confidence, strict=True)
    ]


def call(matcher: Any, boxes: Any, gt: Any, points: Any, logits: Any = None, labels: Any = None) -> Assignment:
    """Of one image: boxes (P, 4), targets (n, 4), points (P, 2) of stride 8, logits (P, C), labels (n); lists."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)
    logits = torch.zeros(1, boxes.shape[1], 2) if logits is None else torch.tensor([logits])
    gt = torch.tensor(gt, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(gt), dtype=torch.int64) if labels is None else torch.tensor(labels)
    points = torch.tensor([[x, y, 8.0, 8.0] for x, y in points])
    return matcher(Predictions(logits, boxes), [{"boxes": gt, "labels": labels}], points)


def check_units_and_formats(matcher: Any, points: Tensor) -> None:
    """Assert that the format and unit of boxes do not matter."""
    made = dense_scene([5, 0, 9], points, seed=9)
    expected = matcher(made.predictions, made.targets, points).target_index
    for formats in ({"predictions": "cxcywh", "targets": "xywh"}, {"predictions": "xyxy", "targets": "cxcywh"}):
        for normalized in (False, True, (True, False), (False, True)):
            other = made.in_format(**formats, normalized=normalized)
            assert torch.equal(matcher(other.predictions, other.targets, points).target_index, expected)


def compare(
    assignment: Assignment,
    images: Sequence[Picture],
    reference: Callable[..., Answer],
    *,
    unclear: float = 0.0,
    **options: Any,
) -> None:
    """Assert that every image is assigned as the reference says.

    Args:
        assignment: What is checked.
        images: Its images.
        reference: A function of this module.
        unclear: Up to which part of all predictions may differ, if a little noise makes the reference differ too.
        options: Of the reference.
    """
    count = len(images[0].priors) if images else 0
    rows = assignment.target_index.reshape(-1, count).tolist() if count else [[]] * len(images)
    qualities = assignment.quality.reshape(-1, count).tolist() if count else [[]] * len(images)
    invalid = assignment.num_invalid.reshape(-1).tolist()
    assert len(rows) == len(qualities) == len(invalid) == len(images)
    differing = 0
    for image, row, quality, bad in zip(images, rows, qualities, invalid, strict=True):
        answer = reference(image, **options)
        assert bad == answer.invalid
        wrong = [p for p in range(count) if row[p] != answer.target[p]]
        if wrong:
            others = [reference(image, noise(seed), **options).target for seed in range(24)]
            clear = [(p, row[p], answer.target[p]) for p in wrong if row[p] not in {other[p] for other in others}]
            assert not clear, f"(prediction, got, expected): {clear}"
            differing += len(wrong)
            continue
        for p in range(count):
            expected = answer.quality[p] if answer.target[p] >= 0 else 0.0
            assert math.isclose(quality[p], expected, rel_tol=1e-3, abs_tol=1e-4), (p, quality[p], expected)
    assert differing <= unclear * count * len(images), f"{differing} predictions differ within rounding"
