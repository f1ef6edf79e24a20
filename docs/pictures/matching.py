"""Matching: costs of an image, their match, kinds of matches. Matchers give the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from docs.pictures.style import Canvas, Theme
from matchers import BalancedSinkhorn, Hungarian, MaxIoU, Pairs, Targets, iou

SIDE = 100.0
TRUTH = ((12, 16, 44, 50), (30, 26, 66, 64), (62, 70, 94, 95))
# The best prediction of targets 0 and 1 is the same.
FOUND = ((4, 6, 33, 42), (20, 21, 54, 56), (57, 64, 90, 91), (64, 6, 90, 30), (45, 38, 80, 74))


def box_cost(pairs: Pairs) -> Tensor:
    """What a pair costs: 1 - IoU."""
    return 1 - iou(pairs.gt, pairs.predicted)


def scene() -> tuple[dict[str, Tensor], Targets]:
    """Five predicted boxes and three targets of one image."""
    truth = torch.tensor(TRUTH, dtype=torch.float32)
    targets = Targets.of(
        [{"boxes": truth, "labels": torch.zeros(len(truth), dtype=torch.int64)}]
    )
    return {
        "pred_boxes": torch.tensor([FOUND], dtype=torch.float32),
        "pred_logits": torch.zeros(1, len(FOUND), 1),
    }, targets


def matching(theme: Theme) -> Canvas:
    """An image, its cost matrix and the assignment."""
    predictions, targets = scene()
    matcher = Hungarian(box_cost)
    cost = matcher.costs(predictions, targets)["cost"][0]
    index = matcher(predictions, targets).target_index[0].tolist()
    canvas = Canvas.of(theme, 17.2, 7.9)
    canvas.title(0.1, 0.35, "one image", "targets filled, predictions dashed")
    panel(canvas, 0.1, 1.15, 6.6, TRUTH, FOUND, index)
    left, top = 11.0, 2.1
    canvas.title(left - 2.4, 0.35, "cost matrix", "(G, P): 1 - IoU; ringed: the cheapest match")
    for column in range(len(FOUND)):
        canvas.text(left + column + 0.5, top - 0.3, str(column), color=theme.muted, size=8.5)
    for row in range(len(TRUTH)):
        canvas.text(
            left - 0.25,
            top + row + 0.5,
            f"target {row}",
            ha="right",
            color=theme.hues[row],
            weight="bold",
            size=9,
        )
        for column in range(len(FOUND)):
            value, chosen = cost[row, column].item(), index[column] == row
            style = {"linewidth": 2.4} if chosen else {"linewidth": 0.0}
            canvas.cell(
                left + column,
                top + row,
                f"{value:.2f}",
                hue=theme.hues[row],
                strength=0.65 - 0.6 * value,
                **style,
            )
    canvas.text(left - 0.25, top - 0.3, "prediction", ha="right", color=theme.muted, size=8.5)
    canvas.arrow((left + 2.5, top + 3.25), (left + 2.5, top + 4.1))
    canvas.title(left - 3.7, top + 4.6, "target_index", "(P,): -1 is background")
    for column, target in enumerate(index):
        hue = theme.hues[target] if target >= 0 else None
        canvas.cell(
            left + column, top + 4.3, str(target), hue=hue, strength=0.3 if target >= 0 else 0.1
        )
    return canvas


def panel(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    truth: Sequence[Sequence[float]],
    found: Sequence[Sequence[float]],
    index: Sequence[int],
    ignored: Sequence[int] = (),
) -> None:
    """The boxes of an image; matched predictions have the colour of their target."""
    theme, scale = canvas.theme, size / SIDE
    canvas.box(x, y, size, size, gap=0, radius=0.1, zorder=0)

    def place(box: Sequence[float]) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = box
        return x + scale * x1, y + scale * y1, scale * (x2 - x1), scale * (y2 - y1)

    for number, box in enumerate(truth):
        hue = theme.muted if number in ignored else theme.hues[number]
        shape: dict[str, Any] = {"hatch": "xxx"} if number in ignored else {}
        canvas.box(
            *place(box),
            edge=hue,
            fill=theme.tint(hue, 0.18),
            gap=0,
            radius=0.05,
            linewidth=1.4,
            alpha=0.9,
            **shape,
        )
        left, top, width, height = place(box)
        if number not in ignored:
            tag = {"boxstyle": "square,pad=0.22", "facecolor": hue, "edgecolor": "none"}
            at = left + width - 0.22, top + height - 0.22
            canvas.text(
                *at, str(number), color=theme.paper, weight="bold", size=8, zorder=5, bbox=tag
            )
    for number, box in enumerate(found):
        target = index[number]
        hue = theme.hues[target] if target >= 0 else theme.muted
        canvas.box(
            *place(box),
            edge=hue,
            fill="none",
            gap=0,
            radius=0.05,
            linewidth=1.3,
            linestyle=(0, (4, 2.4)),
            zorder=4,
        )
        left, top, *_ = place(box)
        style: dict[str, Any] = {
            "boxstyle": "round,pad=0.18",
            "facecolor": theme.paper,
            "edgecolor": hue,
            "linewidth": 0.8,
        }
        canvas.text(left + 0.05, top + 0.02, str(number), size=7.5, zorder=6, bbox=style)


def kinds(theme: Theme) -> Canvas:
    """One prediction for each target, several, and parts of predictions."""
    predictions, targets = scene()
    corners = predictions["pred_boxes"][0]
    found = (
        ("Hungarian", "one for each target", Hungarian(box_cost)(predictions, targets).plan()),
        (
            "MaxIoU",
            "several for a target",
            MaxIoU(pos_iou_thr=0.25, neg_iou_thr=0.2)(None, targets, corners).plan(),
        ),
        (
            "BalancedSinkhorn",
            "parts of predictions",
            BalancedSinkhorn(box_cost)(predictions, targets),
        ),
    )
    canvas = Canvas.of(theme, 20.4, 6.4)
    for number, (name, note, plan) in enumerate(found):
        x = 2.45 + 6.1 * number
        canvas.title(x, 0.4, name, note)
        weights = plan.weights.tensor[0].T.tolist()
        for row, values in enumerate([*weights, plan.background[0].tolist()]):
            y, hue = (
                1.5 + row + (0.25 if row == 3 else 0),
                theme.hues[row] if row < 3 else theme.muted,
            )
            if not number:
                canvas.text(
                    2.3,
                    y + 0.5,
                    f"target {row}" if row < 3 else "background",
                    ha="right",
                    color=hue,
                    size=8,
                )
            for column, value in enumerate(values):
                canvas.box(x + column, y, 1, 1, edge=theme.line, fill="none", linewidth=0.6)
                side = 0.78 * min(value, 1) ** 0.5
                if side > 0.05:
                    gap = (1 - side) / 2
                    at = x + column + gap, y + gap, side, side
                    canvas.box(
                        *at,
                        edge=hue,
                        fill=theme.tint(hue, 0.75),
                        gap=0,
                        radius=0.02,
                        linewidth=0.5,
                    )
        for column in range(len(FOUND)):
            canvas.text(x + column + 0.5, 6.05, str(column), color=theme.muted, size=7.5)
    canvas.text(2.3, 6.05, "prediction", ha="right", color=theme.muted, size=8)
    return canvas


def ignoring(theme: Theme) -> Canvas:
    """A crowd: what lies in it and has no target does not count."""
    truth = ((8, 30, 40, 66), (50, 12, 96, 56))
    found = ((10, 26, 42, 62), (56, 16, 74, 42), (78, 24, 94, 52), (46, 66, 76, 92))
    boxes = torch.tensor([found], dtype=torch.float32)
    targets = Targets.of(
        [
            {
                "boxes": torch.tensor(truth).float(),
                "labels": torch.tensor([0, 0]),
                "ignore": torch.tensor([False, True]),
            }
        ]
    )
    index = (
        Hungarian(box_cost)({"pred_boxes": boxes, "pred_logits": torch.zeros(1, 4, 1)}, targets)
        .target_index[0]
        .tolist()
    )
    canvas = Canvas.of(theme, 17.2, 5.6)
    panel(canvas, 0.1, 0.2, 5.2, truth, found, index, ignored=[1])
    words = {
        0: "target 0: positive",
        -1: "background: negative",
        -2: "in the ignored region: does not count",
    }
    canvas.code(6.6, 0.7, "target_index", ha="left", weight="bold")
    for row, value in enumerate(index):
        y = 1.25 + row
        canvas.text(6.6, y + 0.5, f"prediction {row}", ha="left", color=theme.muted, size=9)
        hue = theme.hues[value] if value >= 0 else None
        canvas.cell(9.2, y, str(value), hue=hue, strength=0.3 if value >= 0 else 0.1)
        canvas.text(10.5, y + 0.5, words[value], ha="left", size=9)
    return canvas
