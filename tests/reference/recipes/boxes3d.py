"""3D detection: one layer and one sample at a time."""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

CODE_WEIGHTS = torch.tensor([2.0, 2, 1, 1, 1, 1, 1, 1, 0.2, 0.2])
NUM_GROUPS = 3


def encode(boxes):
    size, yaw = boxes[:, 3:6].log(), boxes[:, 6:7]
    return torch.cat([boxes[:, :2], size[:, :2], boxes[:, 2:3], size[:, 2:], yaw.sin(), yaw.cos(), boxes[:, 7:]], -1)


def focal_loss(x, t, alpha=0.25, gamma=2.0):
    p = x.sigmoid()
    bce = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    return (alpha * t + (1 - alpha) * (1 - t)) * (1 - (p * t + (1 - p) * (1 - t))) ** gamma * bce


@torch.no_grad()
def match(logits, boxes, image):
    p = logits.sigmoid()
    positive = -(p + 1e-12).log() * 0.25 * (1 - p) ** 2
    negative = -(1 - p + 1e-12).log() * 0.75 * p**2
    distance = torch.cdist(boxes[:, :8], image["boxes3d"][:, :8], p=1)
    cost = 2 * (positive - negative)[:, image["labels"]] + 0.25 * distance
    rows, columns = linear_sum_assignment(cost.numpy())
    return torch.as_tensor(rows), torch.as_tensor(columns)


def layer_loss(logits, boxes, truth, pairs, count):
    classes = distance = 0
    for i, image in enumerate(truth):
        rows, columns = pairs(logits[i], boxes[i], image)
        onehot = torch.zeros_like(logits[i])
        onehot[rows, image["labels"][columns]] = 1
        classes = classes + focal_loss(logits[i], onehot).sum()
        wanted = image["boxes3d"][columns]
        known = wanted.isfinite().all(-1)
        distance = distance + ((boxes[i][rows][known] - wanted[known]).abs() * CODE_WEIGHTS).sum()
    return {"loss_cls": 2 * classes / count, "loss_bbox": 0.25 * distance / count}


def boxes3d_loss(outputs, denoising_outputs, truth):
    total = {}
    truth = [{**image, "boxes3d": encode(image["boxes3d"])} for image in truth]
    num_targets = [len(image["labels"]) for image in truth]
    slots = max(num_targets)

    def made_from(logits, boxes, image):
        own = torch.arange(len(image["labels"]))
        return torch.cat([2 * group * slots + own for group in range(NUM_GROUPS)]), own.repeat(NUM_GROUPS)

    for suffix, given, pairs, groups in (("", outputs, match, 1), ("_dn", denoising_outputs, made_from, NUM_GROUPS)):
        for logits, boxes in zip(given["pred_logits"], given["boxes3d"], strict=True):
            losses = layer_loss(logits, boxes, truth, pairs, max(sum(num_targets) * groups, 1))
            for name, value in losses.items():
                total[name + suffix] = total.get(name + suffix, 0) + value
    return total


def denoising_queries(truth, noise=0.2):
    slots = max(len(image["labels"]) for image in truth)
    boxes = torch.zeros(len(truth), 2 * NUM_GROUPS * slots, 10)
    labels = torch.zeros(len(truth), 2 * NUM_GROUPS * slots, dtype=torch.int64)
    for i, image in enumerate(truth):
        for half in range(2 * NUM_GROUPS):
            own = slice(half * slots, half * slots + len(image["labels"]))
            boxes[i, own] = encode(image["boxes3d"]).nan_to_num()
            labels[i, own] = image["labels"]
    scale = torch.tensor([noise, 5 * noise]).repeat_interleave(slots).repeat(NUM_GROUPS)
    return boxes + torch.randn_like(boxes) * scale.unsqueeze(-1), labels


def attention_mask(truth, num_queries):
    slots = max(len(image["labels"]) for image in truth)
    denoising = 2 * NUM_GROUPS * slots
    hidden = torch.zeros(len(truth), denoising + num_queries, denoising + num_queries, dtype=torch.bool)
    hidden[:, :, :denoising] = True
    for i, image in enumerate(truth):
        for group in range(NUM_GROUPS):
            for half in (2 * group, 2 * group + 1):
                seen = slice(half * slots, half * slots + len(image["labels"]))
                hidden[i, 2 * group * slots : 2 * (group + 1) * slots, seen] = False
    hidden.diagonal(dim1=1, dim2=2)[:] = False
    return hidden
