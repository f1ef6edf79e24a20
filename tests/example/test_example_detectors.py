"""Every detector of the example: it trains, reads its output back, and says what is matched."""

from __future__ import annotations

import pytest
import torch

from example.data import Task, make_loader, to_targets
from example.detectors import DETECTORS, make_detector
from example.digits import DIGITS, IMAGE_SIZE, DigitScenes
from example.evaluate import to_detections
from matchers import Plan

pytestmark = pytest.mark.hunts


@pytest.fixture(scope="module")
def batch():
    images, targets = next(iter(make_loader(DigitScenes(4, split="train", seed=3), batch_size=4)))
    return images, to_targets(targets, DIGITS)


def total(terms):
    return torch.stack(list(terms.values())).sum()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_few_steps_lower_the_loss_and_reach_every_parameter(name, batch):
    torch.manual_seed(0)
    images, targets = batch
    detector = make_detector(name, DIGITS)
    criterion = detector.make_criterion("mean")
    optimizer = torch.optim.AdamW(detector.model.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        terms = detector.losses(detector.model(images), targets, criterion)
        assert all(value.dim() == 0 and value.isfinite() for value in terms.values())
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
        losses.append(total(terms).item())
    assert min(losses[-3:]) < losses[0]
    for parameter_name, parameter in detector.model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        # Anchors of the coarse level are too large for most digits.
        is_coarse = "towers." in parameter_name and parameter_name.split("towers.")[1].split(".")[1] == "1"
        assert is_coarse or parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", DETECTORS)
def test_output_is_read_matched_and_counted_by_image(name, batch):
    torch.manual_seed(0)
    images, targets = batch
    detector = make_detector(name, DIGITS)
    criterion = detector.make_criterion("sample").eval()
    with torch.no_grad():
        output = detector.model.eval()(images)
        alone = detector.model(images[:1])
        terms = detector.losses(output, targets, criterion)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = detector.model(images)
        rough_terms = detector.losses(rough, targets, criterion)
    assert all(value.isfinite().all() and value.dtype == torch.float32 for value in rough_terms.values())
    predictions = detector.decode(output)
    shape = tuple(predictions.boxes.shape[:2])
    assert predictions.logits.shape == (*shape, DIGITS.num_classes)
    middle = (predictions.boxes[..., :2] + predictions.boxes[..., 2:]) / 2
    assert ((middle > -IMAGE_SIZE) & (middle < 2 * IMAGE_SIZE)).all()
    assert len(to_detections(predictions)) == len(images)

    centers = detector.centers(output).expand(*shape, 2)
    assert ((centers > 0) & (centers < IMAGE_SIZE)).all()
    match = detector.match(output, targets, criterion)
    matched = match.weights.tensor if isinstance(match, Plan) else match.target_index
    assert tuple(matched.shape[:2]) == shape

    assert all(value.shape == (len(images),) for value in terms.values())
    first = next(iter(targets.to_dicts()))
    own = type(targets).of([first], canvas_size=(IMAGE_SIZE, IMAGE_SIZE))
    with torch.no_grad():
        own_terms = detector.losses(alone, own, criterion)
    for key, value in own_terms.items():
        torch.testing.assert_close(terms[key][0], value[0], rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["own", "dfine", "yolov9", "atss"])
def test_large_images_have_a_third_level(name):
    task = Task(("cat", "dog", "cow"), 160, channels=3)
    detector = make_detector(name, task)
    with torch.no_grad():
        output = detector.model.eval()(torch.rand(1, 3, 160, 160))
        predictions = detector.decode(output)
    assert task.strides == (8, 16, 32) and predictions.logits.shape[-1] == 3
    if name != "dfine":
        assert predictions.num_predictions == 20**2 + 10**2 + 5**2


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="the criterion 'ssd' has a matcher of its own, got 'atss'"):
        make_detector("ssd", DIGITS, "atss")
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 1, 96, 96\), got \(1, 3, 96, 96\)"):
        make_detector("own", DIGITS).model(torch.zeros(1, 3, 96, 96))
