"""The detection loss: against a reference with any matcher, its call forms, its two ways of computation, bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import reference.detection_loss as reference
import torch
from cases.criteria import retinanet
from cases.criteria.detection import CASES, images_of
from cases.criteria.detection import predictions as detection_predictions
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from losses import (
    BinaryCrossEntropy,
    DeltaXYWHCoder,
    FocalLoss,
    GIoULoss,
    IoULoss,
    L1Loss,
    MultipleObjectiveLoss,
)
from losses.criteria.detection import DetectionLoss
from losses.functional import expected
from losses.modules.per_prediction import NegativeProbLoss, SigmoidFocalCost, SigmoidFocalLoss
from matchers import (
    Assignment,
    BalancedSinkhorn,
    ClosestPrediction,
    ClosestTarget,
    Hungarian,
    MaxIoU,
    Plan,
    Predictions,
    SoftMin,
    Targets,
    UnbalancedSinkhorn,
    WeightedSum,
)
from ragged import RaggedBatch, combine_data

CLASSES = 4
WEIGHTS = (0.5, 2.0, 1.0, 0.25)
CASE = CASES["detection"]
SCENES = {
    "usual": [3, 0, 1, 6],
    "one image": [2],
    "one object": [0, 1],
    "no objects": [0, 0],
    "more than predictions": [14, 1],
}
GIOU = GIoULoss()
COST: dict[str, Any] = {"loc_match_module": GIOU}
MATCHERS: dict[str, Callable[[], Any]] = {
    "hungarian": lambda: Hungarian(cls_match_module=NegativeProbLoss(), **COST),
    "hungarian focal": lambda: Hungarian(cls_match_module=SigmoidFocalCost(alpha=0.25), **COST),
    "hungarian with background": lambda: Hungarian(background_cost=0.4, **COST),
    "closest target": lambda: ClosestTarget(background_cost=0.5, **COST),
    "closest prediction": lambda: ClosestPrediction(**COST),
    "max iou": lambda: MaxIoU(neg_iou_thr=0.3),
    "softmin": lambda: SoftMin(**COST),
    "softmin of predictions": lambda: SoftMin(source="prediction", background_cost=1.0, **COST),
    "balanced": lambda: BalancedSinkhorn(background_cost=0.8, **COST),
    "unbalanced": lambda: UnbalancedSinkhorn(background_cost=0.5, reg_pred=1e3, reg_target=1e-3, **COST),
    "weighted sum": lambda: WeightedSum([Hungarian(), BalancedSinkhorn(background_cost=0.8)], weights=[1, 3], **COST),
}
CLASS_LOSSES: dict[str, tuple[Callable[[], Any], Any, str, Any]] = {
    "cross entropy": (lambda: nn.CrossEntropyLoss(reduction="none"), reference.cross_entropy(), "first", None),
    "weighted": (
        lambda: nn.CrossEntropyLoss(reduction="none", weight=torch.tensor(WEIGHTS)),
        reference.cross_entropy(WEIGHTS),
        "last",
        WEIGHTS,
    ),
    "smooth": (
        lambda: nn.CrossEntropyLoss(reduction="none", weight=torch.tensor(WEIGHTS), label_smoothing=0.1),
        reference.cross_entropy(WEIGHTS, 0.1),
        "first",
        WEIGHTS,
    ),
    "negative probability": (NegativeProbLoss, reference.negative_probability, "none", None),
    "focal": (lambda: SigmoidFocalLoss(alpha=0.25), reference.focal(0.25), "none", None),
    "focal with a background": (lambda: SigmoidFocalLoss(alpha=-1), reference.focal(None), "first", None),
    "focal for each class": (FocalLoss, reference.focal(0.25), "none", None),
    "focal cost": (lambda: SigmoidFocalCost(alpha=0.3), reference.focal_cost(0.3), "last", None),
    "binary": (lambda: nn.BCEWithLogitsLoss(reduction="none"), reference.focal(None, 0), "none", None),
    "binary with a background": (
        lambda: nn.BCEWithLogitsLoss(reduction="none"),
        reference.focal(None, 0),
        "last",
        None,
    ),
    "soft margin": (
        lambda: nn.MultiLabelSoftMarginLoss(reduction="none"),
        lambda logits, label: reference.focal(None, 0)(logits, label) / CLASSES,
        "none",
        None,
    ),
    "margin": (
        lambda: nn.MultiMarginLoss(reduction="none"),
        lambda logits, label: margin(logits, label),
        "first",
        None,
    ),
    "several": (
        lambda: MultipleObjectiveLoss([nn.BCEWithLogitsLoss(reduction="none"), NegativeProbLoss()], [0.5, 2.0]),
        lambda logits, label: (
            0.5 * reference.focal(None, 0)(logits, label) + 2 * reference.negative_probability(logits, label)
        ),
        "none",
        None,
    ),
    "several, one unknown": (
        lambda: MultipleObjectiveLoss([nn.MultiMarginLoss(reduction="none"), NegativeProbLoss()]),
        lambda logits, label: margin(logits, label) + reference.negative_probability(logits, label),
        "first",
        None,
    ),
}
close = torch.testing.assert_close


def margin(logits: Tensor, label: int) -> Tensor:
    others = [(1 - logits[label] + x).clamp(min=0) for c, x in enumerate(logits) if c != label]
    return torch.stack(others).sum() / len(logits)


class Unknown(nn.Module):
    """A loss that nothing is known of."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss, self.calls = loss, 0

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return self.loss(logits, targets)


def make_targets(
    sizes: list[int], position: str, dtype: torch.dtype, *, special: bool = False, seed: int = 0
) -> Targets:
    """Of labels that are no background; special ones have weights, and some are ignored."""
    generator = torch.Generator().manual_seed(seed + 1)
    low, high = {"first": (1, CLASSES), "last": (0, CLASSES - 1), "none": (0, CLASSES)}[position]
    labels = [torch.randint(low, high, (size,), generator=generator) for size in sizes]
    options: dict[str, Any] = {}
    if special:
        options["weights"] = [torch.rand(size, generator=generator).mul_(2).to(dtype) for size in sizes]
        options["ignore"] = [torch.rand(size, generator=generator) < 0.3 for size in sizes]
    return Targets.of((CASE.boxes(sizes, seed), labels), **options).to(dtype)


def make_inputs(sizes: list[int], dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    values = detection_predictions(CASE.boxes(sizes, seed), seed, classes=CLASSES)
    return {name: value.to(dtype).requires_grad_() for name, value in values.items()}


def assert_as_the_reference(
    criterion: DetectionLoss,
    inputs: dict[str, Tensor],
    targets: Targets,
    cls_loss: Any,
    loc_loss: Any,
    **options: Any,
) -> None:
    tolerance = (
        {"rtol": 1e-10, "atol": 1e-12} if inputs["pred_boxes"].dtype == torch.float64 else {"rtol": 1e-5, "atol": 2e-6}
    )
    doubles = {name: value.detach().double().requires_grad_() for name, value in inputs.items()}
    match = criterion.assign(inputs, targets)
    expected = reference.detection_loss(images_of(doubles, targets, match), cls_loss, loc_loss, **options)
    for reduction, value in expected.items():
        criterion.reduction = reduction
        found = criterion.loss(inputs, targets, match)
        close(found.double(), value, **tolerance)
        ones = torch.ones_like(value)
        gradients = torch.autograd.grad(value, list(doubles.values()), ones, retain_graph=True)
        for one, other in zip(
            torch.autograd.grad(found, list(inputs.values()), ones.to(found)), gradients, strict=True
        ):
            close(one.double(), other, **tolerance)


@pytest.mark.parametrize(("scene", "dtype"), [*((scene, torch.float64) for scene in SCENES), ("usual", torch.float32)])
@pytest.mark.parametrize("matcher", MATCHERS)
def test_every_matcher(matcher: str, scene: str, dtype: torch.dtype) -> None:
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIOU, MATCHERS[matcher]())
    inputs, targets = make_inputs(SCENES[scene], dtype), make_targets(SCENES[scene], "first", dtype)
    assert_as_the_reference(criterion, inputs, targets, reference.cross_entropy(), reference.giou, background=0)


@pytest.mark.parametrize("ratio", [None, 1.5])
@pytest.mark.parametrize("matcher", ["max iou", "unbalanced"])
@pytest.mark.parametrize("kind", CLASS_LOSSES)
def test_every_class_loss(kind: str, matcher: str, ratio: float | None) -> None:
    make, own, position, weights = CLASS_LOSSES[kind]
    module = make().double()
    boxes = MultipleObjectiveLoss([nn.L1Loss(reduction="none"), GIOU], [0.05, 2.0])
    criterion = DetectionLoss(
        module, boxes, MATCHERS[matcher](), position, ratio is not None, ratio, negatives_without_positives=2.0
    )
    inputs = make_inputs([3, 0, 1], torch.float64)
    targets = make_targets([3, 0, 1], position, torch.float64, special=True)
    assert_as_the_reference(
        criterion,
        inputs,
        targets,
        own,
        lambda box, target: 0.05 * reference.l1(box, target) + 2 * reference.giou(box, target),
        background={"first": 0, "last": CLASSES - 1, "none": None}[position],
        class_weights=weights,
        ratio=ratio,
        negatives_without_positives=2.0,
    )


def results(criterion: DetectionLoss, inputs: dict[str, Tensor], targets: Any) -> list[Tensor]:
    loss = criterion(inputs, targets)
    return [loss.detach(), *torch.autograd.grad(loss.sum(), list(inputs.values()))]


@pytest.mark.parametrize("block", [1, 40, 1 << 17])
@pytest.mark.parametrize("known", [True, False])
def test_pairs_of_a_plan_in_blocks(block: int, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = nn.CrossEntropyLoss(reduction="none")
    module = loss if known else Unknown(loss)
    criterion = DetectionLoss(module, GIOU, MATCHERS["balanced"]())
    sizes = SCENES["usual"]
    inputs, targets = make_inputs(sizes, torch.float64), make_targets(sizes, "first", torch.float64, special=True)
    expected_results = results(DetectionLoss(loss, GIOU, MATCHERS["balanced"]()), inputs, targets)
    monkeypatch.setattr(expected, "_BLOCK", block)
    found = [results(criterion, inputs, targets)]
    monkeypatch.setattr(expected, "values_are_readable", lambda _: False)
    found.append(results(criterion, inputs, targets))
    for each in found:
        for one, other in zip(each, expected_results, strict=True):
            close(one, other, rtol=1e-10, atol=1e-12)
    assert known or module.calls > (2 if block == 1 << 17 else 4)


def test_a_loss_with_parameters_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(3.0))

        def forward(self, boxes: Tensor, targets: Tensor) -> Tensor:
            return GIOU(boxes, targets) * self.scale

    boxes = Scaled()
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), boxes, MATCHERS["balanced"](), reduction="sum")
    inputs, targets = make_inputs([3, 1], torch.float32), make_targets([3, 1], "first", torch.float32)
    monkeypatch.setattr(expected, "_BLOCK", 8)
    criterion(inputs, targets).backward()
    part = criterion.parts(inputs, targets, criterion.assign(inputs, targets))["loss_loc"]
    assert boxes.scale.grad is not None
    close(boxes.scale.grad, part.detach() / 3)


@pytest.mark.parametrize("kind", ["cross entropy", "focal", "margin"])
def test_nothing_has_a_value_for_each_class_of_each_pair(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            self.size = max(self.size, *(leaf.numel() for leaf in [result] if isinstance(leaf, Tensor)), 0)
            return result

    make, _, position, _ = CLASS_LOSSES[kind]
    monkeypatch.setattr(expected, "_BLOCK", 64)
    targets = make_targets([30, 40], position, torch.float32)
    boxes = make_inputs([30, 40], torch.float32)["pred_boxes"]
    inputs = {"pred_logits": torch.randn(*boxes.shape[:2], 20, requires_grad=True), "pred_boxes": boxes}
    for matcher in (MATCHERS["balanced"](), MATCHERS["hungarian"]()):
        criterion = DetectionLoss(make(), GIOU, matcher, position)
        match = criterion.assign(inputs, targets)
        with Largest() as largest:
            criterion.loss(inputs, targets, match).backward()
        assert largest.size <= 4 * boxes.shape[0] * boxes.shape[1] * 40  # a few indices for each pair


@pytest.mark.parametrize("matcher", ["hungarian", "balanced"])
def test_call_forms(matcher: str) -> None:
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIOU, MATCHERS[matcher]())
    sizes = [2, 0, 3]
    inputs, targets = make_inputs(sizes, torch.float32), make_targets(sizes, "first", torch.float32)
    expected_loss = criterion(inputs, targets)
    assert expected_loss.shape == ()
    by_image = [{name: value[image] for name, value in inputs.items()} for image in range(3)]
    close(criterion(by_image, targets.to_dicts()), expected_loss)
    mask = torch.tensor([[False, True, True, False], [False] * 4, [True, True, False, True]])
    padded = {"boxes": torch.full((3, 4, 4), torch.nan), "labels": torch.full((3, 4), 99), "mask": mask}
    padded["boxes"][mask] = torch.cat([each["boxes"] for each in targets.to_dicts()])
    padded["labels"][mask] = torch.cat([each["labels"] for each in targets.to_dicts()])
    close(criterion(inputs, padded), expected_loss)


def test_one_hot_labels_are_labels() -> None:
    criterion = DetectionLoss(SigmoidFocalLoss(), GIOU, MATCHERS["softmin"](), "none")
    inputs, targets = make_inputs([2, 2], torch.float32), make_targets([2, 2], "none", torch.float32)
    padded = {"boxes": targets.boxes.tensor, "labels": targets.labels.tensor, "mask": targets.mask}
    one_hot = padded | {"labels": nn.functional.one_hot(padded["labels"], CLASSES).float()}
    close(criterion(inputs, one_hot), criterion(inputs, padded))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("make", [Hungarian, UnbalancedSinkhorn])
def test_anchors(make: Any, own: bool) -> None:
    matcher = make(loc_match_module=IoULoss(), is_anchor_based=True)
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIOU, matcher)
    inputs, targets = make_inputs([3, 1], torch.float32), make_targets([3, 1], "first", torch.float32)
    anchors = inputs["pred_boxes"].detach()[0].flip(0)
    anchors = anchors.expand(2, -1, -1) if own else anchors
    elsewhere = inputs | {"pred_boxes": anchors.expand(2, -1, -1)}
    match = make(loc_match_module=IoULoss())(elsewhere, targets)
    close(criterion(inputs, targets, anchors), criterion.loss(inputs, targets, match, anchors))


def test_boxes_in_other_formats_and_units() -> None:
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIOU, MATCHERS["balanced"]())
    inputs, targets = make_inputs([3, 1], torch.float64), make_targets([3, 1], "first", torch.float64)
    corners = inputs["pred_boxes"] / 64
    boxes = torch.cat([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], -1)
    other = Predictions(inputs["pred_logits"], boxes, box_format="cxcywh", normalized=True)
    close(criterion(other, replace(targets, canvas_size=torch.tensor([64.0, 64.0]))), criterion(inputs, targets))


@pytest.mark.parametrize("matcher", ["hungarian", "balanced"])
def test_layers_have_the_sum_of_their_losses(matcher: str) -> None:
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIOU, MATCHERS[matcher](), reduction="sample")
    targets = make_targets([3, 1], "first", torch.float32, special=True)
    layers = [make_inputs([3, 1], torch.float32, seed) for seed in (0, 1)]
    together = {name: torch.stack([layer[name] for layer in layers]) for name in layers[0]}
    close(criterion(together, targets), torch.stack([criterion(layer, targets) for layer in layers]))


def test_unreduced_values_are_those_of_predictions() -> None:
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIOU, MATCHERS["hungarian"](), reduction="none")
    inputs, targets = make_inputs([3, 0], torch.float32), make_targets([3, 0], "first", torch.float32)
    values = criterion(inputs, targets)
    assert isinstance(values, RaggedBatch) and values.shape == inputs["pred_logits"].shape[:2]
    close(
        values.tensor[1],
        nn.functional.cross_entropy(inputs["pred_logits"][1], torch.zeros(12).long(), reduction="none"),
    )


@pytest.mark.parametrize("matcher", ["hungarian", "balanced"])
def test_infinite_logits_of_other_classes(matcher: str) -> None:
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIOU, MATCHERS[matcher]())
    boxes = CASE.boxes([3])
    targets = Targets.of((boxes, [torch.ones(3).long()]))
    inputs = make_inputs([3], torch.float64)
    with torch.no_grad():
        inputs["pred_logits"][..., 3] = -torch.inf
    assert all(value.isfinite().all() for value in results(criterion, inputs, targets))


@pytest.mark.parametrize("matcher", ["hungarian", "balanced"])
def test_empty_images_train_negatives_only_if_asked(matcher: str) -> None:
    inputs, targets = make_inputs([0, 0], torch.float32), make_targets([0, 0], "first", torch.float32)
    options: dict[str, Any] = {"use_hard_negative_mining": True, "neg_to_pos_ratio": 3.0, "reduction": "none"}
    for count in (0, 5):
        criterion = DetectionLoss(
            nn.CrossEntropyLoss(reduction="none"),
            GIOU,
            MATCHERS[matcher](),
            negatives_without_positives=count,
            **options,
        )
        assert criterion(inputs, targets).tensor.count_nonzero(-1).tolist() == [count, count]


def test_cost_modules_need_no_repeated_logits() -> None:
    inputs, targets = make_inputs([3, 2], torch.float32), make_targets([3, 2], "none", torch.float32)
    for module in (NegativeProbLoss(), SigmoidFocalCost(alpha=0.3), SigmoidFocalLoss(alpha=0.3)):
        unknown = Unknown(module)
        cost = Hungarian(cls_match_module=unknown).costs(inputs, targets)["class"]
        assert unknown.calls
        found = Hungarian(cls_match_module=module).costs(inputs, targets)["class"]
        mask = targets.mask.unsqueeze(-1)
        close(found.masked_fill(~mask, 0), cost.masked_fill(~mask, 0))


@pytest.mark.parametrize(
    ("old", "expected_reduction"),
    [((None, False), "none"), ((False, True), "sum"), ((True, None), "mean"), ((False, False), "none")],
)
def test_old_arguments_of_reduction(old: tuple[Any, Any], expected_reduction: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"reduction='{expected_reduction}'"):
        criterion = DetectionLoss(BinaryCrossEntropy(), GIOU, Hungarian(), "none", False, None, *old)
    assert criterion.reduction == expected_reduction


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"cls_loss_module": nn.CrossEntropyLoss()},
            ValueError,
            "cls_loss_module must have reduction='none', got 'mean'",
        ),
        ({"loc_loss_module": nn.L1Loss(reduction="sum")}, ValueError, "loc_loss_module must have reduction='none'"),
        ({"loc_loss_module": "giou"}, TypeError, "loc_loss_module must be a loss"),
        ({"matching_method": Hungarian}, TypeError, "must be a matcher"),
        ({"bg_class_position": "middle"}, ValueError, "'first', 'last', 'none', got 'middle'"),
        ({"use_hard_negative_mining": True}, ValueError, "needs a neg_to_pos_ratio"),
        ({"neg_to_pos_ratio": -1.0}, ValueError, "neg_to_pos_ratio must not be negative, got -1"),
        ({"negatives_without_positives": -1.0}, ValueError, "negatives_without_positives"),
        ({"reduction": "median"}, ValueError, "got 'median'"),
    ],
)
def test_bad_parameters(options: dict[str, Any], error: type[Exception], message: str) -> None:
    usual = {"cls_loss_module": NegativeProbLoss(), "loc_loss_module": GIOU, "matching_method": Hungarian()}
    with pytest.raises(error, match=message):
        DetectionLoss(**usual | options)


def test_a_ratio_without_mining_is_reported() -> None:
    with pytest.warns(UserWarning, match="no effect"):
        DetectionLoss(NegativeProbLoss(), GIOU, Hungarian(), neg_to_pos_ratio=3.0)


@pytest.mark.parametrize(
    ("position", "label", "message"),
    [
        ("first", 0, "label 0 at position 1 of sample 0 is that of the background, the first of 4 classes"),
        ("last", 3, "label 3 at position 1 of sample 0 is that of the background, the last of 4 classes"),
        ("none", 4, "label 4 at position 1 of sample 0 is out of range for 4 classes"),
    ],
)
def test_labels_that_are_no_class(position: str, label: int, message: str) -> None:
    criterion = DetectionLoss(NegativeProbLoss(), GIOU, Hungarian(loc_match_module=GIOU), position)
    boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 2)]
    with pytest.raises(ValueError, match=message):
        criterion(make_inputs([2], torch.float32), Targets.of((boxes, [torch.tensor([1, label])])))


def test_matches_of_something_else() -> None:
    inputs, targets = make_inputs([3, 1], torch.float32), make_targets([3, 1], "first", torch.float32)
    criterion = DetectionLoss(nn.CrossEntropyLoss(reduction="none"), GIOU, MATCHERS["balanced"]())
    plan = criterion.assign(inputs, targets)
    assert isinstance(plan, Plan)
    fewer = {name: value[:, :5] for name, value in inputs.items()}
    with pytest.raises(ValueError, match=r"weights \(2, 5, 3\) and a background \(2, 5\).*got \(2, 12, 3\)"):
        criterion.loss(fewer, targets, plan)
    with pytest.raises(ValueError, match="sizes differ"):
        criterion.loss(inputs, make_targets([1, 3], "first", torch.float32), plan)
    assignment = Assignment.from_index(torch.full((2, 7), -1), num_targets=torch.tensor([3, 1]))
    with pytest.raises(ValueError, match=r"for each prediction, \(2, 12\), got \(2, 7\)"):
        criterion.loss(inputs, targets, assignment)
    with pytest.raises(TypeError, match="must give an Assignment or a Plan, got Tensor"):
        criterion.loss(inputs, targets, plan.background)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="logits and boxes"):
        criterion.loss({"pred_boxes": inputs["pred_boxes"]}, targets, plan)


def test_class_weights_that_do_not_fit() -> None:
    inputs, targets = make_inputs([3, 1], torch.float32), make_targets([3, 1], "first", torch.float32)
    several = MultipleObjectiveLoss([nn.CrossEntropyLoss(torch.ones(CLASSES), reduction="none"), NegativeProbLoss()])
    with pytest.raises(ValueError, match="of several class losses none may have class weights"):
        DetectionLoss(several, GIOU, MATCHERS["hungarian"]())(inputs, targets)

    class Weighted(NegativeProbLoss):
        weight = torch.ones(3)

    with pytest.raises(ValueError, match=r"the weight of the class loss .*\(4,\), got \(3,\)"):
        DetectionLoss(Weighted(), GIOU, MATCHERS["hungarian"]())(inputs, targets)


def test_a_class_loss_of_another_shape() -> None:
    criterion = DetectionLoss(lambda logits, labels: logits.mean(0), GIOU, MATCHERS["hungarian"]())
    with pytest.raises(ValueError, match="must give a value for each class or each prediction"):
        criterion(make_inputs([3, 1], torch.float32), make_targets([3, 1], "first", torch.float32))


def test_weights_of_targets_are_of_targets() -> None:
    targets = make_targets([3, 1], "first", torch.float32)
    targets = replace(targets, weights=combine_data([torch.full((3,), 2.0), torch.full((1,), 2.0)]))
    criterion = DetectionLoss(
        nn.CrossEntropyLoss(reduction="none"), GIOU, MATCHERS["hungarian"](), "first", True, 0.0, reduction="sum"
    )
    inputs = make_inputs([3, 1], torch.float32)
    close(criterion(inputs, targets), 2 * criterion(inputs, replace(targets, weights=None)))


@pytest.mark.parametrize("name", ["max iou", "soft"])
@pytest.mark.parametrize("per_image", [False, True])
def test_encoded_boxes(name: str, per_image: bool) -> None:
    """Decoded for the matcher, and compared with what the coder makes of the targets: for hard matches as RetinaNet."""
    case = retinanet.CASE
    predictions, targets = case.predictions([3, 0, 2]), case.targets([3, 0, 2])
    anchors = retinanet.ANCHORS.expand(3, -1, 4) if per_image else retinanet.ANCHORS
    given = {"pred_logits": predictions["cls_logits"], "pred_boxes": predictions["bbox_regression"].requires_grad_()}
    matcher = BalancedSinkhorn(num_iter=5) if name == "soft" else case.make().matcher
    coder = DeltaXYWHCoder()
    loss = DetectionLoss(SigmoidFocalLoss(), L1Loss(), matcher, "none", reduction="sum", bbox_coder=coder)
    match = loss.assign(given, targets, anchors)
    decoded = {**given, "pred_boxes": coder.decode(retinanet.ANCHORS, given["pred_boxes"])}
    plain = DetectionLoss(SigmoidFocalLoss(), L1Loss(), matcher, "none", reduction="sum")
    same = plain.assign(decoded, targets, None if name == "soft" else anchors)
    plan = match if name == "soft" else match.plan()
    torch.testing.assert_close(plan.background, (same if name == "soft" else same.plan()).background)
    found = loss.parts(given, targets, match, anchors)["loss_loc"]
    expected = torch.zeros((), dtype=torch.float64)
    for image, sample in enumerate(targets.to_dicts()):
        for g, box in enumerate(sample["boxes"]):
            distance = (given["pred_boxes"][image] - coder.encode(retinanet.ANCHORS, box)).abs().sum(-1)
            expected = expected + (plan.weights.tensor[image, :, g] * distance).double().sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(each, given["pred_boxes"])[0] for each in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
    assert loss(given, targets, anchors).isfinite()
    if name == "max iou":
        own = case.make(reduction="sum")(predictions, targets)
        torch.testing.assert_close(found, own["loss_bbox"])
