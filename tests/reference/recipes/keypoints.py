"""Keypoints: one image at a time."""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

SIGMAS = torch.tensor([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


def similarity(found, gt, area):
    squared = (found - gt[..., :2]).square().sum(-1)
    each = (-squared / (2 * area[..., None] * (2 * SIGMAS) ** 2 + 1e-9)).exp()
    seen = gt[..., 2] > 0
    return (each * seen).sum(-1) / seen.sum(-1).clamp(min=1)


def corners(boxes):
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def giou(one, other):
    one, other = corners(one), corners(other)
    overlap = torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])
    overlap = overlap.clamp(min=0).prod(-1)
    union = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - overlap
    hull = (torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])).prod(-1)
    return overlap / union - (hull - union) / hull


@torch.no_grad()
def match(logits, boxes, keypoints, image):
    p = logits.sigmoid()
    classes = 0.25 * (1 - p) ** 2 * -(p + 1e-12).log() - 0.75 * p**2 * -(1 - p + 1e-12).log()
    gt, seen = image["keypoints"], (image["keypoints"][..., 2] > 0).float()
    distance = ((keypoints[:, None] - gt[None, ..., :2]).abs().sum(-1) * seen).sum(-1) / seen.sum(-1).clamp(min=1)
    cost = 2 * classes[:, image["labels"]] + 5 * torch.cdist(boxes, image["boxes"], p=1) + 4 * distance
    cost = cost - 2 * giou(boxes[:, None], image["boxes"][None])
    cost = cost - 10 * similarity(keypoints[:, None], gt[None], image["area"][None])
    return map(torch.as_tensor, linear_sum_assignment(cost.numpy()))


def keypoint_loss(outputs, truth):
    count = max(sum(len(image["labels"]) for image in truth), 1)
    sums = dict.fromkeys(("loss_vfl", "loss_oks", "loss_keypoints", "loss_bbox", "loss_giou"), 0)
    for i, image in enumerate(truth):
        logits, boxes, keypoints = outputs["pred_logits"][i], outputs["pred_boxes"][i], outputs["keypoints"][i]
        rows, columns = match(logits, boxes, keypoints, image)
        found, gt = keypoints[rows], image["keypoints"][columns]
        oks, seen = similarity(found, gt, image["area"][columns]), (gt[..., 2] > 0).float()
        label, target = torch.zeros_like(logits), torch.zeros_like(logits)
        label[rows, image["labels"][columns]] = 1
        target[rows, image["labels"][columns]] = oks.detach()
        weight = 0.75 * logits.sigmoid().detach() ** 2 * (1 - label) + target
        sums["loss_vfl"] += F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
        sums["loss_oks"] += 4 * (1 - oks).sum()
        distance = ((found - gt[..., :2]).abs().sum(-1) * seen).sum(-1) / seen.sum(-1).clamp(min=1)
        sums["loss_keypoints"] += 10 * distance.sum()
        sums["loss_bbox"] += 5 * (boxes[rows] - image["boxes"][columns]).abs().sum()
        sums["loss_giou"] += 2 * (1 - giou(boxes[rows], image["boxes"][columns])).sum()
    return {name: value / count for name, value in sums.items()}
