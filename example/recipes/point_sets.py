"""Sets of points: attention over clouds that differ in size, a set loss of found points, Chamfer distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from losses import AssignedTargets, Criterion, binary_cross_entropy, l1_loss
from losses.core.terms import Term
from matchers import Assignment, Hungarian, Predictions, Targets, batched_cost
from ragged import (
    RaggedBatch,
    average_over_targets,
    batched_indexing_access,
    combine_data,
    key_padding_mask,
    max_over_targets,
    min_over_targets,
    softmax_over_targets,
    sum_over_targets,
    topk_over_targets,
)


class PointDecoder(nn.Module):
    """K points of each cloud of points (x, y, feature), with a logit of their existence; and a description of it."""

    def __init__(self, width: int = 24, num_points: int = 8) -> None:
        super().__init__()
        self.point = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, width))
        self.score, self.queries = nn.Linear(width, 1), nn.Parameter(torch.randn(num_points, width))
        self.decoder = nn.TransformerDecoderLayer(width, 4, 2 * width, 0.0, batch_first=True)
        self.out, self.describe = nn.Linear(width, 3), nn.Linear(2 * width, 3)

    def forward(self, clouds: RaggedBatch) -> tuple[Tensor, Tensor]:
        """Points and logits (N, K, 3), and descriptions (N, 3)."""
        # Attention needs a slot at least, also if no cloud has a point.
        features = self.point(clouds.with_max_sample_size(max(clouds.max_sample_size, 1)))
        weights = softmax_over_targets(self.score(features))
        pooled = [
            sum_over_targets(features * weights),
            max_over_targets(batched_indexing_access(features, topk_over_targets(weights[..., 0], 4)[1]), empty=0),
        ]
        hidden = self.decoder(
            self.queries.expand(*features.batch_shape, -1, -1),
            features.with_padded_set_to(0).tensor,
            memory_key_padding_mask=key_padding_mask(features),
        )
        return self.out(hidden), self.describe(torch.cat(pooled, -1))


def cost(gt: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> Tensor:
    """L1 distance, less for points that exist: (n, G, P)."""
    return torch.cdist(gt["points"], predicted["points"], p=1) - predicted["logits"].sigmoid().mT


class SetCriterion(Criterion):
    """L1 of matched points, and binary cross entropy of the existence of all."""

    CLASSES_OF_PREDICTIONS = True  # there are no classes of targets

    def match(self, predictions: Predictions, targets: Targets) -> Assignment:
        """One predicted point for each target."""
        return self.call_matcher(predictions, targets)

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        """Both divided by the number of matched points."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        distance = l1_loss(rows.of_predictions(predictions.fields["points"]), assigned.fields["points"])
        return {
            "loss_points": Term(assigned.counted_rows(distance.sum(-1)), count, rows, weight=5.0),
            "loss_exists": Term(
                assigned.counted(binary_cross_entropy(predictions.logits, assigned.labels).sum(-1)), count
            ),
        }


criterion = SetCriterion(None, matcher=Hungarian(batched_cost(cost)))


def chamfer_distance(found: Tensor, points: RaggedBatch) -> Tensor:
    """Mean distance to the nearest point of the other set, both ways: (N,) of (N, K, 2) and ragged (N, G, 2)."""
    distance = points.with_padded_set_to(0).apply(lambda own: torch.cdist(own, found))
    return average_over_targets(distance.apply(lambda own: own.amin(-1))) + min_over_targets(distance, empty=0).mean(-1)


def point_set_loss(
    model: PointDecoder, clouds: Sequence[Sequence[Tensor]], points: Sequence[Sequence[Tensor]]
) -> dict[str, Tensor]:
    """The terms of clouds (M, 3) and points (n, 2) for each camera and time, as nested lists."""
    found, described = model(combine_data(clouds))
    targets = Targets(fields={"points": combine_data(points)})
    return {
        **criterion(Predictions(found[..., 2:], fields={"points": found[..., :2]}), targets),
        "loss_pool": described.square().mean(),
        "loss_chamfer": chamfer_distance(found[..., :2], targets.fields["points"]).mean(),
    }
