"""Tags and text: one image at a time."""

import torch
import torch.nn.functional as F
from reference.recipes.boxes3d import focal_loss
from reference.recipes.keypoints import giou
from scipy.optimize import linear_sum_assignment


def focal_cost(x):
    p = x.sigmoid()
    return 0.25 * (1 - p) ** 2 * -(p + 1e-12).log() - 0.75 * p**2 * -(1 - p + 1e-12).log()


def tag_loss(outputs, truth):
    count = max(sum(len(image["boxes"]) for image in truth), 1)
    sums = dict.fromkeys(("loss_tokens", "loss_tags", "loss_bbox", "loss_giou"), 0)
    for i, image in enumerate(truth):
        logits, tags = outputs["pred_logits"][i, :, : image["tokens"]], outputs["tags"][i]
        boxes, gt = outputs["pred_boxes"][i], image["boxes"]
        maps = torch.zeros(len(gt), image["tokens"])
        for row, spans in zip(maps, image["spans"], strict=True):
            for start, end in spans:
                row[start:end] = 1
        with torch.no_grad():
            cost = 2 * focal_cost(logits) @ (maps / maps.sum(-1, keepdim=True).clamp(min=1)).T
            shares = image["tags"] / image["tags"].sum(-1, keepdim=True).clamp(min=1)
            cost = cost + focal_cost(tags) @ shares.T + 5 * torch.cdist(boxes, gt, p=1)
            cost = cost + 2 * (1 - giou(boxes[:, None], gt[None]))
            rows, columns = map(torch.as_tensor, linear_sum_assignment(cost.numpy()))
        target = torch.zeros_like(logits)
        target[rows] = maps[columns]
        sums["loss_tokens"] += focal_loss(logits, target).sum()
        sums["loss_tags"] += F.binary_cross_entropy_with_logits(tags[rows], image["tags"][columns], reduction="sum")
        sums["loss_bbox"] += 5 * (boxes[rows] - gt[columns]).abs().sum()
        sums["loss_giou"] += 2 * (1 - giou(boxes[rows], gt[columns])).sum()
    return {name: value / count for name, value in sums.items()}
