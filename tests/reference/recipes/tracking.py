"""Tracking by queries: one image of one frame at a time."""

import torch
from reference.recipes.boxes3d import focal_loss
from scipy.optimize import linear_sum_assignment


def clip_loss(decoder, detect, memory, clip):
    num_images, free = memory.shape[1], len(detect)
    tracks, ids = [detect[:0]] * num_images, [torch.zeros(0, dtype=torch.int64)] * num_images
    classes = distance = count = 0
    for seen, frame in zip(memory, clip, strict=True):
        count += sum(len(image["ids"]) for image in frame)
        for i, image in enumerate(frame):
            outputs = decoder(torch.cat([detect, tracks[i]])[None], seen[i : i + 1], None)
            logits, boxes, hidden = (outputs[name][0] for name in ("logits", "boxes", "hidden"))
            rows, columns = [], []
            for track, own in enumerate(ids[i].tolist()):
                if (image["ids"] == own).any():
                    rows.append(free + track)
                    columns.append(int((image["ids"] == own).nonzero()[0]))
            new = [target for target in range(len(image["ids"])) if target not in columns]
            with torch.no_grad():
                p = logits[:free].sigmoid()
                cost = 0.25 * (1 - p) ** 2 * -(p + 1e-12).log() - 0.75 * p**2 * -(1 - p + 1e-12).log()
                cost = 2 * cost[:, image["labels"][new]] + 5 * torch.cdist(boxes[:free], image["boxes"][new], p=1)
                found, target = linear_sum_assignment(cost.numpy())
            rows = torch.tensor([*rows, *found], dtype=torch.int64)
            columns = torch.tensor([*columns, *(new[each] for each in target)], dtype=torch.int64)
            onehot = torch.zeros_like(logits)
            onehot[rows, image["labels"][columns]] = 1
            classes = classes + focal_loss(logits, onehot).sum()
            distance = distance + (boxes[rows] - image["boxes"][columns]).abs().sum()
            tracks[i], ids[i] = hidden[rows], image["ids"][columns]
    return {"loss_cls": 2 * classes / max(count, 1), "loss_bbox": 5 * distance / max(count, 1)}
