"""From lists of ground truth to a loss per sample, in three steps; ``python -m example.walkthrough`` shows one.

1. Lists with one tensor per sample become ragged batches that share their sizes.
2. Every sample's targets are matched one-to-one to predictions, at the smallest sum of (1 - IoU) and (1 - probability
   of the target's class).
3. Three terms are summed for each sample. With the pairs (g, p), the weights w and the other predictions q:

   - classification: sum of w_g |onehot(label_g) - probabilities_p|, over pairs and classes;
   - overlap: sum of w_g (1 - IoU(g, p)), over pairs;
   - existence: sum of w_g IoU(g, p) |1 - existence_p| over pairs, plus the sum of v |existence_q| over the rest. With
     n pairs among P predictions, v is the mean of w_g IoU(g, p) times n / (P - n), so that both groups weigh the same.

Filler takes part in the elementwise arithmetic, as a valid class and a finite box, and is left out by the reductions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

import ragged
from matchers import Assignment, batched_linear_sum_assignment, gather_labels, iou, iou_cost
from ragged import RaggedBatch


def match(
    boxes_gt: RaggedBatch, labels_gt: RaggedBatch, boxes: Tensor, probabilities: Tensor
) -> tuple[RaggedBatch, RaggedBatch]:
    """Match targets to predictions.

    Args:
        boxes_gt: Target boxes (B, G, 4), xyxy.
        labels_gt: Target classes (B, G), int64.
        boxes: Predicted boxes (B, P, 4), xyxy, in the same unit.
        probabilities: Predicted class probabilities (B, P, C).

    Returns:
        ``(matched_gt_indices, matched_pred_indices)``, each ragged, (B, M), int64: entry k of one belongs to entry k of
        the other.
    """
    costs = iou_cost(boxes_gt, boxes) + (1 - gather_labels(probabilities, labels_gt))
    target_index = batched_linear_sum_assignment(costs, boxes_gt.sample_sizes)
    return Assignment.from_index(target_index, num_targets=boxes_gt.sample_sizes).pairs()


def classification_loss(labels: RaggedBatch, probabilities: RaggedBatch, weights: RaggedBatch) -> Tensor:
    """Return the weighted L1 distance (B,) of matched probabilities (B, M, C) from the one-hot labels (B, M)."""
    one_hot = labels.apply(lambda label: F.one_hot(label, probabilities.tensor.shape[-1]))
    distance = abs(probabilities - one_hot).apply(lambda difference: difference.sum(dim=-1))
    return ragged.sum_over_targets(distance * weights)


def existence_weights(matched: RaggedBatch, pred_indices: RaggedBatch, num_predictions: int) -> Tensor:
    """Weigh all predictions: the matched ones as given, the others so that both groups have the same sum.

    Args:
        matched: Weights of the matched predictions, (B, M).
        pred_indices: Which predictions these are, (B, M).
        num_predictions: Number of predictions P in every sample.

    Returns:
        Weights, (B, P); 0 for all predictions of a sample without targets.
    """
    num_matched = matched.sample_sizes
    num_others = num_predictions - num_matched
    # Where every prediction is matched there is nobody to carry this weight: 0, and no division by 0 on the way.
    imbalance = torch.where(num_others > 0, num_matched / num_others.clamp(min=1), 0.0)
    unmatched = ragged.average_over_targets(matched) * imbalance.to(matched.dtype)
    everyone = unmatched.unsqueeze(-1).expand(-1, num_predictions)
    return ragged.batched_indexing_write(matched, pred_indices, everyone)


def walkthrough_loss(
    boxes_gt: Sequence[Tensor],
    labels_gt: Sequence[Tensor],
    weights_gt: Sequence[Tensor],
    boxes: Tensor,
    probabilities: Tensor,
    existence: Tensor,
) -> Tensor:
    """Return the loss of every sample, shape (B,); the module's docstring has the formula.

    Args:
        boxes_gt: For each sample, target boxes (n, 4), xyxy.
        labels_gt: For each sample, target classes (n,), int64.
        weights_gt: For each sample, target weights (n,).
        boxes: Predicted boxes (B, P, 4), xyxy, in the same unit.
        probabilities: Predicted class probabilities (B, P, C).
        existence: Predicted probability that there is an object, (B, P).

    Returns:
        The losses, differentiable in the three predictions.
    """
    # Step 1: pad once. The three describe the same objects, so sizes and mask are made only once.
    targets = ragged.combine_data(boxes_gt)
    labels = ragged.combine_data(labels_gt, other_with_same_sample_sizes=targets)
    weights = ragged.combine_data(weights_gt, other_with_same_sample_sizes=targets)

    # Step 2: which prediction answers for which target.
    with torch.no_grad():
        gt_indices, pred_indices = match(targets, labels, boxes, probabilities)

    # Step 3: line up the two sides of every pair; from here on entry k of one belongs to entry k of the other.
    boxes_of_gt = ragged.batched_indexing_access(targets, gt_indices)
    labels_of_gt = ragged.batched_indexing_access(labels, gt_indices, filler_value=0)
    weights_of_gt = ragged.batched_indexing_access(weights, gt_indices)
    boxes_of_pred = ragged.batched_indexing_access(boxes, pred_indices)
    probabilities_of_pred = ragged.batched_indexing_access(probabilities, pred_indices)

    overlap = iou(boxes_of_gt, boxes_of_pred)
    overlap_loss = ragged.sum_over_targets((1 - overlap) * weights_of_gt)

    exists = ragged.get_mask_from_indices(existence.shape[1], pred_indices).to(existence.dtype)
    importance = existence_weights(overlap * weights_of_gt, pred_indices, existence.shape[1])
    existence_loss = (importance * (existence - exists).abs()).sum(dim=1)

    return classification_loss(labels_of_gt, probabilities_of_pred, weights_of_gt) + overlap_loss + existence_loss


def main() -> None:
    """Print the losses of three made-up samples with two, no and three targets."""
    generator = torch.Generator().manual_seed(0)
    sizes, num_predictions, num_classes = (2, 0, 3), 6, 4
    corners = torch.rand(3, num_predictions, 2, generator=generator) * 60
    sides = 10 + torch.rand(3, num_predictions, 2, generator=generator) * 30
    boxes = torch.cat([corners, corners + sides], dim=-1)
    probabilities = torch.rand(3, num_predictions, num_classes, generator=generator).softmax(dim=-1)
    existence = torch.rand(3, num_predictions, generator=generator)
    # The targets are the first predictions, moved a little.
    boxes_gt = [box[:n] + 4 * torch.rand(n, 4, generator=generator) for box, n in zip(boxes, sizes, strict=True)]
    labels_gt = [torch.randint(num_classes, (n,), generator=generator) for n in sizes]
    weights_gt = [0.5 + torch.rand(n, generator=generator) for n in sizes]

    losses = walkthrough_loss(boxes_gt, labels_gt, weights_gt, boxes, probabilities, existence)
    for size, loss in zip(sizes, losses.tolist(), strict=True):
        print(f"{size} targets: loss {loss:.4f}")
    print(f"sum over the batch: {losses.sum():.4f}")


if __name__ == "__main__":
    main()
