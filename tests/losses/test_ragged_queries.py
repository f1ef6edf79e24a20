"""Losses of predictions whose number differs from image to image: those of each image alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses import DEIMCriterion, DetectionLoss, DetrCriterion, DFINECriterion, FocalLoss, GIoULoss
from matchers import (
    Assignment,
    BalancedSinkhorn,
    ClosestTarget,
    Hungarian,
    Plan,
    Predictions,
    SoftMin,
    Targets,
)
from ragged import RaggedBatch, combine_data

CLASSES, BINS = 3, 5
SIZES = [(4, 2), (0, 3), (1, 0), (3, 3), (2, 4)]
"""Queries and targets of each image."""
WEIGHTS = {"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
CRITERIA: dict[str, Callable[..., Any]] = {
    "detr": partial(DetrCriterion, WEIGHTS, num_classes=CLASSES),
    "dfine": partial(
        DFINECriterion, {**WEIGHTS, "loss_fgl": 0.15, "loss_ddf": 1.5}, num_classes=CLASSES, reg_max=BINS - 1
    ),
    "deim": partial(DEIMCriterion, {**WEIGHTS, "loss_mal": 1.0}, num_classes=CLASSES, reg_max=BINS - 1),
}
Image = dict[str, Tensor]


def layer(count: int, draw: torch.Generator, *, bins: bool) -> Image:
    found = {
        "pred_logits": torch.randn(count, CLASSES, generator=draw),
        "pred_boxes": torch.rand(count, 4, generator=draw) * 0.4 + 0.2,
    }
    if bins:
        for name in ("pred_corners", "teacher_corners"):
            found[name] = torch.randn(count, 4 * BINS, generator=draw)
        found["teacher_logits"] = torch.randn(count, CLASSES, generator=draw)
        found["ref_points"] = torch.rand(count, 4, generator=draw) * 0.4 + 0.2
    return found


def images(name: str, sizes: Any = SIZES, *, layers: int = 3) -> tuple[list[list[Image]], list[Image]]:
    """Outputs of each layer, of each image; and the truth of each image."""
    draw = torch.Generator().manual_seed(3)
    outputs = [[layer(count, draw, bins=name != "detr") for count, _ in sizes] for _ in range(layers)]
    truth = [
        {
            "boxes": torch.rand(count, 4, generator=draw) * 0.4 + 0.2,
            "labels": torch.randint(CLASSES, (count,), generator=draw),
        }
        for _, count in sizes
    ]
    return outputs, truth


def as_outputs(layers: list[dict[str, Any]], name: str) -> dict[str, Any]:
    constants = {} if name == "detr" else {"up": torch.tensor(0.5), "reg_scale": torch.tensor(4.0)}
    return {**layers[-1], "aux_outputs": layers[:-1], **constants}


def ragged(own: list[Image], *, filler: float = torch.nan) -> dict[str, RaggedBatch]:
    """One layer of all images, with two slots more than needed."""
    widest = max(len(each["pred_logits"]) for each in own) + 2
    batches = {key: combine_data([each[key] for each in own]).with_max_sample_size(widest) for key in own[0]}
    return {key: batch.with_padded_set_to(filler) for key, batch in batches.items()}


def alone(layers: list[list[Image]], at: int, name: str) -> dict[str, Any]:
    return as_outputs([{key: value[None] for key, value in own[at].items()} for own in layers], name)


@pytest.mark.parametrize("name", CRITERIA)
def test_each_image_as_alone(name: str) -> None:
    layers, truth = images(name)
    outputs = as_outputs([ragged(own) for own in layers], name)
    per_image, summed, values = (CRITERIA[name](reduction=each) for each in ("sample", "sum", "none"))
    of_images = [CRITERIA[name]()(alone(layers, at, name), truth[at : at + 1]) for at in range(len(SIZES))]
    for term, found in per_image(outputs, truth).items():
        expected = torch.stack([each[term] for each in of_images])
        torch.testing.assert_close(found, expected, msg=lambda text, term=term: f"{term}: {text}")
    sums = [CRITERIA[name](reduction="sum")(alone(layers, at, name), truth[at : at + 1]) for at in range(len(SIZES))]
    kept = values(outputs, truth)
    for term, found in summed(outputs, truth).items():
        torch.testing.assert_close(found, torch.stack([each[term] for each in sums]).sum())
        assert kept[term].sample_sizes.tolist() == [count for count, _ in SIZES]
        torch.testing.assert_close(kept[term].with_padded_set_to(0).tensor.sum(), found)
        assert not kept[term].tensor[~kept[term].mask].any()


def test_mean_is_divided_by_the_targets_of_the_batch() -> None:
    layers, truth = images("detr")
    outputs = as_outputs([ragged(own) for own in layers], "detr")
    criterion, summed = CRITERIA["detr"](), CRITERIA["detr"](reduction="sum")
    count = sum(count for _, count in SIZES)
    expected = {term: value / count for term, value in summed(outputs, truth).items()}
    for term, value in criterion(outputs, truth).items():
        torch.testing.assert_close(value, expected[term])


@pytest.mark.parametrize("name", CRITERIA)
def test_filler_has_no_gradient_and_changes_none(name: str) -> None:
    layers, truth = images(name)
    gradients = []
    for filler in (0.3, torch.nan, torch.inf):
        parts = [ragged(own, filler=filler) for own in layers]
        for part in parts:
            for key in ("pred_logits", "pred_boxes", "pred_corners"):
                if key in part:
                    part[key].requires_grad_()
        losses = CRITERIA[name]()(as_outputs(list(parts), name), truth)
        torch.stack(list(losses.values())).sum().backward()
        found = {key: part[key].tensor.grad for key in ("pred_logits", "pred_boxes") for part in parts}
        assert all(each is not None and not each[~parts[0]["pred_logits"].mask].any() for each in found.values())
        gradients.append(found)
    for other in gradients[1:]:
        for key, gradient in gradients[0].items():
            assert torch.equal(gradient, other[key])


def test_all_images_without_queries() -> None:
    layers, truth = images("detr", [(0, 2), (0, 0)])
    found = CRITERIA["detr"]()(as_outputs([ragged(own) for own in layers], "detr"), truth)
    assert all(value == 0 for value in found.values())


@pytest.mark.graphs
def test_compiled_and_without_values() -> None:
    layers, truth = images("detr")
    criterion, outputs = CRITERIA["detr"](), as_outputs([ragged(own) for own in layers], "detr")
    targets = Targets.of(truth, box_format="cxcywh", normalized=True)
    torch.compiler.reset()
    compiled = torch.compile(criterion, backend="eager", fullgraph=True)
    expected = criterion(outputs, targets)
    for term, value in compiled(outputs, targets).items():
        torch.testing.assert_close(value, expected[term])
    on_meta = torch.utils._pytree.tree_map(lambda part: part.to("meta"), outputs)
    assert all(value.is_meta for value in criterion.to("meta")(on_meta, targets.to("meta")).values())


DETECTION: dict[str, Callable[..., DetectionLoss]] = {
    "hard": lambda **more: DetectionLoss(FocalLoss(reduction="none"), GIoULoss(), Hungarian(), "none", **more),
    "closest": lambda **more: DetectionLoss(
        nn.CrossEntropyLoss(reduction="none"), GIoULoss(), ClosestTarget(background_cost=3.0), "last", **more
    ),
    "mined": lambda **more: DetectionLoss(
        nn.CrossEntropyLoss(reduction="none"),
        GIoULoss(),
        Hungarian(),
        "last",
        use_hard_negative_mining=True,
        neg_to_pos_ratio=1.0,
        negatives_without_positives=1,
        **more,
    ),
    "soft": lambda **more: DetectionLoss(FocalLoss(reduction="none"), GIoULoss(), SoftMin(), "none", **more),
    "transport": lambda **more: DetectionLoss(
        nn.CrossEntropyLoss(reduction="none"),
        nn.L1Loss(reduction="none"),
        BalancedSinkhorn(background_cost=1.0),
        "last",
        use_hard_negative_mining=True,
        neg_to_pos_ratio=1.0,
        **more,
    ),
}


def detection_images() -> tuple[list[Image], Targets]:
    (own,), truth = images("detr", layers=1)
    for image in truth:
        image["labels"] = image["labels"] % (CLASSES - 1)
    return own, Targets.of(truth, box_format="cxcywh", normalized=True)


@pytest.mark.parametrize("name", DETECTION)
def test_detection_loss_of_each_image_as_alone(name: str) -> None:
    own, targets = detection_images()
    found = DETECTION[name](reduction="sample")(ragged(own), targets)
    kept = DETECTION[name](reduction="none")(ragged(own), targets)
    assert kept.sample_sizes.tolist() == [count for count, _ in SIZES]
    assert not kept.tensor[~kept.mask].any()
    dicts = targets.to_dicts()
    for at, image in enumerate(own):
        truth = Targets.of(dicts[at : at + 1], box_format="cxcywh", normalized=True)
        expected = DETECTION[name]()({key: value[None] for key, value in image.items()}, truth)
        torch.testing.assert_close(found[at], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", DETECTION)
def test_detection_loss_never_hears_filler(name: str) -> None:
    own, targets = detection_images()
    found = []
    for filler in (0.3, torch.nan):
        part = ragged(own, filler=filler)
        for batch in part.values():
            batch.requires_grad_()
        value = DETECTION[name]()(part, targets)
        value.backward()
        found.append([value.detach(), *(batch.tensor.grad for batch in part.values())])
    for one, other in zip(*found, strict=True):
        assert one is not None and torch.equal(one, other)


def careless(predictions: Predictions, targets: Targets, priors: Any = None) -> Assignment:
    """A matcher that knows nothing of filler: all is background."""
    assert predictions.logits is not None
    index = torch.full(predictions.logits.shape[:-1], -1)
    return Assignment.from_index(index, num_targets=targets.num_targets, max_num_targets=targets.max_num_targets)


def test_filler_that_is_matched_is_an_error() -> None:
    layers, truth = images("detr")
    outputs = as_outputs([ragged(own) for own in layers], "detr")
    message = (
        r"prediction 4 of sample \(0, 0\) is filler, as there are 4 predictions, and must be ignored \(-2\), got -1"
    )
    with pytest.raises(ValueError, match=message):
        CRITERIA["detr"](matcher=careless)(outputs, truth)
    own, targets = detection_images()
    loss = DetectionLoss(FocalLoss(reduction="none"), GIoULoss(), careless, "none")
    with pytest.raises(ValueError, match="prediction 4 of sample 0 is filler"):
        loss(ragged(own), targets)
    plan = SoftMin()(Predictions.of(ragged(own)), targets)
    with pytest.raises(ValueError, match="prediction 4 of sample 0 is filler, .* no mass"):
        loss.loss(ragged(own), targets, Plan(plan.weights, torch.ones_like(plan.background), plan.num_invalid))


def test_outputs_must_all_be_ragged_and_of_the_same_sizes() -> None:
    layers, truth = images("detr", layers=1)
    part: dict[str, Any] = ragged(layers[0])
    plain = part["pred_boxes"].with_padded_set_to(0).tensor
    with pytest.raises(
        ValueError, match="outputs: pred_logits of the predictions are ragged, and pred_boxes are Tensor"
    ):
        CRITERIA["detr"]()({**part, "pred_boxes": plain}, truth)
    other = RaggedBatch(plain, sample_sizes=[1] * len(SIZES))
    with pytest.raises(ValueError, match="pred_boxes and pred_logits of the predictions: sample sizes differ, 1 and 4"):
        CRITERIA["detr"]()({**part, "pred_boxes": other}, truth)
    denoising = {"dn_outputs": [part], "dn_meta": {"dn_num_group": 1, "dn_num_split": [6, 6], "dn_positive_idx": None}}
    with pytest.raises(ValueError, match="denoising queries, whose filler is known of dn_meta"):
        CRITERIA["detr"]()({**part, **denoising}, truth)


def test_layers_may_differ_in_their_sizes() -> None:
    """Those of the encoder, for example, of which all images have the same number."""
    layers, truth = images("detr")
    few = [{key: value[:1] for key, value in image.items()} for image in layers[0]]
    outputs = as_outputs([ragged(few), ragged(layers[1])], "detr")
    found = CRITERIA["detr"](reduction="sample")(outputs, truth)
    kept = CRITERIA["detr"](reduction="none")(outputs, truth)
    assert kept["loss_vfl_aux_0"].sample_sizes.tolist() == [min(count, 1) for count, _ in SIZES]
    for at in range(len(SIZES)):
        expected = CRITERIA["detr"]()(alone([few, layers[1]], at, "detr"), truth[at : at + 1])
        for term, value in expected.items():
            torch.testing.assert_close(found[term][at], value)
