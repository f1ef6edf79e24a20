"""What all dense matchers promise: only the image itself matters, and how it is computed does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import EVERY_MATCHER
from cases.combinations import CHOICES
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from reference import dense as reference
from torch import Tensor

from matchers import ATSS, Assignment, MaxIoU, Predictions, Targets, TaskAligned
from matchers.pairs import pairs as pairs_module
from matchers.pairs import problem as problem_module
from matchers.pairs import tiles as tiles_module
from matchers.testing import Scene
from ragged.testing import FILLERS, assert_no_host_sync

Call = Callable[[Predictions | None, Targets, Tensor], Assignment]
RULES: dict[str, Call] = {name: matcher for name, (matcher, priors) in EVERY_MATCHER.items() if priors is not None}
# They look at anchors alone.
NO_LEARNING: dict[str, Call] = {
    **{name: matcher for name, matcher in RULES.items() if CHOICES[type(matcher).__name__].kind == "anchors"},
    "atss": ATSS(),
    "max_iou all": MaxIoU(pos_iou_thr=0.6, neg_iou_thr=(0.1, 0.4), gt_max_assign_all=True),
}
MATCHERS: dict[str, Call] = {**RULES, **NO_LEARNING, "yolov8": TaskAligned.yolov8()}
# FCOS looks at points alone.
LEARNING = [name for name in MATCHERS if name not in NO_LEARNING and name != "fcos"]
each_matcher = pytest.mark.parametrize("name", MATCHERS)
each_learning = pytest.mark.parametrize("name", LEARNING)


def priors_of(name: str, count: int | None = None) -> Tensor:
    return reference.anchors(count=count) if name in NO_LEARNING else reference.grid(count=count)


def run(name: str, scene: Scene, priors: Tensor | None = None) -> Assignment:
    return MATCHERS[name](scene.predictions, scene.targets, priors_of(name) if priors is None else priors)


def same(result: Assignment, expected: Assignment, *, exact: bool = True) -> None:
    """The same decisions. Qualities may differ by rounding: torch's vectorised functions do so by position."""
    assert torch.equal(result.target_index, expected.target_index)
    assert torch.equal(result.num_invalid, expected.num_invalid)
    assert torch.equal(result.num_targets, expected.num_targets)
    torch.testing.assert_close(result.quality, expected.quality, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6)


def images(assignment: Assignment, index: Sequence[int]) -> Assignment:
    """Some images of an assignment."""
    where = torch.tensor(list(index), dtype=torch.int64)
    lead = assignment.num_targets.dim() - 1
    fields = {
        name: getattr(assignment, name).index_select(lead, where)
        for name in ("target_index", "quality", "num_targets", "num_invalid")
    }
    return replace(assignment, **fields)


@st.composite
def drawn(draw: st.DrawFn, *, ties: bool, max_targets: int = 20) -> Scene:
    number = st.one_of(st.sampled_from([0, 1]), st.integers(0, 6), st.integers(0, max_targets))
    options: dict[str, Any] = {}
    if ties:
        options = {"steps": draw(st.sampled_from([None, 4, 8])), "twins": draw(st.booleans())}
    return reference.dense_scene(
        draw(st.lists(number, min_size=1, max_size=4)),
        reference.grid(count=draw(st.sampled_from([1, 3, 10, 30]))),
        draw(st.integers(0, 10_000)),
        odd=draw(st.booleans()),
        bad=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
        objectness=draw(st.booleans()),
        layers=draw(st.sampled_from([(), (), (2,)])),
        ignored=draw(st.sampled_from([None, 0.0, 0.3, 1.0])),
        slack=draw(st.sampled_from([0, 0, 2])),
        filler=draw(st.sampled_from(FILLERS)),
        **options,
    )


@each_matcher
@examples(10)
@given(data=st.data())
def test_only_the_image_matters(name: str, data: st.DataObject) -> None:
    # Equal costs that are computed at different places may differ in the last bit: see test_twins_in_every_position.
    scene = data.draw(drawn(ties=name in NO_LEARNING))
    priors = priors_of(name, scene.predictions.num_predictions)
    result = run(name, scene, priors)
    same(
        run(name, scene.padded(data.draw(st.integers(0, 4)), data.draw(st.sampled_from(FILLERS))), priors),
        result,
        exact=False,
    )
    order = data.draw(st.permutations(range(len(scene.targets.num_targets))))
    same(run(name, scene.take(order), priors), images(result, order), exact=False)
    same(run(name, scene.take(order[:1]), priors), images(result, order[:1]), exact=False)


@each_matcher
@examples(6)
@given(data=st.data())
def test_how_it_is_computed_does_not_matter(name: str, data: st.DataObject) -> None:
    """Blocks of any size; packed rows, or all padded slots."""
    scene = data.draw(drawn(ties=name in NO_LEARNING))
    priors = priors_of(name, scene.predictions.num_predictions)
    expected = run(name, scene, priors)
    for size in (1, 64 * len(priors) * 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(problem_module, "_USUAL_BYTES", size)
            same(run(name, scene, priors), expected, exact=False)
            make_static(patch)
            same(run(name, scene, priors), expected, exact=False)
    with pytest.MonkeyPatch.context() as patch:
        make_static(patch)
        same(run(name, scene, priors), expected, exact=False)


def make_static(patch: pytest.MonkeyPatch) -> None:
    for module in (pairs_module, tiles_module):
        patch.setattr(module, "values_are_readable", lambda tensor: False)


@each_learning
def test_twins_in_every_position(name: str) -> None:
    """Of two targets that are the same, the first gets everything, wherever in memory their costs are."""
    generator = torch.Generator().manual_seed(0)
    for count in (*range(5, 40), *range(5, 40)):
        points = torch.rand(count, 4, generator=generator) * 30 + 17
        points[:, 2:] = 8
        boxes = torch.tensor([10.0, 10, 54, 54]) + torch.randn(1, count, 4, generator=generator) * 10
        logits = torch.randn(1, count, 2, generator=generator) * 3
        image = {"boxes": torch.tensor([[0.0, 0, 64, 64]] * 2), "labels": torch.tensor([0, 0])}
        result = MATCHERS[name](Predictions(logits, boxes), Targets.of([image]), points)
        assert result.is_positive.any()
        assert not (result.target_index == 1).any(), count


# --- empty -----------------------------------------------------------------------------------------------------------


@each_matcher
@pytest.mark.parametrize("sizes", [[0], [0, 0], [3, 0], [3]], ids=str)
def test_no_priors(name: str, sizes: list[int]) -> None:
    scene = reference.dense_scene(sizes, reference.grid(count=0), ignored=0.3)
    result = run(name, scene, priors_of(name, 0))
    assert result.target_index.shape == result.quality.shape == (len(sizes), 0)
    assert result.num_targets.tolist() == sizes


@pytest.mark.parametrize(
    "name",
    MATCHERS,
)
def test_no_images(name: str) -> None:
    result = run(name, reference.dense_scene([], reference.grid()))
    assert result.target_index.shape == result.quality.shape == (0, 84)
    assert result.num_targets.shape == result.num_invalid.shape == (0,)


@each_matcher
@pytest.mark.parametrize("slack", [0, 3])
def test_no_targets(name: str, slack: int) -> None:
    result = run(name, reference.dense_scene([0, 0], reference.grid(), slack=slack, filler="nan"))
    assert (result.target_index == -1).all()
    assert (result.quality == 0).all()
    assert result.num_positives.tolist() == result.num_invalid.tolist() == [0, 0]


# --- unusable predictions --------------------------------------------------------------------------------------------


@each_learning
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["boxes", "logits", "objectness"])
def test_unusable_predictions_disturb_nobody(name: str, value: float, where: str) -> None:
    scene = reference.dense_scene([6, 0, 9, 3], reference.grid(), 8)
    fields = {key: getattr(scene.predictions, key).clone() for key in ("boxes", "logits", "objectness")}
    fields[where][1:3, ::2] = value
    result = run(name, Scene(Predictions(**fields), scene.targets))
    same(images(result, [0, 3]), images(run(name, scene), [0, 3]), exact=False)
    assert result.quality.isfinite().all()
    unused = name not in ("simota",) and where == "objectness"
    finite = unused or (where == "objectness" and not math.isnan(value))
    assert (result.num_invalid[2] == 0) == finite
    assert result.num_invalid[[0, 1, 3]].tolist() == [0, 0, 0]


@each_learning
def test_nothing_usable(name: str) -> None:
    scene = reference.dense_scene([6, 0, 40], reference.grid(), 8)
    boxes, logits = torch.full_like(scene.predictions.boxes, math.nan), scene.predictions.logits
    result = run(name, Scene(Predictions(logits, boxes), scene.targets))
    assert result.num_invalid.tolist() == [6 * 84, 0, 40 * 84]
    assert (result.quality == 0).all()


# --- dtypes ----------------------------------------------------------------------------------------------------------


@each_matcher
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("what", ["all", "predictions"])
def test_half_precision(name: str, dtype: torch.dtype, what: str) -> None:
    """Values that half precision can hold give the decisions of float32."""
    made = reference.dense_scene([6, 0, 9, 30], reference.grid(), 8)
    half = made.cast(dtype)
    scene = half.cast(torch.float32)
    given_scene = half if what == "all" else Scene(half.predictions, scene.targets)
    priors = priors_of(name).to(dtype) if what == "all" else priors_of(name)
    same(run(name, given_scene, priors), run(name, scene))


@each_matcher
@pytest.mark.parametrize("size", [640.0, 1e4])
def test_large_images_in_half_precision(name: str, size: float) -> None:
    """Areas do not fit float16."""
    made = reference.dense_scene([6, 0, 9], reference.grid(), 8)
    factor = size / 64
    scaled = Scene(
        replace(made.predictions, boxes=made.predictions.boxes * factor),
        replace(made.targets, boxes=made.targets.boxes * factor),
    )
    half = scaled.cast(torch.float16)
    priors = (priors_of(name) * factor).half()
    same(run(name, half, priors), run(name, half.cast(torch.float32), priors.float()))


@each_matcher
def test_double_precision(name: str) -> None:
    scene = reference.dense_scene([6, 0, 9, 30], reference.grid(), 8)
    double = scene.cast(torch.float64)
    same(run(name, double, priors_of(name).double()), run(name, scene), exact=False)
    same(run(name, Scene(double.predictions, scene.targets)), run(name, scene), exact=False)


@each_matcher
def test_nothing_is_differentiated(name: str) -> None:
    scene = reference.dense_scene([6, 0, 9], reference.grid(), 8)
    for key in ("boxes", "logits", "objectness"):
        getattr(scene.predictions, key).requires_grad_()
    result = run(name, scene, priors_of(name).requires_grad_())
    assert not result.quality.requires_grad


@each_matcher
def test_arguments_are_not_changed(name: str) -> None:
    scene = reference.dense_scene([6, 0, 9], reference.grid(), 8, ignored=0.3, bad=0.2)
    fields = [scene.predictions.boxes, scene.predictions.logits, scene.predictions.objectness]
    fields += [scene.targets.boxes.tensor, scene.targets.labels.tensor, scene.targets.ignore.tensor, priors_of(name)]
    before = [field.clone() for field in fields]
    run(name, scene, fields[-1])
    for field, copy in zip(fields, before, strict=True):
        torch.testing.assert_close(field, copy, rtol=0, atol=0, equal_nan=True)


# --- compiled, and without a synchronisation -------------------------------------------------------------------------


@pytest.mark.graphs
@pytest.mark.parametrize("name", RULES)
def test_compiled(name: str) -> None:
    scene = reference.dense_scene([6, 0, 9, 1], reference.grid(), 8, layers=(2,), ignored=0.3, bad=0.2, filler="nan")
    compiled = torch.compile(
        lambda predictions, targets, priors: MATCHERS[name](predictions, targets, priors),
        fullgraph=True,
        backend="eager",
    )
    result = compiled(scene.predictions, scene.targets, priors_of(name))
    same(result, run(name, scene), exact=False)
    torch._dynamo.reset()


@each_matcher
@pytest.mark.parametrize("ignored", [None, 0.3])
@pytest.mark.parametrize("sizes", [[6, 0, 9, 1], [0, 0]], ids=str)
def test_no_synchronisation(name: str, ignored: float | None, sizes: list[int]) -> None:
    scene = reference.dense_scene(sizes, reference.grid(), 8, layers=(2,), ignored=ignored)

    def call(predictions: Predictions, targets: Targets, priors: Tensor) -> tuple[Tensor, ...]:
        result = MATCHERS[name](predictions, targets, priors)
        return result.target_index, result.quality, result.num_invalid, result.num_positives

    assert_no_host_sync(call, scene.predictions, scene.targets, priors_of(name))


def test_levels_do_not_synchronise() -> None:
    scene = reference.dense_scene([3, 0], reference.grid(), 8)
    assert_no_host_sync(
        lambda targets, priors: ATSS()(None, targets, priors, level_sizes=[64, 16, 4]).target_index,
        scene.targets,
        reference.anchors().expand(2, -1, -1).clone(),
    )
