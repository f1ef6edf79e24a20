"""The walk-through's batched loss against a plain loop over samples, targets and predictions."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from example import walkthrough
from example.walkthrough import walkthrough_loss
from matchers import iou


def reference_sample_loss(boxes_gt, labels_gt, weights_gt, boxes, probabilities, existence) -> torch.Tensor:
    n, num_predictions = len(boxes_gt), len(boxes)
    costs = torch.zeros(n, num_predictions)
    for g in range(n):
        for p in range(num_predictions):
            costs[g, p] = 2 - iou(boxes_gt[g], boxes[p]).item() - probabilities[p, labels_gt[g]].item()
    pairs = list(zip(*linear_sum_assignment(costs.numpy()), strict=True))
    loss, matched_weights = torch.zeros(()), {}
    for g, p in pairs:
        overlap, wanted = iou(boxes_gt[g], boxes[p]), torch.zeros(probabilities.shape[-1])
        wanted[labels_gt[g]] = 1.0
        loss = loss + weights_gt[g] * ((probabilities[p] - wanted).abs().sum() + 1 - overlap)
        matched_weights[int(p)] = weights_gt[g] * overlap
    others = num_predictions - len(pairs)
    mean = sum(matched_weights.values()) / len(pairs) if pairs else torch.zeros(())
    for p in range(num_predictions):
        if p in matched_weights:
            loss = loss + matched_weights[p] * (1 - existence[p]).abs()
        else:
            loss = loss + mean * len(pairs) / others * existence[p].abs()
    return loss


def inputs(make_case, sizes, num_predictions):
    predictions, _, samples = make_case(sizes, num_predictions=num_predictions)
    generator = torch.Generator().manual_seed(5)
    weights = [0.2 + torch.rand(size, generator=generator) for size in sizes]
    existence = torch.rand(len(sizes), num_predictions, generator=generator).requires_grad_()
    truth = [sample["boxes"] for sample in samples], [sample["labels"] for sample in samples], weights
    return truth, (predictions.boxes, predictions.logits.softmax(dim=-1), existence)


@pytest.mark.parametrize(
    ("sizes", "num_predictions"),
    [((2, 0, 3), 7), ((1,), 4), ((0, 0), 4), ((4, 2), 4), ((6, 0, 1), 4)],
    ids=["one empty", "single", "all empty", "all matched", "more targets than predictions"],
)
def test_matches_the_loop(make_case, sizes, num_predictions):
    truth, predicted = inputs(make_case, sizes, num_predictions)
    losses = walkthrough_loss(*truth, *predicted)
    samples = zip(*truth, *predicted, strict=True)
    expected = torch.stack([reference_sample_loss(*sample) for sample in samples])
    assert losses.shape == (len(sizes),)
    torch.testing.assert_close(losses, expected)
    found = torch.autograd.grad(losses.sum(), predicted)
    # With no target at all the loop never touches the predictions; the batched loss does, with a gradient of zero.
    wanted = torch.autograd.grad(expected.sum(), predicted, materialize_grads=True)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_main_prints_a_loss_per_sample(capsys):
    walkthrough.main()
    printed = capsys.readouterr().out
    assert "0 targets: loss 0.0000" in printed and "sum over the batch" in printed and "nan" not in printed
