"""The criterion of Faster R-CNN's second stage: ragged proposals, sampling before the head, and the options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases.common import CLASSES
from cases.criteria.roi import CASE, CODER, COUNT, EVERY_ONE, images_of, make
from reference.roi_loss import roi_loss
from torch import Tensor

from losses import RoICriterion, total
from losses.testing import near
from matchers import IGNORED, RandomSampler, Targets
from ragged import RaggedBatch, pack
from ragged.testing import FILLERS, assert_no_host_sync, refilled

SIZES, COUNTS = [3, 0, 2, 1], [7, 4, 0, 12]


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), torch.as_tensor(expected[name]).double(), rtol=1e-5, atol=1e-6)


def ragged(dense: Tensor) -> RaggedBatch:
    """Of so many proposals in each image."""
    return RaggedBatch(dense[:, : max(COUNTS)].clone(), sample_sizes=torch.tensor(COUNTS))


def given(num_boxes: int = CLASSES + 1) -> tuple[RaggedBatch, RaggedBatch, RaggedBatch]:
    made = CASE.predictions(SIZES)
    return (
        ragged(made["class_logits"]),
        ragged(made["box_regression"][..., : 4 * num_boxes]),
        ragged(made["proposals"]),
    )


def rich(sizes: list[int], first: int = 0) -> Targets:
    """Some targets weigh more, some are ignored."""
    samples = CASE.targets(sizes, 0).to_dicts()
    for sample in samples:
        count = len(sample["labels"])
        sample["labels"] = sample["labels"] + first
        sample["weights"] = torch.linspace(0.5, 2.0, count)
        sample["ignore"] = torch.arange(count) % 3 == 1
    return Targets.of(samples)


@pytest.mark.parametrize("position", ["first", "last"])
@pytest.mark.parametrize("num_boxes", [1, CLASSES, CLASSES + 1])
@pytest.mark.parametrize("num_samples", [6, 100])
def test_ragged_proposals(position: str, num_boxes: int, num_samples: int) -> None:
    sampler = RandomSampler(num_samples=num_samples, positive_fraction=0.25)
    criterion = make(bg_class_position=position, sampler=sampler)
    predictions, targets = given(num_boxes), rich(SIZES, first=int(position == "first"))
    assignment = criterion.assign(predictions, targets)
    assert assignment.is_ignored[~predictions[2].mask].all()
    assert assignment.is_positive.any()
    background = 0 if position == "first" else CLASSES
    expected = roi_loss(images_of(criterion, predictions, targets, assignment), background=background)
    assert_same(criterion.loss(predictions, targets, assignment), expected)


def test_forms_of_predictions() -> None:
    criterion, (scores, boxes, proposals), targets = CASE.make(), given(), CASE.targets(SIZES, 0)
    expected = criterion((scores, boxes, proposals), targets)
    rows = pack(scores)[0], pack(boxes)[0]
    for found in (
        criterion({"class_logits": scores, "box_regression": boxes, "proposals": proposals}, targets),
        criterion((*rows, proposals), targets),
        criterion((*rows, proposals.split()), targets),
        criterion((scores.tensor, boxes.tensor, proposals), targets),
        criterion(criterion.read((scores, boxes, proposals)), targets),
    ):
        assert_same(found, expected)


@pytest.mark.parametrize("filler", FILLERS)
def test_filler_says_nothing(filler: str) -> None:
    criterion, targets = CASE.make(), CASE.targets(SIZES, 0)
    expected = criterion(given(), targets)
    other = [refilled(each, filler) for each in given()]
    for each in other[:2]:
        each.tensor.requires_grad_()
    losses = criterion(tuple(other), targets)
    assert_same(losses, expected)
    total(losses).backward()
    for each in other[:2]:
        assert each.tensor.grad is not None and each.tensor.grad.isfinite().all()
        assert not each.tensor.grad[~each.mask].any()


def test_sampled_before_the_head() -> None:
    """Targets are proposed too, but for those that are ignored, and proposals stay in their order."""
    proposals, targets = given()[2], rich(SIZES)
    criterion = make(sampler=RandomSampler(num_samples=8, positive_fraction=0.5))
    chosen, assignment = criterion.sample(proposals, targets)
    assert tuple(chosen.tensor.shape) == (4, 8, 4) and assignment.target_index.shape == (4, 8)
    own = [
        torch.cat([each, sample["boxes"][~sample["ignore"]]])
        for each, sample in zip(proposals.split(), targets.to_dicts(), strict=True)
    ]
    for image, (boxes, known) in enumerate(zip(chosen.split(), own, strict=True)):
        places = [next(p for p, box in enumerate(known) if torch.equal(box, each)) for each in boxes]
        assert places == sorted(set(places)) and len(places) <= 8
        index = assignment.target_index[image]
        assert (index[: len(boxes)] != IGNORED).all() and (index[len(boxes) :] == IGNORED).all()
    assert assignment.num_positives.tolist()[1] == 0 and assignment.is_positive.any(-1)[[0, 2, 3]].all()


def test_loss_of_what_was_sampled() -> None:
    """As that of a call, which looks at all proposals."""
    (scores, boxes, proposals), targets = given(), CASE.targets(SIZES, 0)
    criterion = CASE.make()
    chosen, assignment = criterion.sample(proposals, targets, add_gt_proposals=False)
    assert torch.equal(pack(chosen)[0], pack(proposals)[0])  # every one of them
    found = criterion.loss((pack(scores)[0], pack(boxes)[0], chosen), targets, assignment)
    assert_same(found, criterion((scores, boxes, proposals), targets))


def test_a_target_is_its_own_proposal() -> None:
    """Where nothing was proposed, targets are looked at all the same."""
    targets = CASE.targets([3, 0], 0)
    chosen, assignment = make().sample([torch.zeros(0, 4)] * 2, targets)
    assert chosen.sample_sizes.tolist() == [3, 0]
    assert assignment.target_index[0, :3].tolist() == [0, 1, 2]
    losses = make().loss((torch.zeros(3, CLASSES + 1), torch.zeros(3, 4), chosen), targets, assignment)
    torch.testing.assert_close(losses["loss_cls"], torch.tensor(float(CLASSES + 1)).log())
    assert losses["loss_bbox"] == 0
    nothing, assignment = make().sample([torch.zeros(0, 4)] * 2, CASE.targets([0, 0], 0))
    losses = make().loss((torch.zeros(0, 6), torch.zeros(0, 4), nothing), CASE.targets([0, 0], 0), assignment)
    assert losses == {"loss_cls": 0, "loss_bbox": 0}


def test_nothing_waits_for_the_device() -> None:
    boxes = [near([own], COUNT, torch.Generator().manual_seed(0))[0] for own in CASE.boxes(SIZES)]
    proposals = RaggedBatch.from_full_tensor(torch.stack(boxes))
    criterion = make(sampler=RandomSampler(num_samples=8))
    assert_no_host_sync(lambda *given: criterion.sample(*given)[1].target_index, proposals, CASE.targets(SIZES, 0))


def test_defaults_and_options() -> None:
    criterion = RoICriterion(3)
    assert criterion.num_classes == 2 and criterion.bbox_coder == CODER
    assert criterion.sampler == RandomSampler(num_samples=512, positive_fraction=0.25)
    predictions, targets = CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    expected = CASE.make()(predictions, targets)
    weighted = CASE.make(loss_cls=torch.nn.CrossEntropyLoss(reduction="none"))(predictions, targets)
    assert_same(weighted, expected)
    linear = CASE.make(loss_bbox=torch.nn.L1Loss(reduction="none"))(predictions, targets)
    assert linear["loss_bbox"] > expected["loss_bbox"]


def test_fractions_of_the_image() -> None:
    predictions, targets = CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    fractions = targets.boxes.create_with_sample_sizes_like_self(targets.boxes_as("xyxy", normalized=True))
    other = Targets(fractions, targets.labels, normalized=True, canvas_size=targets.canvas_size)
    assert_same(CASE.make()(predictions, other), CASE.make()(predictions, targets))
    proposals = predictions["proposals"]
    criterion = make(sampler=EVERY_ONE)
    (chosen, assignment), (same, expected) = criterion.sample(proposals, other), criterion.sample(proposals, targets)
    torch.testing.assert_close(chosen.tensor, same.tensor)
    assert torch.equal(assignment.target_index, expected.target_index)


def test_what_is_wrong_is_said() -> None:
    (scores, boxes, proposals), targets = given(), CASE.targets(SIZES, 0)
    criterion = CASE.make()
    with pytest.raises(TypeError, match=r"must be \(class scores, boxes, proposals\); got 2 entries"):
        criterion((scores, boxes), targets)
    with pytest.raises(ValueError, match=r"class scores must have shape \(4, 12, 'K'\), or rows"):
        criterion((scores.tensor[:, :3], boxes, proposals), targets)
    with pytest.raises(ValueError, match="class scores must have a row for each of 23 proposals, got 5"):
        criterion((torch.zeros(5, 6), boxes, proposals), targets)
    with pytest.raises(
        ValueError, match=r"class scores must have 6 classes, the background included, got \(4, 12, 24\)"
    ):
        criterion((boxes, boxes, proposals), targets)
    with pytest.raises(ValueError, match=r"proposals must have shape \(B, P, 4\), got \(12, 4\)"):
        criterion((scores, boxes, proposals.tensor[0]), targets)
    with pytest.raises(ValueError, match=r"proposals of image 0 must have shape \(…, 4\)"):
        criterion.sample([torch.zeros(2, 5)], targets)
    with pytest.raises(ValueError, match="loss_cls must have reduction='none'"):
        make(loss_cls=torch.nn.CrossEntropyLoss())
    with pytest.raises(TypeError, match="add_gt_proposals must be True or False"):
        criterion.sample(proposals, targets, add_gt_proposals=3)
