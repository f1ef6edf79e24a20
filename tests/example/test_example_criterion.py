"""The batched criterion against a plain loop over images, and what must hold without any target."""

from __future__ import annotations

import pytest
import torch

import ragged
from example.criterion import DetectionCriterion
from example.data import Task
from example.detectors import make_detector
from matchers import Hungarian, Predictions, Targets, giou

CRITERION = DetectionCriterion(matcher=Hungarian(), image_size=96.0)


def reference_terms(predictions, samples, pairs) -> dict[str, torch.Tensor]:
    """Return the three terms, image by image and pair by pair."""
    count = max(1, sum(len(gt) for gt in pairs[0].split()))
    terms = dict.fromkeys(("class", "l1", "giou"), torch.zeros(()))
    for index, (sample, gt, pred) in enumerate(zip(samples, pairs[0].split(), pairs[1].split(), strict=True)):
        logits, boxes = predictions.logits[index], predictions.boxes[index]
        wanted = torch.zeros_like(logits)
        for g, p in zip(gt.tolist(), pred.tolist(), strict=True):
            wanted[p, sample["labels"][g]] = 1.0
            terms["l1"] = terms["l1"] + 5 * (boxes[p] - sample["boxes"][g]).abs().sum() / 96.0 / count
            terms["giou"] = terms["giou"] + 2 * (1 - giou(boxes[p], sample["boxes"][g])) / count
        probability = logits.sigmoid()
        positive = -0.25 * (1 - probability) ** 2 * probability.log()
        negative = -0.75 * probability**2 * (1 - probability).log()
        terms["class"] = terms["class"] + 2 * torch.where(wanted == 1, positive, negative).sum() / count
    return terms


def gradients(terms, predictions) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(
        torch.stack(list(terms.values())).sum(), [predictions.logits, predictions.boxes], retain_graph=True
    )


@pytest.mark.parametrize("sizes", [(2, 0, 3), (1,), (4, 4), (12, 2, 0)])
def test_terms_and_gradients_match_the_loop(make_case, sizes):
    predictions, targets, samples = make_case(sizes)
    pairs = CRITERION.matcher(predictions, targets).pairs()
    found, expected = CRITERION(predictions, targets), reference_terms(predictions, samples, pairs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    for one, other in zip(gradients(found, predictions), gradients(expected, predictions), strict=True):
        torch.testing.assert_close(one, other)


def test_filler_changes_neither_loss_nor_gradient(make_case, poison):
    predictions, targets, _ = make_case((2, 0, 5))
    clean, dirty = CRITERION(predictions, targets), CRITERION(predictions, poison(targets))
    for name, value in clean.items():
        assert torch.equal(dirty[name], value), name
    for one, other in zip(gradients(clean, predictions), gradients(dirty, predictions), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("padded_size", [0, 3])
def test_without_targets_every_parameter_has_a_finite_gradient(padded_size, poison):
    torch.manual_seed(0)
    detector = make_detector("own", Task(tuple("abcde"), 32, channels=1))
    none = torch.zeros(2, dtype=torch.int64)
    targets = Targets(
        ragged.RaggedBatch(torch.zeros(2, padded_size, 4), sample_sizes=none),
        ragged.RaggedBatch(torch.zeros(2, padded_size, dtype=torch.int64), sample_sizes=none),
        canvas_size=torch.tensor([32.0, 32.0]),
    )
    output = detector.model(torch.randn(2, 1, 32, 32))
    terms = detector.losses(output, poison(targets), detector.make_criterion("mean"))
    assert terms["l1"] == 0 and terms["giou"] == 0 and terms["class"] > 0
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in detector.model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert all((parameter.grad == 0).all() for parameter in detector.model.towers["boxes"].parameters())


def test_each_image_has_the_loss_that_it_would_have_alone(make_case):
    predictions, targets, samples = make_case((2, 0, 3))
    by_image = DetectionCriterion(matcher=Hungarian(), image_size=96.0, reduction="sample")(predictions, targets)
    for index, sample in enumerate(samples):
        own = Predictions(predictions.logits[index : index + 1], predictions.boxes[index : index + 1])
        alone = CRITERION(own, Targets.of([sample], canvas_size=(96, 96)))
        for name, value in alone.items():
            torch.testing.assert_close(by_image[name][index], value, msg=f"{name} of image {index}")
    with pytest.raises(ValueError, match="must be 'mean' or 'sample', got 'sum'"):
        DetectionCriterion(matcher=Hungarian(), image_size=96.0, reduction="sum")
