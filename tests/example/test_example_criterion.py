"""The batched criterion against a plain loop over images, and what must hold without any target."""

from __future__ import annotations

import pytest
import torch

import ragged
from example.criterion import DetectionCriterion
from example.model import GridDetector
from matchers import Hungarian, Targets, giou

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
    model = GridDetector(num_classes=5, width=4)
    none = torch.zeros(2, dtype=torch.int64)
    targets = Targets(
        ragged.RaggedBatch(torch.zeros(2, padded_size, 4), sample_sizes=none),
        ragged.RaggedBatch(torch.zeros(2, padded_size, dtype=torch.int64), sample_sizes=none),
        canvas_size=torch.tensor([32.0, 32.0]),
    )
    terms = CRITERION(model(torch.randn(2, 1, 32, 32)), poison(targets))
    assert terms["l1"] == 0 and terms["giou"] == 0 and terms["class"] > 0
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert all((parameter.grad == 0).all() for parameter in model.box_head.parameters())


def test_model_has_one_prediction_per_cell_centred_on_its_cell():
    model = GridDetector(num_classes=5, width=4).eval()
    torch.nn.init.zeros_(model.box_head[-1].weight)
    torch.nn.init.zeros_(model.box_head[-1].bias)
    predictions = model(torch.randn(2, 1, 16, 24))
    boxes = predictions.boxes
    assert predictions.logits.shape == (2, 6, 5) and boxes.shape == (2, 6, 4)
    centres = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2
    assert centres.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (1, 16, 16), (1, 1, 16, 20)])
def test_model_refuses_other_images(shape):
    with pytest.raises(ValueError, match="expected images of shape"):
        GridDetector(num_classes=5, width=4)(torch.zeros(shape))
