"""Sets of points: one cloud at a time."""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment


def point_set_loss(model, clouds, points):
    count = max(sum(len(own) for camera in points for own in camera), 1)
    num_clouds = sum(len(camera) for camera in clouds)
    total = dict.fromkeys(("loss_points", "loss_exists", "loss_pool", "loss_chamfer"), 0)
    for cloud, gt in (
        (cloud, gt) for pair in zip(clouds, points, strict=True) for cloud, gt in zip(*pair, strict=True)
    ):
        features = model.point(cloud)
        weights = model.score(features).squeeze(-1).softmax(0)
        pooled, peak = (features * weights[:, None]).sum(0), features.new_zeros(features.shape[1])
        if len(cloud):
            peak = features[weights.topk(min(4, len(cloud))).indices].amax(0)
        described = model.describe(torch.cat([pooled, peak]))
        total["loss_pool"] += described.square().sum() / (described.numel() * num_clouds)
        memory = features[None] if len(cloud) else features.new_zeros(1, 1, features.shape[1])
        out = model.out(model.decoder(model.queries[None], memory))[0]
        found, exists = out[:, :2], out[:, 2]
        with torch.no_grad():
            cost = torch.cdist(found, gt, p=1) - exists.sigmoid()[:, None]
            rows, columns = linear_sum_assignment(cost.numpy())
        label = torch.zeros_like(exists)
        label[rows] = 1
        total["loss_points"] += 5 * (found[rows] - gt[columns]).abs().sum() / count
        total["loss_exists"] += F.binary_cross_entropy_with_logits(exists, label, reduction="sum") / count
        if len(gt):
            distance = torch.cdist(found, gt)
            total["loss_chamfer"] += (distance.amin(1).mean() + distance.amin(0).mean()) / num_clouds
    return total
