"""The Hungarian matcher against a loop over images, and what must not matter to it."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from reference import boxes as box_reference
from reference import costs as cost_reference
from reference import hungarian as reference
from torch import Tensor, nn
from torch.nn import functional as F

import matchers
from matchers import Assignment, Hungarian, Pairs, Predictions, Targets, detr_costs, giou
from matchers.costs.classes import focal_cost
from matchers.testing import Image, Scene, make_scene, scenes
from ragged.testing import FILLERS

Reference = Callable[[Image], Tensor]


def run(matcher: Hungarian, scene: Scene, *priors: Tensor) -> Assignment:
    return matcher(scene.predictions, scene.targets, *priors)


def flat(assignment: Assignment, what: str = "target_index") -> list[Tensor]:
    value = getattr(assignment, what)
    lead = assignment.num_targets.dim()
    return list(value.flatten(0, lead - 1)) if lead else [value]


def detr(image: Image, classes: str = "focal", weights: Sequence[float] = (2, 5, 2)) -> Tensor:
    return cost_reference.detr(
        image.logits, image.labels, image.boxes, image.gt_boxes, classes=classes, weights=weights
    )


def check_image(image: Image, row: Tensor, cost: Tensor, *, background_cost: float | None = None) -> None:
    """One image's assignment is a one-to-one matching of the targets that count, at the best total of ``cost``."""
    matchable = ~image.ignore
    pairs = reference.made_pairs(row)
    assert row.min() >= -2 if len(row) else True
    assert len({g for g, _ in pairs}) == len(pairs)
    assert all(g < len(matchable) and matchable[g] for g, _ in pairs)
    if background_cost is None:
        assert len(pairs) == min(int(matchable.sum()), len(row))
        _, bad, total = reference.score(cost, pairs)
        best_bad, best = reference.best_total(cost[matchable])
        assert bad == best_bad
        assert total == pytest.approx(best, rel=1e-4, abs=1e-3)
        return
    values = [float(cost[pair]) for pair in pairs]
    assert all(value < background_cost + 1e-4 for value in values)
    gain = math.fsum(value - background_cost for value in values)
    assert gain == pytest.approx(reference.best_gain(cost[matchable], background_cost), rel=1e-4, abs=1e-3)


def check(matcher: Hungarian, scene: Scene, cost: Reference, **options: Any) -> Assignment:
    assignment = run(matcher, scene)
    rows = flat(assignment)
    for image, row, quality, invalid in zip(
        scene.images(), rows, flat(assignment, "quality"), assignment.num_invalid.reshape(-1).tolist(), strict=True
    ):
        table = cost(image)
        check_image(image, row, table, **options)
        assert torch.equal(quality, (row >= 0).float())
        assert invalid == int((~table[~image.ignore].isfinite()).sum())
    return assignment


# --- costs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", ["focal", "softmax"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 4, "degenerate": 0.2},
        {"layers": (2,), "slack": 3, "filler": "nan"},
        {"ignored": 0.4, "filler": "inf"},
        {"near": 1.0, "layers": (2, 1), "ignored": 0.2, "filler": "garbage"},
    ],
    ids=["plain", "ties", "layers", "ignored", "all"],
)
@pytest.mark.parametrize("num_predictions", [1, 6, 30])
def test_against_a_loop_over_images(classes: str, options: dict[str, Any], num_predictions: int) -> None:
    scene = make_scene([5, 0, 1, 12], num_predictions, seed=3, **options)
    weights = (1.5, 0.5, 3.0)
    terms = detr_costs(classes=classes, class_weight=weights[0], l1_weight=weights[1], giou_weight=weights[2])
    check(Hungarian(terms), scene, lambda image: detr(image, classes, weights))


def detr_of_own_class(image: Image, weights: Sequence[float] = (2, 5, 2)) -> Tensor:
    """The focal cost reads the logit of the target's class alone, which may be finite where another one is not."""
    own = image.logits[:, image.labels].T
    return detr(replace(image, logits=image.logits.nan_to_num(0, 0, 0)), weights=weights).masked_fill(
        ~own.isfinite(), math.nan
    )


@examples(30)
@given(scenes(max_images=3, max_targets=15, min_predictions=1, max_predictions=25))
def test_any_scene(scene: Scene) -> None:
    check(Hungarian(detr_costs()), scene, detr_of_own_class)


@pytest.mark.parametrize("background_cost", [-1e9, -2.0, 0.0, 1.0, 5.0, 1e4])
@pytest.mark.parametrize("options", [{}, {"steps": 4, "ignored": 0.3}, {"bad": 0.4}], ids=["plain", "ties", "bad"])
def test_background_cost(background_cost: float, options: dict[str, Any]) -> None:
    scene = make_scene([5, 0, 1, 12], 8, seed=4, near=1.0, **options)
    matcher = Hungarian(detr_costs(l1_weight=0.1), background_cost=background_cost)
    check(matcher, scene, lambda image: detr_of_own_class(image, (2, 0.1, 2)), background_cost=background_cost)


def class_only(pairs: Pairs) -> Tensor:
    return pairs.logits_of_labels()


def with_logits(rows: Sequence[Sequence[float]], labels: Sequence[int]) -> tuple[Predictions, Targets]:
    logits = torch.tensor([rows])
    boxes = torch.zeros(1, len(rows), 4)
    targets = Targets.of([{"boxes": torch.zeros(len(labels), 4), "labels": torch.tensor(labels, dtype=torch.int64)}])
    return Predictions(logits, boxes), targets


def test_a_pair_that_costs_as_much_as_the_background_is_not_made() -> None:
    predictions, targets = with_logits([[2.0], [3.0]], [0])
    for background_cost, expected in [(1.0, [-1, -1]), (2.0, [-1, -1]), (2.5, [0, -1]), (3.5, [0, -1])]:
        assignment = Hungarian(class_only, background_cost=background_cost)(predictions, targets)
        assert assignment.target_index.tolist() == [expected]


def test_leaving_a_target_out_may_be_better() -> None:
    """The total counts, not each pair: both pairs of cost 1 and 1.5 gain less than the one of cost 0."""
    predictions, targets = with_logits([[0.0, 1.0], [1.5, 9.0]], [0, 1])
    assert Hungarian(class_only)(predictions, targets).target_index.tolist() == [[1, 0]]
    assert Hungarian(class_only, background_cost=1.6)(predictions, targets).target_index.tolist() == [[0, -1]]


def test_a_large_background_cost_changes_nothing() -> None:
    predictions, targets = with_logits([[0.3, 0.2], [0.2, 0.3], [0.1, 0.1]], [0, 1])
    expected = Hungarian(class_only)(predictions, targets).target_index
    assert torch.equal(Hungarian(class_only, background_cost=1e8)(predictions, targets).target_index, expected)


def test_cost_as_function_or_terms() -> None:
    scene = make_scene([3, 0, 6], 5, seed=6)

    def cost(pairs: Pairs) -> Tensor:
        overlap = giou(pairs.gt, pairs.predicted)
        return 2 * focal_cost(pairs.logits_of_labels()) + 2 * (1 - overlap)

    terms = {
        "a": lambda pairs: 2 * focal_cost(pairs.logits_of_labels()),
        "b": lambda pairs: 2 * (1 - giou(pairs.gt, pairs.predicted)),
    }
    for given_cost in (cost, terms, detr_costs(l1_weight=0)):
        check(Hungarian(given_cost), scene, lambda image: detr(image, weights=(2, 0, 2)))
    own = Hungarian(terms).costs(scene.predictions, scene.targets)
    assert list(own) == ["a", "b"]
    assert all(term.shape == (3, 6, 5) for term in own.values())
    assert Hungarian(cost).costs(scene.predictions, scene.targets)["cost"].shape == (3, 6, 5)


def test_costs_of_padded_slots() -> None:
    scene = make_scene([3, 0, 6], 5, seed=6, layers=(2,), slack=2, filler="nan")
    own = Hungarian(detr_costs(l1_weight=0)).costs(scene.predictions, scene.targets)
    total = sum(own.values())
    assert total.shape == (2, 3, 8, 5)
    for image, table in zip(scene.images(), total.flatten(0, 1), strict=True):
        torch.testing.assert_close(
            table[: len(image.labels)].double(), detr(image, weights=(2, 0, 2)), rtol=1e-4, atol=1e-4
        )


class OwnLoss(nn.Module):
    """Takes (n, C) and (n,) only, and gives (n,)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        assert logits.dim() == 2 and labels.shape == logits.shape[:1] and labels.dtype == torch.int64
        return self.scale * F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)


WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.1])
CLASS_MODULES: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.CrossEntropyLoss(reduction="none"),
    "weighted": lambda: nn.CrossEntropyLoss(weight=WEIGHT.clone(), reduction="none"),
    "smooth": lambda: nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none"),
    "ignore": lambda: nn.CrossEntropyLoss(ignore_index=2, reduction="none"),
    "own": OwnLoss,
}


def module_cost(image: Image, boxes: Tensor, cls: nn.Module | None, loc: nn.Module | None) -> Tensor:
    """One pair at a time."""
    table = torch.zeros(len(image.labels), len(image.logits), dtype=torch.float64)
    for g in range(table.shape[0]):
        for p in range(table.shape[1]):
            if cls is not None:
                table[g, p] += float(cls(image.logits[p : p + 1], image.labels[g : g + 1]).detach())
            if loc is not None:
                table[g, p] += float(loc(boxes[p : p + 1], image.gt_boxes[g : g + 1]).sum())
    return table


@pytest.mark.parametrize("name", CLASS_MODULES)
@pytest.mark.parametrize("with_boxes", [False, True])
def test_modules(name: str, with_boxes: bool) -> None:
    scene = make_scene([4, 0, 1, 7], 5, seed=7, layers=(2,), ignored=0.2, slack=1, filler="nan")
    module, loc = CLASS_MODULES[name](), nn.L1Loss(reduction="none") if with_boxes else None
    matcher = Hungarian(cls_match_module=module, loc_match_module=loc)
    check(matcher, scene, lambda image: module_cost(image, image.boxes, module, loc))
    assert all(not term.requires_grad for term in matcher.costs(scene.predictions, scene.targets).values())


def test_box_module_alone() -> None:
    scene = make_scene([4, 0, 1, 7], 5, seed=8)
    scene = replace(scene, predictions=Predictions(boxes=scene.predictions.boxes))
    loc = nn.SmoothL1Loss(reduction="none")
    assignment = Hungarian(loc_match_module=loc)(scene.predictions, scene.targets)
    for index, row in enumerate(assignment.target_index):
        gt = scene.targets.boxes.split()[index]
        table = (
            torch.stack([loc(box.expand(5, 4), scene.predictions.boxes[index]).sum(-1) for box in gt])
            if len(gt)
            else torch.zeros(0, 5)
        )
        pairs = reference.made_pairs(row)
        assert reference.score(table, pairs)[2] == pytest.approx(reference.best_total(table)[1], rel=1e-5)


@pytest.mark.parametrize("batched", [False, True])
def test_anchors(batched: bool) -> None:
    scene = make_scene([4, 0, 1, 7], 5, seed=9, layers=(2,))
    priors = scene.predictions.boxes[0].flip(1) + 1 if batched else scene.predictions.boxes[0, 0].flip(0) + 1
    module, loc = nn.CrossEntropyLoss(reduction="none"), nn.L1Loss(reduction="none")
    matcher = Hungarian(cls_match_module=module, loc_match_module=loc, is_anchor_based=True)
    assignment = run(matcher, scene, priors)
    expanded = priors.expand(2, 4, 5, 4).flatten(0, 1)
    for image, own, row in zip(scene.images(), expanded, flat(assignment), strict=True):
        check_image(image, row, module_cost(image, own, module, loc))


def test_modules_are_parts_of_the_matcher() -> None:
    matcher = Hungarian(cls_match_module=OwnLoss())
    assert [name for name, _ in matcher.named_parameters()] == ["cls_match_module.scale"]


def test_copies_have_their_own_modules() -> None:
    scene = make_scene([3], 4)
    original = Hungarian(cls_match_module=OwnLoss())
    before = original.costs(scene.predictions, scene.targets)["class"]
    other = copy.deepcopy(original)
    with torch.no_grad():
        other.cls_match_module.scale.mul_(2)
    torch.testing.assert_close(other.costs(scene.predictions, scene.targets)["class"], 2 * before)
    torch.testing.assert_close(original.costs(scene.predictions, scene.targets)["class"], before)


def test_pickle() -> None:
    pickle.loads(pickle.dumps(Hungarian()))


# --- what must not matter --------------------------------------------------------------------------------------------


@examples(60)
@given(
    scenes(max_images=4, max_targets=12, min_predictions=1, max_predictions=20),
    st.data(),
    st.sampled_from(FILLERS),
    st.integers(0, 4),
    st.sampled_from([None, 3.0]),
)
def test_only_the_image_matters(
    scene: Scene, data: st.DataObject, filler: str, slack: int, background_cost: float | None
) -> None:
    matcher = Hungarian(
        detr_costs(classes=data.draw(st.sampled_from(["focal", "softmax"]))), background_cost=background_cost
    )
    result = run(matcher, scene)
    padded = run(matcher, scene.padded(slack, filler))
    assert torch.equal(padded.target_index, result.target_index)
    assert torch.equal(padded.num_invalid, result.num_invalid)
    order = data.draw(st.permutations(range(len(scene.targets.num_targets))))
    permuted = run(matcher, scene.take(order))
    assert torch.equal(permuted.target_index, result.target_index[..., order, :])
    assert torch.equal(permuted.num_invalid, result.num_invalid[..., order])
    alone = run(matcher, scene.take(order[:1]))
    assert torch.equal(alone.target_index, result.target_index[..., order[:1], :])


def test_ignored_targets_may_stand_anywhere() -> None:
    scene = make_scene([6, 3], 9, seed=10, ignored=0.5)
    without = scene.images()
    matcher = Hungarian(detr_costs(), ignore_iof=2.0)
    result = run(matcher, scene).target_index
    for image, row in zip(without, result, strict=True):
        kept = (~image.ignore).nonzero().flatten()
        targets = Targets.of([{"boxes": image.gt_boxes[kept], "labels": image.labels[kept]}])
        own = matcher(Predictions(image.logits[None], image.boxes[None]), targets).target_index[0]
        assert [int(kept[g]) if g >= 0 else g for g in own.tolist()] == row.tolist()


@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("layers", [(), (2,)])
def test_predictions_in_ignored_regions(threshold: float, layers: tuple[int, ...]) -> None:
    scene = make_scene([6, 0, 1, 5], 20, seed=11, ignored=0.6, near=0.7, layers=layers, bad=0.1, slack=2, filler="nan")
    assignment = run(Hungarian(detr_costs(), ignore_iof=threshold), scene)
    plain = run(Hungarian(detr_costs(), ignore_iof=2.0), scene)
    found = 0
    for image, row, other in zip(scene.images(), flat(assignment), flat(plain), strict=True):
        inside = reference.in_ignored_region(image.boxes, image.gt_boxes[image.ignore], threshold)
        expected = [-2 if g < 0 and hit else g for g, hit in zip(other.tolist(), inside, strict=True)]
        assert row.tolist() == expected
        found += expected.count(-2)
    assert found > 0


def test_anchors_in_ignored_regions() -> None:
    targets = Targets.of(
        [{"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([0]), "ignore": [True]}]
    )
    predictions = Predictions(torch.zeros(1, 3, 2))
    priors = torch.tensor([[1.0, 1.0, 2.0, 2.0], [7.0, 0.0, 9.5, 8.0], [20.0, 20.0, 30.0, 30.0]])
    matcher = Hungarian(loc_match_module=nn.L1Loss(reduction="none"), is_anchor_based=True)
    assert matcher(predictions, targets, priors).target_index.tolist() == [[-2, -1, -1]]


@pytest.mark.parametrize("units", [(False, False), (True, True), (False, True), (True, False)])
@pytest.mark.parametrize("formats", [("xyxy", "cxcywh"), ("cxcywh", "xyxy"), ("xywh", "cxcywh"), ("xyxy", "xywh")])
def test_formats_and_units(units: tuple[bool, bool], formats: tuple[str, str]) -> None:
    scene = make_scene([5, 0, 2], 9, seed=12, layers=(2,), ignored=0.3)
    expected = run(Hungarian(normalized=False), scene)
    given_scene = scene.in_format(predictions=formats[0], targets=formats[1], normalized=units)
    for normalized in (False, True):
        result = run(Hungarian(normalized=normalized), given_scene)
        if not normalized:
            assert torch.equal(result.target_index, expected.target_index)
    own = Hungarian().costs(given_scene.predictions, given_scene.targets)  # in fractions by default
    pixels = Hungarian(normalized=False).costs(scene.predictions, scene.targets)
    torch.testing.assert_close(own["l1"] * 64, pixels["l1"], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(own["giou"], pixels["giou"], rtol=1e-4, atol=1e-4)
    assert torch.equal(own["class"], pixels["class"])


def test_canvas_of_each_image() -> None:
    scene = make_scene([3, 2], 6, seed=13)
    canvas = torch.tensor([[64.0, 128.0], [32.0, 64.0]])
    targets = replace(scene.targets, canvas_size=canvas)
    own = Hungarian().costs(scene.predictions, targets)["l1"]
    for index, (height, width) in enumerate(canvas.tolist()):
        size = torch.tensor([width, height, width, height])
        for g, box in enumerate(targets.boxes.split()[index]):
            gt = box_reference.convert((box / size).tolist(), "xyxy", "cxcywh")
            for p, predicted in enumerate(scene.predictions.boxes[index]):
                other = box_reference.convert((predicted / size).tolist(), "xyxy", "cxcywh")
                assert float(own[index, g, p]) == pytest.approx(5 * cost_reference.l1(gt, other), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("classes", ["focal", "softmax"])
def test_half_precision(dtype: torch.dtype, classes: str) -> None:
    half = make_scene([5, 0, 12], 9, seed=14, bad=0.1).cast(dtype)
    wide = half.cast(torch.float32)
    matcher = Hungarian(detr_costs(classes=classes))
    assert torch.equal(run(matcher, half).target_index, run(matcher, wide).target_index)
    computed = matcher.costs(half.predictions, half.targets)
    for name, term in matcher.costs(wide.predictions, wide.targets).items():
        assert computed[name].dtype == torch.float32
        torch.testing.assert_close(computed[name], term, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", CLASS_MODULES)
def test_half_precision_of_modules(name: str) -> None:
    half = make_scene([5, 0, 12], 9, seed=14).cast(torch.float16)
    wide = half.cast(torch.float32)
    matcher = Hungarian(cls_match_module=CLASS_MODULES[name](), loc_match_module=nn.L1Loss(reduction="none"))
    computed = matcher.costs(half.predictions, half.targets)
    for name, term in matcher.costs(wide.predictions, wide.targets).items():
        torch.testing.assert_close(computed[name], term, rtol=0, atol=0)


def test_float64() -> None:
    scene = make_scene([5, 0, 12], 9, seed=15)
    matcher = Hungarian(detr_costs())
    wide = scene.cast(torch.float64)
    assert torch.equal(run(matcher, scene).target_index, run(matcher, wide).target_index)
    assert all(term.dtype == torch.float64 for term in matcher.costs(wide.predictions, wide.targets).values())


# --- nasty predictions -----------------------------------------------------------------------------------------------


def test_bad_predictions_are_matched_last() -> None:
    scene = make_scene([3, 3], 4, seed=16)
    boxes, logits = scene.predictions.boxes.clone(), scene.predictions.logits.clone()
    boxes[0, 1, 2], logits[1, 0] = math.nan, math.nan
    assignment = Hungarian(detr_costs())(Predictions(logits, boxes), scene.targets)
    assert assignment.target_index[0, 1] == -1 and assignment.target_index[1, 0] == -1
    assert assignment.num_positives.tolist() == [3, 3]
    assert assignment.num_invalid.tolist() == [3, 3]
    # Without a choice they are matched all the same.
    everything = Hungarian(detr_costs())(Predictions(logits, torch.full_like(boxes, math.inf)), scene.targets)
    assert everything.num_positives.tolist() == [3, 3]
    assert everything.num_invalid.tolist() == [12, 12]
    none = Hungarian(detr_costs(), background_cost=100.0)(
        Predictions(logits, torch.full_like(boxes, math.inf)), scene.targets
    )
    assert none.num_positives.tolist() == [0, 0]
    assert none.num_invalid.tolist() == [12, 12]


@pytest.mark.parametrize("size", [-1e8, -1e9, -1e12])
def test_a_box_turned_inside_out_is_not_the_best(size: float) -> None:
    box = [0.5, 0.5, 0.2, 0.2]
    boxes = torch.tensor([[box, [0.5, 0.5, size, 0.2]]])
    targets = Targets.of(
        [{"boxes": torch.tensor([box]), "labels": torch.tensor([0])}], box_format="cxcywh", normalized=True
    )
    assert Hungarian()({"pred_logits": torch.zeros(1, 2, 2), "pred_boxes": boxes}, targets).target_index.tolist() == [
        [0, -1]
    ]


def test_nothing_to_match() -> None:
    for counts in ([0, 0], [0], []):
        scene = make_scene(counts, 4, layers=(2,))
        assignment = run(Hungarian(detr_costs()), scene)
        assert assignment.target_index.shape == (2, len(counts), 4)
        assert (assignment.target_index == -1).all()
        assert assignment.max_pairs == 0
        assert assignment.pairs()[0].shape == (2, len(counts), 0)


@pytest.mark.parametrize("counts", [[3, 0], [0, 0], [1]])
@pytest.mark.parametrize("layers", [(), (2,)])
def test_no_predictions(counts: list[int], layers: tuple[int, ...]) -> None:
    scene = make_scene(counts, 0, layers=layers)
    assignment = run(Hungarian(detr_costs()), scene)
    assert assignment.target_index.shape == (*layers, len(counts), 0)
    assert assignment.num_positives.sum() == 0


def test_no_anchors() -> None:
    scene = make_scene([2, 0], 0)
    matcher = Hungarian(loc_match_module=nn.L1Loss(reduction="none"), is_anchor_based=True)
    predictions = Predictions(torch.zeros(2, 0, 3))
    assert matcher(predictions, scene.targets, torch.zeros(2, 0, 4)).target_index.shape == (2, 0)


def test_more_targets_than_predictions() -> None:
    scene = make_scene([5000, 2], 20, seed=17)
    check(Hungarian(matchers.detr_costs(l1_weight=0)), scene.take([1, 0]), lambda image: own_costs(image))


def own_costs(image: Image) -> Tensor:
    """Ours, of the one image: the reference is too slow for so many targets."""
    targets = Targets.of([{"boxes": image.gt_boxes, "labels": image.labels}])
    terms = Hungarian(detr_costs(l1_weight=0)).costs(Predictions(image.logits[None], image.boxes[None]), targets)
    return sum(terms.values())[0].double()


def test_no_gradient_and_no_change_of_the_inputs() -> None:
    scene = make_scene([3, 1], 5, seed=18, bad=0.2)
    logits, boxes = (value.clone().requires_grad_() for value in (scene.predictions.logits, scene.predictions.boxes))
    assignment = Hungarian(detr_costs())(Predictions(logits, boxes), scene.targets)
    assert not assignment.quality.requires_grad
    torch.testing.assert_close(logits.detach(), scene.predictions.logits, equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(boxes.detach(), scene.predictions.boxes, equal_nan=True, rtol=0, atol=0)


def test_layers_are_matched_each_on_its_own() -> None:
    scene = make_scene([[4, 0], [1, 7], [2, 2]], 6, seed=19, layers=(2,), ignored=0.2)
    assignment = run(Hungarian(detr_costs()), scene)
    assert assignment.target_index.shape == (2, 3, 2, 6)
    for layer in range(2):
        predictions = Predictions(scene.predictions.logits[layer], scene.predictions.boxes[layer])
        own = Hungarian(detr_costs())(predictions, scene.targets)
        assert torch.equal(own.target_index, assignment.target_index[layer])


def test_dicts_as_users_have_them() -> None:
    scene = make_scene([3, 1], 5, seed=20)
    expected = run(Hungarian(detr_costs()), scene).target_index
    logits, boxes = scene.predictions.logits, scene.predictions.boxes
    targets = scene.targets.to_dicts()
    together = {"pred_logits": logits, "pred_boxes": boxes, "aux_outputs": []}
    one_by_one = [{"pred_logits": a, "pred_boxes": b} for a, b in zip(logits, boxes, strict=True)]
    for predictions in (together, one_by_one):
        assert torch.equal(Hungarian(detr_costs())(predictions, targets).target_index, expected)


# --- bad arguments ---------------------------------------------------------------------------------------------------


def test_bad_arguments_of_the_matcher() -> None:
    l1 = nn.L1Loss(reduction="none")
    with pytest.raises(ValueError, match="give either cost or loss modules, not both"):
        Hungarian(class_only, loc_match_module=l1)
    with pytest.raises(ValueError, match=r"box cost module must have reduction='none', got 'mean'"):
        Hungarian(loc_match_module=nn.L1Loss())
    with pytest.raises(ValueError, match=r"class cost module must have reduction='none', got 'sum'"):
        Hungarian(cls_match_module=nn.CrossEntropyLoss(reduction="sum"))
    with pytest.raises(TypeError, match="cost must be a function of pairs, (got|or a mapping)"):
        Hungarian(3.0)
    with pytest.raises(TypeError, match="cost must be a function of pairs, (got|or a mapping)"):
        Hungarian({})
    with pytest.raises(ValueError, match="a cost needs a class module or a box module, got neither"):
        Hungarian(is_anchor_based=True)
    with pytest.raises(ValueError, match=r"classes must be 'focal' or 'softmax', got 'sigmoid'"):
        detr_costs(classes="sigmoid")


def test_bad_arguments_of_a_call(scene: Scene) -> None:
    matcher = Hungarian(detr_costs())
    logits, boxes = scene.predictions.logits, scene.predictions.boxes
    with pytest.raises(
        ValueError, match=r"batch shape \(3,\) of predictions must end with the batch shape \(4,\) of targets"
    ):
        matcher(Predictions(logits[:3], boxes[:3]), scene.targets)
    with pytest.raises(ValueError, match=r"batch shape \(4, 2\) of predictions must end"):
        matcher(Predictions(boxes=boxes.unsqueeze(1).expand(4, 2, 7, 4)), scene.targets)
    with pytest.raises(ValueError, match=r"batch shape \(\) of predictions must end"):
        matcher(Predictions(logits[0], boxes[0]), scene.targets)
    with pytest.raises(ValueError, match="needs class logits, got predictions without them"):
        matcher(Predictions(boxes=boxes), scene.targets)
    with pytest.raises(ValueError, match="needs predicted boxes, got predictions without them"):
        matcher(Predictions(logits), scene.targets)
    with pytest.raises(ValueError, match=r"targets must be on the device of predictions \(meta\), got cpu"):
        matcher(Predictions(logits.to("meta"), boxes.to("meta")), scene.targets)
    with pytest.raises(ValueError, match=r"label \d at position \d of sample \d is out of range for 1 classes"):
        matcher(Predictions(logits[..., :1], boxes), scene.targets)
    with pytest.raises(ValueError, match=r"boxes are pixels, but fractions of the image are needed: .*canvas_size"):
        Hungarian()(scene.predictions, scene.targets)
    with pytest.raises(
        ValueError, match=r"the cost 'a' must be a tensor \(targets, predictions\) = \(15, 7\), got \(7, 15\)"
    ):
        Hungarian({"a": lambda pairs: torch.zeros(7, len(pairs))})(scene.predictions, scene.targets)
    with pytest.raises(ValueError, match="got float"):
        Hungarian(lambda pairs: 1.0)(scene.predictions, scene.targets)


def test_bad_priors(scene: Scene) -> None:
    matcher = Hungarian(loc_match_module=nn.L1Loss(reduction="none"), is_anchor_based=True)
    with pytest.raises(ValueError, match="Hungarian needs priors: with is_anchor_based=True, xyxy boxes"):
        run(matcher, scene)
    for shape in [(6, 4), (3, 7, 4), (2, 4, 7, 4)]:
        with pytest.raises(ValueError, match=r"priors must have shape \(7, 4\) or \(4, 7, 4\), got"):
            run(matcher, scene, torch.zeros(shape))
    with pytest.raises(ValueError, match=r"priors must have shape \(…, 4\), got \(7, 5\)"):
        run(matcher, scene, torch.zeros(7, 5))


def test_images_may_not_be_matched_to_nothing(scene: Scene) -> None:
    with pytest.raises(TypeError, match="targets must be Targets, a list of dicts"):
        Hungarian(detr_costs())(scene.predictions, 3)
    with pytest.raises(TypeError, match="predictions must be Predictions, a dict or a list of dicts, got int"):
        Hungarian(detr_costs())(3, scene.targets)


def test_terms_of_weight_0_are_left_out() -> None:
    assert list(detr_costs()) == ["class", "l1", "giou"]
    assert list(detr_costs(class_weight=0.0, giou_weight=0)) == ["l1"]
    with pytest.raises(TypeError, match="got no term"):
        Hungarian(detr_costs(class_weight=0, l1_weight=0, giou_weight=0))
