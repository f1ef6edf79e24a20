"""Every matcher of the example gives digits to cells, and the criterion learns from them."""

from __future__ import annotations

import pytest
import torch

from example.criterion import DetectionCriterion
from example.data import make_loader, to_targets
from example.detectors import make_detector
from example.digits import DIGITS, IMAGE_SIZE, DigitScenes
from example.matching import MATCHERS, make_matcher
from matchers import Assignment, Targets


@pytest.fixture(scope="module")
def batch():
    images, targets = next(iter(make_loader(DigitScenes(6, split="val", seed=3), batch_size=6)))
    return images, to_targets(targets, DIGITS)


@pytest.mark.parametrize("name", MATCHERS)
def test_most_digits_get_a_cell_and_all_terms_a_gradient(name, batch):
    torch.manual_seed(0)
    images, targets = batch
    detector = make_detector("own", DIGITS, name)
    model, matcher = detector.model, make_matcher(name, DIGITS)
    predictions = detector.inputs(model(images))
    assignment = matcher(predictions, targets)
    assert isinstance(assignment, Assignment)
    served = assignment.predictions_per_target()
    assert ((served.tensor > 0) & served.mask).sum() >= 0.6 * targets.num_targets.sum()
    assert (assignment.target_index < targets.num_targets.unsqueeze(-1)).all()
    terms = DetectionCriterion(matcher=matcher, image_size=IMAGE_SIZE)(predictions, targets)
    torch.stack(list(terms.values())).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    assert all(value > 0 for value in terms.values())


@pytest.mark.parametrize("name", MATCHERS)
def test_no_digit_at_all(name, batch):
    images, _ = batch
    empty = Targets.of(
        [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * len(images),
        canvas_size=(IMAGE_SIZE, IMAGE_SIZE),
    )
    detector = make_detector("own", DIGITS)
    with torch.no_grad():
        predictions = detector.inputs(detector.model(images))
    assignment = make_matcher(name, DIGITS)(predictions, empty)
    assert assignment.is_background.all()
