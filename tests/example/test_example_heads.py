"""Every head of the example: it trains, reads its maps back, and finds its way to the command line."""

from __future__ import annotations

import pytest
import torch

from example.__main__ import make_detector, parse_arguments
from example.data import IMAGE_SIZE, NUM_CLASSES, DigitScenes, make_loader, to_targets
from example.evaluate import to_detections
from example.heads import HEADS


@pytest.fixture(scope="module")
def batch():
    return next(iter(make_loader(DigitScenes(4, split="train", seed=3), batch_size=4)))


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_learns(name, batch):
    torch.manual_seed(0)
    images, targets = batch
    model, criterion, _ = make_detector(name, None)
    terms = criterion(model(images), to_targets(targets))
    assert all(value.dim() == 0 and value.isfinite() for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.towers.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_a_few_steps_lower_the_loss(name, batch):
    torch.manual_seed(0)
    images, targets = batch
    model, criterion, _ = make_detector(name, None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = torch.stack(list(criterion(model(images), to_targets(targets)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < losses[0]


@pytest.mark.parametrize("name", HEADS)
def test_detections_are_boxes_on_the_canvas(name, batch):
    torch.manual_seed(0)
    images, _ = batch
    model, _, decode = make_detector(name, None)
    with torch.no_grad():
        predictions = decode(model.eval()(images))
    assert predictions.logits.shape == (*predictions.boxes.shape[:2], NUM_CLASSES)
    centre = (predictions.boxes[..., :2] + predictions.boxes[..., 2:]) / 2
    assert ((centre > -IMAGE_SIZE) & (centre < 2 * IMAGE_SIZE)).all()
    assert len(to_detections(predictions)) == len(images)


def test_a_matcher_goes_with_the_own_criterion_only(capsys):
    assert parse_arguments(["--criterion", "ssd"]).criterion == "ssd"
    with pytest.raises(SystemExit):
        parse_arguments(["--criterion", "ssd", "--matcher", "atss"])
    assert "the criterion ssd has a matcher of its own" in capsys.readouterr().err
