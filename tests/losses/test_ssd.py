"""Both losses of SSD against their reference, the forms that they are called in, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases.common import CLASSES, STRIDES, cast
from cases.criteria import ssd, ssd_flat
from cases.criteria.ssd import CODER, PER_CELL, flat_scores, level_anchors, make
from cases.criteria.ssd import terms_of as expected_terms
from cases.criteria.ssd_flat import default_boxes, of_image
from cases.criteria.ssd_flat import make as make_flat
from reference.ssd_loss import ImageLoss
from torch import Tensor

from losses import AssignedTargets, DensePredictions, GIoULoss, Normalizer, SSDCoder, flatten_levels, total
from losses.criteria.dense.ssd import SSDCriterion
from losses.criteria.dense.ssd_flat import SSDLoss
from losses.functional import hard_mining
from losses.functional.hard_mining import HardMiningCrossEntropyLoss
from losses.testing import leaves_of
from matchers import Hungarian, MaxIoU, Targets, convert, detr_costs
from matchers.testing import CANVAS
from ragged import RaggedBatch

SIZES = [3, 0, 1, 6]
SCENES = [SIZES, [0], [0, 0], [1], [0, 2], [150, 1]]
CASES = ssd.CASES | ssd_flat.CASES
close = torch.testing.assert_close


def scene(name: str, sizes: list[int] = SIZES, dtype: torch.dtype = torch.float64) -> tuple[Any, Targets]:
    case = CASES[name]
    return cast(case.predictions(sizes), dtype), case.targets(sizes).to(dtype)


def weighted(targets: Targets) -> Targets:
    weights = torch.tensor([0.5, 2.0, 0.0, 1.5, 1.0, 0.25], dtype=targets.boxes.dtype)
    weights = weights[torch.arange(targets.labels.tensor.numel()) % 6].view(targets.labels.tensor.shape)
    return replace(targets, weights=targets.labels.create_with_sample_sizes_like_self(weights))


def with_ignored(targets: Targets) -> Targets:
    flags = (torch.arange(targets.labels.tensor.numel()) % 2 == 0).view(targets.labels.tensor.shape)
    return replace(targets, ignore=targets.labels.create_with_sample_sizes_like_self(flags))


def by_image(criterion: Any, predictions: Any, targets: Targets, **options: Any) -> list[ImageLoss]:
    own = ssd_flat if isinstance(criterion, SSDLoss) else ssd
    return own.by_image(criterion, predictions, targets, **options)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], leaves: list[Tensor]) -> None:
    exact = leaves[0].dtype == torch.float64
    tolerance = {"rtol": 1e-10, "atol": 1e-11} if exact else {"rtol": 1e-5, "atol": 1e-5}
    close(found, wanted, **tolerance)
    gradients = torch.autograd.grad(total(found), leaves)
    for one, other in zip(gradients, torch.autograd.grad(total(wanted), leaves, materialize_grads=True), strict=True):
        close(one, other, **tolerance)


# --- against the reference -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SCENES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ssd(sizes: list[int], dtype: torch.dtype) -> None:
    maps, targets = scene("ssd", sizes, dtype)
    criterion = make()
    images = by_image(criterion, maps, targets)
    assert sum(each.positives for each in images) >= (sum(sizes) > 0)
    assert_same(criterion(maps, targets), expected_terms(images), leaves_of(maps))


@pytest.mark.parametrize("sizes", SCENES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ssd_loss(sizes: list[int], dtype: torch.dtype) -> None:
    predictions, targets = scene("ssd loss", sizes, dtype)
    criterion = make_flat()
    images = by_image(criterion, predictions, targets)
    loss, components = criterion(predictions, targets)
    wanted = torch.stack([of_image(each, 1.0) for each in images]).mean()
    assert_same({"loss": loss}, {"loss": wanted}, leaves_of(predictions))
    sums = [torch.stack([getattr(each, name) for each in images]).mean() for name in ("boxes", "classes")]
    close(components, torch.stack([*sums, wanted]).detach(), rtol=1e-5, atol=1e-6)
    assert criterion.component_names == ["smooth_l1", "closs", "Loss"] and not components.requires_grad


@pytest.mark.parametrize("change", [weighted, with_ignored])
@pytest.mark.parametrize("name", CASES)
def test_weights_and_ignored_targets(name: str, change: Any) -> None:
    predictions, targets = scene(name)
    targets = change(targets)
    criterion: Any = make() if name == "ssd" else make_flat()
    images = by_image(criterion, predictions, targets)
    if name == "ssd":
        assert_same(criterion(predictions, targets), expected_terms(images), leaves_of(predictions))
    else:
        wanted = torch.stack([of_image(each, 1.0) for each in images]).mean()
        assert_same({"loss": criterion(predictions, targets)[0]}, {"loss": wanted}, leaves_of(predictions))


@pytest.mark.parametrize(("ratio", "beta", "least"), [(0, 1.0, 0), (1, 0.5, 4), (2.5, 2.0, 7), (100, 1.0, 0)])
def test_options_of_ssd(ratio: float, beta: float, least: float) -> None:
    maps, targets = scene("ssd")
    criterion = make(neg_pos_ratio=ratio, smoothl1_beta=beta, negatives_without_positives=least)
    images = by_image(criterion, maps, targets, ratio=ratio, beta=beta, negatives_without_positives=least)
    assert (images[1].classes > 0) == (least > 0)
    assert_same(criterion(maps, targets), expected_terms(images), leaves_of(maps))


@pytest.mark.parametrize(("alpha", "ratio", "least"), [(0.0, 3.0, 0), (2.0, 1.0, 3), (0.5, 1000.0, 0)])
def test_options_of_ssd_loss(alpha: float, ratio: float, least: float) -> None:
    predictions, targets = scene("ssd loss")
    criterion = make_flat(alpha=alpha, neg_pos_ratio=ratio, negatives_without_positives=least, iou_thresh=0.3)
    images = by_image(criterion, predictions, targets, ratio=ratio, negatives_without_positives=least)
    wanted = torch.stack([of_image(each, alpha) for each in images]).mean()
    assert_same({"loss": criterion(predictions, targets)[0]}, {"loss": wanted}, leaves_of(predictions))


def test_decoded_boxes_and_another_box_loss() -> None:
    maps, targets = scene("ssd")
    criterion = make(reg_decoded_bbox=True, loss_bbox=GIoULoss(loss_weight=2.0))
    index = criterion.assign(maps, targets).target_index
    deltas = flatten_levels(maps[1], channels=4, name="boxes", num_per_cell=PER_CELL)
    boxes = CODER.decode(torch.cat(level_anchors()), deltas)
    image, place = (index >= 0).nonzero(as_tuple=True)
    wanted = GIoULoss(loss_weight=2.0)(boxes[image, place], targets.boxes.tensor[image, index[image, place]])
    close(criterion(maps, targets)["loss_bbox"], wanted.sum() / len(image))
    plain = make(reg_decoded_bbox=True)(maps, targets)["loss_bbox"]
    distance = (boxes[image, place] - targets.boxes.tensor[image, index[image, place]]).abs()
    close(plain, torch.where(distance < 1, distance**2 / 2, distance - 0.5).sum() / len(image))


# --- reductions ----------------------------------------------------------------------------------------------------


def test_ssd_loss_of_each_image_and_of_each_box() -> None:
    predictions, targets = scene("ssd loss")
    images = by_image(make_flat(), predictions, targets, ratio=3.0)
    sample, components = make_flat(alpha=0.5, reduction="sample")(predictions, targets)
    close(sample, torch.stack([of_image(each, 0.5) for each in images]))
    each_box = make_flat(alpha=0.5, reduction="none")(predictions, targets)[0]
    assert isinstance(each_box, RaggedBatch) and each_box.shape == (len(SIZES), len(default_boxes()))
    positives = torch.tensor([max(each.positives, 1.0) for each in images])
    close(each_box.tensor.sum(-1) / positives, sample)
    close(components, make_flat(alpha=0.5)(predictions, targets)[1])


def test_ssd_loss_is_divided_by_the_minimum_of_its_normalizer() -> None:
    """Where the weights of an image's positives add up to less than 1."""
    predictions, targets = scene("ssd loss", [1, 0])
    weights = targets.labels.create_with_sample_sizes_like_self(torch.full((2, 1), 1 / 64, dtype=torch.float64))
    targets = replace(targets, weights=weights)
    images = by_image(make_flat(), predictions, targets)
    assert 0.01 < images[0].positives < 0.5
    found, components = make_flat(normalizer=Normalizer(minimum=0.01))(predictions, targets)
    close(found, (images[0].boxes + images[0].classes) / images[0].positives / 2)
    close(components[-1], found.detach())


def test_ssd_loss_counts_images() -> None:
    predictions, targets = scene("ssd loss")
    criterion = make_flat()
    assignment = criterion.assign(predictions, targets)
    close(criterion.counts(predictions, targets, assignment), {"num_images": torch.tensor(4.0)})
    close(criterion(predictions, targets, global_count=8)[0], criterion(predictions, targets)[0] / 2)


# --- the forms of a call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [lambda targets: targets, weighted, with_ignored])
@pytest.mark.parametrize("matcher", [None, Hungarian(detr_costs())])
def test_the_background_as_the_first_class(change: Any, matcher: Any) -> None:
    """The same as with the background last, where channels and labels move up by one."""
    predictions, targets = scene("ssd")
    targets = change(targets)
    first = replace(targets, labels=targets.labels + 1)
    logits = flat_scores(predictions[0])
    deltas = flatten_levels(predictions[1], channels=4, name="boxes", num_per_cell=PER_CELL)
    options = {} if matcher is None else {"matcher": matcher}
    expected = make(**options)(predictions, targets)
    head = {"cls_logits": logits.roll(1, -1), "bbox_regression": deltas}
    found = make(bg_class_position="first", **options)(head, first)
    assert_same(found, expected, leaves_of(predictions))


def test_forms_of_predictions() -> None:
    maps, targets = scene("ssd")
    expected = make()(maps, targets)
    scores, anchors = flat_scores(maps[0]), torch.cat(level_anchors())
    boxes = flatten_levels(maps[1], channels=4, name="boxes", num_per_cell=PER_CELL)
    for form in (
        (scores, boxes),
        (scores, boxes, anchors),
        (*maps, anchors),
        (scores, boxes, anchors.expand(len(SIZES), -1, -1)),
        DensePredictions(scores, boxes, anchors),
        [[each.contiguous(memory_format=torch.channels_last) for each in part] for part in maps],
    ):
        found = make()(form, targets)
        assert_same(found, expected, leaves_of(maps)) if form is maps else close(found, expected)
        for one, other in zip(
            torch.autograd.grad(total(found), leaves_of(maps), retain_graph=True),
            torch.autograd.grad(total(expected), leaves_of(maps), retain_graph=True),
            strict=True,
        ):
            close(one, other)


def test_targets_that_are_assigned_already() -> None:
    maps, targets = scene("ssd")
    criterion = make()
    index = criterion.assign(maps, targets).target_index
    safe = index.clamp(min=0)
    labels = torch.where(index >= 0, targets.labels.tensor.gather(1, safe), CLASSES)
    boxes = targets.boxes.tensor.gather(1, safe.unsqueeze(-1).expand(-1, -1, 4))
    anchors = torch.cat(level_anchors()).expand_as(boxes)
    # As a head has them: encoded, NaN where there is no target.
    encoded = CODER.encode(anchors, boxes).masked_fill((index < 0).unsqueeze(-1), torch.nan)
    dense = AssignedTargets.from_dense(
        labels, CODER.decode(anchors, encoded), num_classes=CLASSES, weights=torch.ones(labels.shape)
    )
    found = criterion.loss(maps, dense, global_count=7.0)
    scale = int((index >= 0).sum()) / 7
    expected = {name: value * scale for name, value in criterion(maps, targets).items()}
    close(found, expected)


def test_a_weight_of_zero_is_left_out() -> None:
    labels = torch.tensor([[0, 1, CLASSES, CLASSES]])
    scores, boxes = torch.randn(1, 4, CLASSES + 1), torch.rand(1, 4, 4)
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).expand(4, 4)
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.5]])
    dense = AssignedTargets.from_dense(labels, anchors.unsqueeze(0), num_classes=CLASSES, weights=weights)
    found = SSDCriterion(CLASSES + 1).loss((scores, boxes, anchors), dense)
    log_p = scores[0].log_softmax(-1)
    close(found["loss_cls"], -log_p[0, 0] - 0.5 * log_p[3, CLASSES])


@pytest.mark.parametrize("background", [0, CLASSES])
def test_the_hardest_negatives_are_those_of_the_highest_weighted_loss(background: int) -> None:
    """Of twelve negatives the four with the highest loss have a small weight."""
    scores = torch.zeros(1, 1, 13, CLASSES + 1, dtype=torch.float64)
    scores[..., background] = torch.arange(13) / 4
    labels, weights = torch.full((1, 13), -1), torch.ones(1, 13, dtype=torch.float64)
    labels[0, 0], weights[0, 1:5] = 0, 0.1
    found = hard_mining.mined_cross_entropy(
        [scores.mT], labels, weights, background=background, ratio=3, negatives_without_positives=0
    )
    entropy = -weights * scores[0, 0].log_softmax(-1)[:, background]
    assert found[0].nonzero().flatten().tolist() == [0, 5, 6, 7]
    close(found[0, 1:8], torch.cat([torch.zeros(4), entropy[0, 5:8]]))


def test_targets_in_the_other_unit() -> None:
    maps, targets = scene("ssd")
    fractions = replace(targets, boxes=targets.boxes.apply(lambda boxes: boxes / CANVAS), normalized=True)
    close(make()(maps, fractions), make()(maps, targets))
    predictions, targets = scene("ssd loss")
    pixels = replace(targets, boxes=targets.boxes.apply(lambda boxes: boxes * CANVAS), normalized=False)
    close(make_flat()(predictions, pixels), make_flat()(predictions, targets))


def test_flat_targets_and_the_form_of_validation() -> None:
    predictions, targets = scene("ssd loss")
    rows = [
        torch.cat([torch.full((len(boxes), 1), image), labels.unsqueeze(-1), boxes], -1)
        for image, (boxes, labels) in enumerate(zip(targets.boxes.split(), targets.labels.split(), strict=True))
    ]
    flat = torch.cat(rows)[torch.randperm(sum(SIZES))].double()
    order = flat[:, 0].argsort(stable=True)
    lists = [flat[order][flat[order][:, 0] == image] for image in range(len(SIZES))]
    pair = ([each[:, 2:] for each in lists], [each[:, 1].long() for each in lists])
    expected = make_flat()(predictions, pair)
    close(make_flat()(predictions, flat), expected)
    close(make_flat()((torch.zeros(2), predictions), flat), expected)
    empty = make_flat()(predictions, torch.zeros(0, 6))
    assert empty[0] == 0 and empty[0].requires_grad


def test_default_boxes_as_an_object() -> None:
    class Boxes(SimpleNamespace):
        def __call__(self, order: str = "xyxy") -> Tensor:
            return default_boxes() if order == "xywh" else convert(default_boxes(), "cxcywh", "xyxy")

    predictions, targets = scene("ssd loss")
    criterion = SSDLoss(Boxes(scale_xy=0.2, scale_wh=0.5))
    assert "dboxes" in dict(criterion.named_buffers()) and not list(criterion.parameters())
    expected = make_flat(bbox_coder=SSDCoder(scale_xy=0.2, scale_wh=0.5))(predictions, targets)
    close(criterion(predictions, targets), expected)
    assert make_flat()(predictions, targets)[0] != expected[0]


@pytest.mark.parametrize("name", CASES)
def test_another_matcher_gets_decoded_boxes_and_classes(name: str) -> None:
    class Recording:
        def __call__(self, predictions: Any, targets: Any, priors: Tensor) -> Any:
            self.predictions = predictions
            return MaxIoU()(predictions, targets, priors)

    matcher = Recording()
    predictions, targets = scene(name)
    criterion: Any = (make if name == "ssd" else make_flat)(matcher=matcher)
    found = criterion.assign(predictions, targets)
    assert found.num_positives.tolist()[1] == 0 and found.num_positives.sum() > 0
    logits = flat_scores(predictions[0])[..., :-1] if name == "ssd" else predictions[1].mT[..., 1:]
    close(matcher.predictions.logits, logits)
    if name == "ssd":
        deltas = flatten_levels(predictions[1], channels=4, name="boxes", num_per_cell=PER_CELL)
        close(matcher.predictions.boxes, CODER.decode(torch.cat(level_anchors()), deltas))
    else:
        close(matcher.predictions.boxes, SSDCoder().decode(default_boxes(), predictions[0].mT))


# --- what it is careful about --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_static_shapes_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, targets = scene(name)
    criterion: Any = make() if name == "ssd" else make_flat()
    found = CASES[name].losses(criterion, predictions, targets)
    monkeypatch.setattr(hard_mining, "values_are_readable", lambda tensor: False)
    assert_same(CASES[name].losses(criterion, predictions, targets), found, leaves_of(predictions))


def test_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, targets = scene("ssd")
    found = make()(maps, targets)
    monkeypatch.setattr(hard_mining, "_BLOCK", 1)
    close(make()(maps, targets), found)


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_nan_in_the_background(name: str, readable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, targets = scene(name, [3])
    criterion: Any = make() if name == "ssd" else make_flat()
    read = criterion.read(predictions)
    clean = CASES[name].losses(criterion, predictions, targets)
    trained = CASES[name].make(reduction="none")(predictions, targets)
    values = trained["loss_cls"] if name == "ssd" else trained[0]
    idle = (values.tensor[0] == 0).nonzero()[0, 0]
    if not readable:
        monkeypatch.setattr(hard_mining, "values_are_readable", lambda tensor: False)
    with torch.no_grad():
        if name == "ssd":
            cell, anchor = divmod(int(idle), PER_CELL[0])
            predictions[0][0].flatten(2)[0, anchor * (CLASSES + 1) :][: CLASSES + 1, cell] = torch.nan
            predictions[1][0].flatten(2)[0, anchor * 4 :][:4, cell] = torch.nan
        else:
            predictions[0][0, :, idle] = predictions[1][0, :, idle] = torch.nan
    assert read.scores[0].isnan().sum() == CLASSES + 1
    found = CASES[name].losses(criterion, predictions, targets)
    close(found, clean)
    assert all(each.isfinite().all() for each in torch.autograd.grad(total(found), leaves_of(predictions)))


@pytest.mark.parametrize("name", CASES)
def test_a_target_without_area(name: str) -> None:
    predictions, targets = scene(name, [1])
    box = torch.tensor([[[32.0, 32.0, 32.0, 32.0]]], dtype=torch.float64)
    box = box if name == "ssd" else convert(box, "xyxy", "cxcywh") / CANVAS
    targets = replace(targets, boxes=RaggedBatch.from_full_tensor(box, num_batch_dims=1))
    losses = CASES[name].losses(CASES[name].make(), predictions, targets)
    assert all(value.isfinite() for value in losses.values())


def test_no_anchor_is_ignored() -> None:
    """Positive from an IoU of 0.4 on, background below."""
    anchors = torch.tensor([[0.0, 0.0, 100.0, height] for height in (100, 41, 39, 20)])
    targets = ([torch.tensor([[0.0, 0.0, 100.0, 100.0]])], [torch.tensor([1])])
    scores = torch.randn(1, 4, CLASSES + 1, generator=torch.Generator().manual_seed(0))
    found = SSDCriterion(CLASSES + 1, anchors=anchors)((scores, torch.zeros(1, 4, 4)), targets)
    channels = torch.tensor([1, 1, CLASSES, CLASSES])
    close(found["loss_cls"], torch.nn.functional.cross_entropy(scores[0], channels, reduction="sum") / 2)


def test_the_threshold_is_strict() -> None:
    dboxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.25, 0.5], [0.5, 0.5, 0.28125, 0.5]])
    targets = [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]), "labels": torch.tensor([0])}]
    predictions = torch.zeros(1, 4, 3), torch.zeros(1, 2, 3)
    # IoU 1, 0.5 and 0.5625.
    assert SSDLoss(dboxes).assign(predictions, targets).target_index.tolist() == [[0, -1, 0]]
    assert SSDLoss(dboxes, iou_thresh=0.6).assign(predictions, targets).target_index.tolist() == [[0, -1, -1]]


# --- HardMiningCrossEntropyLoss ------------------------------------------------------------------------------------


def test_hard_mining_cross_entropy() -> None:
    logits = torch.randn(2, 4, 30, dtype=torch.float64, requires_grad=True)
    labels = torch.zeros(2, 30, dtype=torch.int64)
    labels[0, :4] = torch.tensor([1, 3, 2, -1])
    entropy = -logits.log_softmax(1).gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
    wanted = entropy[0, :3].sum() + entropy[0, 4:].sort(descending=True).values[:6].sum()
    found = HardMiningCrossEntropyLoss(2.0)(logits, labels)
    close(found, torch.stack([wanted, torch.zeros_like(wanted)]))
    close(*(torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (found.sum(), wanted)))


def test_positives_count_once() -> None:
    logits, labels = torch.randn(1, 3, 4), torch.tensor([[1, 2, 1, 0]])
    found = HardMiningCrossEntropyLoss(3.0)(logits, labels)
    close(found, torch.nn.functional.cross_entropy(logits, labels, reduction="none").sum(-1))


def test_no_default_boxes() -> None:
    criterion = SSDLoss(torch.zeros(0, 4))
    loss, components = criterion((torch.zeros(2, 4, 0), torch.zeros(2, 3, 0)), torch.zeros(0, 6))
    assert loss == 0 and components.tolist() == [0, 0, 0]


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: SSDCriterion(1), ValueError, "at least, got 1"),
        (lambda: SSDCriterion(3.0), TypeError, "num_classes"),  # type: ignore[arg-type]
        (lambda: make(neg_pos_ratio=-1), ValueError, "neg_pos_ratio"),
        (lambda: make(smoothl1_beta=-1), ValueError, "smoothl1_beta"),
        (lambda: make(negatives_without_positives=-1), ValueError, "negatives_without_positives"),
        (lambda: make(anchors=torch.zeros(2, 3, 4)), ValueError, "anchors"),
        (lambda: make(loss_bbox=torch.nn.L1Loss()), ValueError, "loss_bbox.*none"),
        (lambda: make(reduction="average"), ValueError, "average"),
        (lambda: make_flat(alpha=2.5), ValueError, r"\[0, 2\], got 2.5"),
        (lambda: make_flat(iou_thresh=1.5), ValueError, "iou_thresh"),
        (lambda: make_flat(reduction="average"), ValueError, "average"),
        (lambda: SSDLoss(torch.zeros(4, 3)), ValueError, "dboxes"),
        (lambda: HardMiningCrossEntropyLoss(-1), ValueError, "neg_pos_ratio"),
    ],
)
def test_bad_parameters(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("predictions", "error", "words"),
    [
        (torch.zeros(3), TypeError, "got Tensor"),
        ((torch.zeros(2, 3, 6),), TypeError, "got 1 entries"),
        ((torch.zeros(2, 3, 5), torch.zeros(2, 3, 4)), ValueError, r"\(B, P, 6\), got \(2, 3, 5\)"),
        ((torch.zeros(2, 3, 6), torch.zeros(2, 4, 4)), ValueError, r"\(2, 3\), boxes for \(2, 4\)"),
        ((torch.zeros(2, 3, 6), torch.zeros(2, 3, 4)), ValueError, r"\(3, 4\) or \(2, 3, 4\).*got \(144, 4\)"),
        (
            ([torch.zeros(2, 7, 8, 8)], [torch.zeros(2, 4, 8, 8)]),
            ValueError,
            r"\(2, A \* 6, h, w\), got \(2, 7, 8, 8\)",
        ),
        (([torch.zeros(2, 12, 8, 8)], [torch.zeros(2, 4, 8, 8)]), ValueError, r"\(B, 8, h, w\), got \(2, 4, 8, 8\)"),
        (([torch.zeros(2, 6, 8, 8)], []), ValueError, "boxes"),
        (([], []), ValueError, "class scores"),
        (([torch.zeros(2, 6, 8, 8).int()], []), TypeError, "floating"),
    ],
)
def test_bad_predictions(predictions: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()(predictions, CASES["ssd"].targets([1, 2]))


@pytest.mark.parametrize(
    ("predictions", "error", "words"),
    [
        (torch.zeros(3), TypeError, "got Tensor"),
        ((torch.zeros(2, 4, 144), torch.zeros(2, 1, 144)), ValueError, "C ≥ 1"),
        ((torch.zeros(2, 144, 4), torch.zeros(2, 6, 144)), ValueError, r"\(2, 4, 144\), got \(2, 144, 4\)"),
        ((torch.zeros(2, 4, 9), torch.zeros(2, 6, 9)), ValueError, r"\(9, 4\).*got \(144, 4\)"),
        ((torch.zeros(2, 4, 144).int(), torch.zeros(2, 6, 144)), TypeError, "floating"),
    ],
)
def test_bad_flat_predictions(predictions: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make_flat()(predictions, CASES["ssd loss"].targets([1, 2]))


@pytest.mark.parametrize("name", CASES)
def test_bad_calls(name: str) -> None:
    predictions, targets = scene(name)
    criterion: Any = make() if name == "ssd" else make_flat()
    with pytest.raises(ValueError, match=rf"label {CLASSES} .* {CLASSES} classes"):
        criterion(predictions, replace(targets, labels=targets.labels.apply(lambda labels: labels * 0 + CLASSES)))
    with pytest.raises(ValueError, match="needs the assignment"):
        criterion.loss(predictions, targets)
    dense = AssignedTargets.from_dense(torch.zeros(4, 144).long(), torch.zeros(4, 144, 4), num_classes=CLASSES)
    with pytest.raises(ValueError, match="no assignment"):
        criterion.loss(predictions, dense, criterion.assign(predictions, targets))
    many = AssignedTargets.from_dense(torch.full((4, 144), 6), torch.zeros(4, 144, 4), num_classes=9)
    with pytest.raises(ValueError, match="labels must lie in 0 … 4"):
        criterion.loss(predictions, many)


def test_anchors_are_needed() -> None:
    maps, targets = scene("ssd")
    with pytest.raises(ValueError, match="needs anchors"):
        SSDCriterion(CLASSES + 1)(maps, targets)


def test_bad_labels_of_hard_mining() -> None:
    loss = HardMiningCrossEntropyLoss(3.0)
    for labels, error, words in (
        (torch.zeros(1, 2), TypeError, "target_labels"),
        (torch.zeros(1, 3).long(), ValueError, r"\(1, 2\), got \(1, 3\)"),
        (torch.tensor([[0, 3]]), ValueError, "labels must lie in 0 … 1, got 2"),
        (torch.tensor([[0, -2]]), ValueError, "-1 at least, got -2"),
    ):
        with pytest.raises(error, match=words):
            loss(torch.zeros(1, 3, 2), labels)


def test_strides_of_the_case() -> None:
    assert [len(each) for each in level_anchors()] == [
        count * (int(CANVAS) // stride) ** 2 for count, stride in zip(PER_CELL, STRIDES, strict=True)
    ]
