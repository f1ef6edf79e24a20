"""What pictures show: counted shapes, not pixels. Nothing else needs matplotlib."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import matchers
from matchers.assignments.assignment import Assignment, Plan
from matchers.by_cost.hungarian import Hungarian
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged import RaggedBatch

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

from matchers.geometry.priors import grid_points  # noqa: E402
from matchers.plots.match import plot_cost, plot_match  # noqa: E402

BOXES = torch.tensor(
    [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 40.0, 30.0], [50.0, 50.0, 60.0, 60.0], [0.0, 40.0, 20.0, 50.0]]
)


def scene(**layout: Any) -> tuple[Targets, Tensor]:
    """Two images with 4 and 1 targets, the last of the first image ignored, and predictions (2, 6, 4)."""
    targets = Targets.of(
        [
            {"boxes": BOXES, "labels": torch.arange(4), "ignore": torch.tensor([False, False, False, True])},
            {"boxes": BOXES[:1], "labels": torch.tensor([3]), "ignore": torch.tensor([False])},
        ],
        **layout,
    )
    return targets, torch.cat([BOXES + 2, BOXES[:2] + 5]).expand(2, -1, -1).clone()


def match(first: list[int], second: list[int]) -> Assignment:
    return Assignment.from_index(torch.tensor([first, second]), num_targets=torch.tensor([4, 1]))


def draw(result: Assignment | Plan, sample: Any = 0, **options: Any) -> Axes:
    targets, boxes = scene(**options.pop("layout", {}))
    return plot_match(result, {"pred_boxes": boxes}, targets, sample, ax=Figure().subplots(), **options)


def corners(patch: Rectangle) -> list[float]:
    return [patch.get_x(), patch.get_y(), patch.get_x() + patch.get_width(), patch.get_y() + patch.get_height()]


def target_patches(ax: Axes) -> list[Rectangle]:
    return [patch for patch in ax.patches if patch.get_linewidth() > 2 or patch.get_hatch()]


def legend_of(ax: Axes) -> set[str]:
    return set() if ax.get_legend() is None else {entry.get_text() for entry in ax.get_legend().get_texts()}


ASSIGNMENT = match([0, 0, -1, 1, -2, -1], [-1] * 6)


# --- the match -----------------------------------------------------------------------------------------------------


def test_a_picture_has_targets_matched_predictions_and_a_line_for_each_pair() -> None:
    ax = draw(ASSIGNMENT)
    assert len(ax.patches) == 4 + 3  # targets, and the matched predictions
    assert [corners(patch) for patch in ax.patches if patch not in target_patches(ax)] == [
        [2.0, 2.0, 12.0, 12.0],
        [22.0, 2.0, 42.0, 32.0],
        [2.0, 42.0, 22.0, 52.0],
    ]
    *lines, crosses = ax.lines
    assert [line.get_xydata().tolist() for line in lines] == [
        [[5, 5], [7, 7]],
        [[5, 5], [32, 17]],
        [[30, 15], [12, 47]],
    ]
    assert crosses.get_marker() == "x" and crosses.get_xydata().tolist() == [[10.0, 10.0]]
    assert legend_of(ax) == {
        "target",
        "target without a prediction",
        "ignored target",
        "matched prediction",
        "ignored prediction",
    }


def test_unmatched_targets_are_dashed_and_ignored_ones_hatched() -> None:
    patches = target_patches(draw(ASSIGNMENT))
    assert [corners(patch) for patch in patches] == BOXES.tolist()
    assert [patch.get_linestyle() == "solid" or patch.get_linestyle() == "-" for patch in patches] == [
        True,
        True,
        False,
        True,
    ]
    assert [bool(patch.get_hatch()) for patch in patches] == [False, False, False, True]


def test_matched_predictions_have_the_colour_of_their_target() -> None:
    ax = draw(ASSIGNMENT)
    colors = [patch.get_edgecolor()[:3] for patch in target_patches(ax)]
    mine = [patch.get_edgecolor()[:3] for patch in ax.patches if patch not in target_patches(ax)]
    assert mine == [colors[0], colors[0], colors[1]] and len(set(colors)) == 4


def test_text_names_targets_and_predictions() -> None:
    assert [text.get_text() for text in draw(ASSIGNMENT).texts] == [
        *"013",
        *(f"target {number} (class {number})" for number in range(4)),
    ]
    named = draw(ASSIGNMENT, 1, class_names=["a", "b", "c", "cat"])
    assert [text.get_text() for text in named.texts] == ["target 0 (cat)"]
    bare = draw(ASSIGNMENT, text=False, legend=False)
    assert not bare.texts and not legend_of(bare)


def test_a_picture_has_a_title_and_axes_with_a_unit() -> None:
    ax = draw(ASSIGNMENT)
    assert ax.get_legend().get_title().get_text() == "sample 0: 4 targets, 2 of them matched; 3 matched predictions"
    assert ax.get_xlabel() == "x, in pixels" and ax.get_ylabel() == "y, in pixels" and ax.axison
    bare = draw(ASSIGNMENT, 1, legend=False, image=torch.zeros(60, 80))
    assert bare.get_title(loc="left") == "sample 1: 1 target, 0 of them matched; 0 matched predictions"
    assert bare.axison
    fractions = Targets.of([{"boxes": BOXES[:1] / 100, "labels": torch.tensor([2])}], normalized=True)
    result = Assignment.from_index(torch.tensor([[0]]), num_targets=fractions.num_targets)
    ax = plot_match(result, {"pred_boxes": BOXES[None, :1] / 100}, fractions, 0, ax=Figure().subplots())
    assert ax.get_xlabel() == "x, in fractions of the image"


def test_targets_without_labels_have_their_index_alone() -> None:
    targets = Targets(RaggedBatch.from_full_tensor(BOXES[None]))
    result = Assignment.from_index(torch.tensor([[0, 1]]), num_targets=targets.num_targets)
    ax = plot_match(result, {"pred_boxes": BOXES[None, :2]}, targets, 0, ax=Figure().subplots())
    assert "target 3" in [text.get_text() for text in ax.texts]
    (costs,) = plot_cost(torch.zeros(1, 4, 2), 0, targets=targets, ax=Figure().subplots())
    assert labels(costs, "y") == list("0123")


def test_heavier_weights_of_a_plan_have_stronger_lines_and_light_ones_none() -> None:
    weights = torch.zeros(2, 6, 4)
    weights[0, :, 0] = torch.tensor([0.4, 0.2, 0.03, 0.0, 0.0, 0.0])
    weights[1, :, 1:] = torch.nan  # filler
    plan = Plan(
        RaggedBatch(weights, sample_sizes=torch.tensor([4, 1]), non_uniform_dim=2),
        torch.tensor([[0.6, 0.8, 0.9, 1.0, 1.0, 0.0], [1.0] * 6]),
        torch.zeros(2),
    )
    weak, strong, crosses = draw(plan).lines
    assert weak.get_xydata()[1].tolist() == [32.0, 17.0] and strong.get_xydata()[1].tolist() == [7.0, 7.0]
    assert weak.get_linewidth() < strong.get_linewidth() and weak.get_alpha() < strong.get_alpha()
    assert len(crosses.get_xydata()) == 1  # neither a target nor the background has it
    assert len(draw(plan, smallest_weight=0.0).lines) == 4
    assert not draw(plan, 1).lines


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3), (3, 60, 80), (1, 60, 80)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_the_image_lies_below(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image = torch.randint(0, 255, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for given in (image, image.numpy()):
        ax = draw(ASSIGNMENT, image=given)
        (drawn,) = ax.images
        assert drawn.get_array().shape[:2] == (60, 80)
        assert drawn.get_array().min() >= 0 and drawn.get_array().max() <= 1
        assert (*ax.get_xlim(), *ax.get_ylim()) == (0, 80, 60, 0)
        assert min(patch.get_zorder() for patch in ax.patches) > drawn.get_zorder()


def test_boxes_come_in_the_unit_of_the_picture() -> None:
    result = match([0] + [-1] * 5, [-1] * 6)
    targets, boxes = scene(canvas_size=(100, 200))
    size = torch.tensor([200.0, 100.0, 200.0, 100.0])
    image = torch.zeros(50, 50)

    def shown(targets: Targets, boxes: Tensor, normalized: bool | None, image: Tensor | None) -> list[list[float]]:
        given = Predictions(None, boxes, normalized=normalized)
        ax = plot_match(result, given, targets, 0, image=image, ax=Figure().subplots())
        return [[round(edge, 3) for edge in corners(patch)] for patch in ax.patches][:2]

    pixels = [[2.0, 2.0, 12.0, 12.0], [0.0, 0.0, 10.0, 10.0]]
    half_sized = [[0.5, 1.0, 3.0, 6.0], [0.0, 0.0, 2.5, 5.0]]
    assert shown(targets, boxes, None, None) == pixels
    assert shown(targets, boxes / size, True, None) == pixels
    assert shown(targets, boxes, None, image) == half_sized
    fractions = Targets(
        RaggedBatch(targets.boxes.tensor / size, sample_sizes=targets.num_targets), targets.labels, normalized=True
    )
    assert shown(fractions, boxes / size, None, image) == half_sized
    assert shown(fractions, boxes / size, None, None) == [[0.01, 0.02, 0.06, 0.12], [0.0, 0.0, 0.05, 0.1]]
    plain, _ = scene()
    with pytest.raises(ValueError, match="pixels and fractions of the image go together only with an image"):
        shown(plain, boxes / size, True, None)


def test_priors_take_the_place_of_predicted_boxes() -> None:
    targets, _ = scene(canvas_size=(64, 64))
    points = grid_points((64, 64), [32])
    result = Assignment.from_index(torch.tensor([[0, -1, -1, 2], [-1] * 4]), num_targets=targets.num_targets)
    ax = plot_match(result, None, targets, 0, priors=points, prior_format="points", ax=Figure().subplots())
    assert len(ax.patches) == 4  # points have no boxes
    assert [line.get_xydata()[1].tolist() for line in ax.lines] == [[16, 16], [48, 48]]
    for priors in (points, points.expand(2, -1, -1)):
        ax = plot_match(result, None, targets, 0, priors=priors, prior_format="cxcywh", ax=Figure().subplots())
        assert corners(ax.patches[0]) == [0, 0, 32, 32]


def test_layers_and_samples_are_told_apart() -> None:
    targets, boxes = scene()
    layers = torch.stack([boxes, boxes + 100])
    result = Assignment.from_index(
        torch.tensor([[[0] + [-1] * 5, [-1] * 6], [[-1] * 6, [-1, 0] + [-1] * 4]]),
        num_targets=targets.num_targets.expand(2, -1),
    )
    ax = plot_match(result, {"pred_boxes": layers}, targets, (1, 1), ax=Figure().subplots())
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[5, 5], [132, 117]]]
    with pytest.raises(IndexError, match="sample must have 2 indices, one for each batch dimension, got 1"):
        plot_match(result, {"pred_boxes": layers}, targets, 1)


def test_broken_and_missing_predictions_are_left_out() -> None:
    targets, boxes = scene()
    boxes[0, 0] = torch.nan
    ax = plot_match(ASSIGNMENT, {"pred_boxes": boxes}, targets, 0, ax=Figure().subplots())
    assert len(ax.lines) == 2 + 1
    empty = Targets.of([{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}])
    nothing = Assignment.from_index(torch.zeros(1, 0, dtype=torch.int64), num_targets=torch.tensor([0]))
    ax = plot_match(nothing, {"pred_boxes": torch.zeros(1, 0, 4)}, empty, 0, ax=Figure().subplots())
    assert not ax.patches and not ax.lines and not legend_of(ax)
    # More targets than colours.
    many = Targets.of([{"boxes": BOXES[:1].expand(30, 4), "labels": torch.zeros(30, dtype=torch.int64)}])
    result = Assignment.from_index(torch.arange(30).view(1, -1), num_targets=many.num_targets)
    ax = plot_match(result, {"pred_boxes": BOXES[:1].expand(1, 30, 4)}, many, 0, ax=Figure().subplots())
    assert len(ax.patches) == 60 and len(ax.texts) == 30  # too many predictions to number them


def test_bad_arguments_of_a_match() -> None:
    targets, boxes = scene()
    with pytest.raises(ValueError, match="a picture needs predicted boxes or priors, got neither"):
        plot_match(ASSIGNMENT, {"pred_logits": torch.zeros(2, 6, 3)}, targets, 0)
    with pytest.raises(ValueError, match="a picture needs predicted boxes or priors, got neither"):
        plot_match(ASSIGNMENT, None, targets, 0)
    with pytest.raises(ValueError, match="is for 6 predictions and 4 targets, got 5 predictions and 4 targets"):
        plot_match(ASSIGNMENT, {"pred_boxes": boxes[:, :5]}, targets, 0)
    with pytest.raises(ValueError, match=r"image must have shape \(H, W\), .* got \(2, 60, 80\)"):
        draw(ASSIGNMENT, image=torch.zeros(2, 60, 80))
    with pytest.raises(IndexError, match=r"sample must have 1 indices.*got \(0, 1\)"):
        draw(ASSIGNMENT, (0, 1))
    with pytest.raises(ValueError, match="box format must be one of"):
        draw(ASSIGNMENT, priors=boxes[0], prior_format="yxyx")


# --- the costs -----------------------------------------------------------------------------------------------------


def labels(ax: Axes, which: str) -> list[str]:
    return [tick.get_text() for tick in getattr(ax, f"get_{which}ticklabels")()]


def test_a_cost_has_a_row_for_each_target_and_frames_around_matches() -> None:
    cost = torch.arange(48.0).view(2, 4, 6)
    (ax,) = plot_cost(cost, 0, result=ASSIGNMENT, ax=Figure().subplots())
    assert torch.equal(torch.tensor(ax.images[0].get_array().filled()), cost[0])
    assert [(patch.get_y() + 0.5, patch.get_x() + 0.5) for patch in ax.patches] == [(0, 0), (0, 1), (1, 3)]
    assert labels(ax, "y") == ["0", "1", "2", "3"] and labels(ax, "x") == list("012345")
    assert len(ax.texts) == 24
    (second,) = plot_cost(cost, 1, result=ASSIGNMENT, ax=Figure().subplots())
    assert second.images[0].get_array().shape == (1, 6) and not second.patches
    (without,) = plot_cost(cost, 0, targets=scene()[0], ax=Figure().subplots())
    assert without.images[0].get_array().shape == (3, 6)  # not the ignored one
    (plain,) = plot_cost(cost, 1, ax=Figure().subplots())
    assert plain.images[0].get_array().shape == (4, 6)


def test_terms_have_a_panel_each_and_one_for_the_total() -> None:
    targets, boxes = scene()
    matcher = Hungarian(normalized=False)
    predictions = {"pred_logits": torch.zeros(2, 6, 4), "pred_boxes": boxes}
    costs = matcher.costs(predictions, targets)
    axes = plot_cost(costs, 0, result=matcher(predictions, targets), targets=targets)
    assert [ax.get_title(loc="left") for ax in axes] == ["class", "l1", "giou", "total"]
    assert all(len(ax.patches) == 3 for ax in axes)
    total = torch.tensor(axes[-1].images[0].get_array().filled())
    torch.testing.assert_close(total, sum(term[0, :3] for term in costs.values()))
    matplotlib.pyplot.close(axes[0].figure)
    own = plot_cost(costs, 0, ax=Figure().subplots(4))
    assert len(own) == 4
    (single,) = plot_cost({"l1": costs["l1"]}, 0, ax=Figure().subplots())
    assert single.get_title(loc="left") == "l1"


def test_of_many_predictions_those_that_matter_are_shown() -> None:
    cost = torch.full((1, 2, 1000), 1e5)
    cost[0, 0, [7, 300]] = torch.tensor([1.0, 2.0])
    cost[0, 1, [9, 7, 500]] = torch.tensor([0.5, 0.75, 3.0])
    index = torch.full((1, 1000), -1)
    index[0, 400], index[0, 9] = 0, 1
    result = Assignment.from_index(index, num_targets=torch.tensor([2]))
    (ax,) = plot_cost(cost, 0, result=result, num_cheapest=2, ax=Figure().subplots())
    assert labels(ax, "x") == ["7", "9", "300", "400"]
    assert [(patch.get_y() + 0.5, patch.get_x() + 0.5) for patch in ax.patches] == [(0, 3), (1, 1)]
    assert "1000" in ax.get_xlabel()
    (full,) = plot_cost(cost, 0, max_columns=1000, ax=Figure().subplots())
    assert full.images[0].get_array().shape == (2, 1000) and not full.texts


def test_rows_of_costs_name_the_class_of_their_target() -> None:
    cost = torch.zeros(2, 4, 6)
    (ax,) = plot_cost(cost, 0, targets=scene()[0], ax=Figure().subplots())
    assert labels(ax, "y") == ["0 (class 0)", "1 (class 1)", "2 (class 2)"]
    (named,) = plot_cost(cost, 1, targets=scene()[0], class_names=["a", "b", "c", "cat"], ax=Figure().subplots())
    assert labels(named, "y") == ["0 (cat)"]
    with pytest.raises(ValueError, match="class_names has 1 names, and none for the label 3"):
        plot_cost(cost, 1, targets=scene()[0], class_names=["a"], ax=Figure().subplots())
    (own,) = plot_cost(cost, 0)
    assert own.figure.get_suptitle() == "sample 0: the cost of each pair of a target and a prediction"
    matplotlib.pyplot.close(own.figure)


@pytest.mark.parametrize("low", [0.0, -1e6])
@pytest.mark.parametrize("columns", [10, 30, 40])
def test_numbers_of_neighbours_do_not_overlap(columns: int, low: float) -> None:
    cost = torch.rand(1, 3, columns, generator=torch.Generator().manual_seed(0)) - low
    (ax,) = plot_cost(cost, 0)
    ax.figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent().bounds for text in ax.texts), key=lambda box: (round(box[1]), box[0]))
    assert boxes or columns == 40 or low
    for (x, y, width, _), (right, below, _, _) in itertools.pairwise(boxes):
        assert round(below) != round(y) or x + width < right
    matplotlib.pyplot.close(ax.figure)


def test_much_dearer_pairs_share_a_colour() -> None:
    cost = torch.full((1, 2, 6), 1e5)
    cost[0, 0, :3], cost[0, 1, 3:] = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 4.0])
    (ax,) = plot_cost(cost, 0, ax=Figure().subplots())
    assert ax.images[0].get_clim() == (0.0, 4.0)
    (even,) = plot_cost(torch.arange(12.0).view(1, 2, 6), 0, ax=Figure().subplots())
    assert even.images[0].get_clim() == (0.0, 11.0)


def test_costs_that_are_not_finite_are_left_blank() -> None:
    cost = torch.tensor([[[1.0, torch.nan, torch.inf], [-torch.inf, 2.0, 3.0]]])
    (ax,) = plot_cost(cost, 0, ax=Figure().subplots())
    assert ax.images[0].get_array().mask.tolist() == [[False, True, True], [True, False, False]]
    assert len(ax.texts) == 3
    (nothing,) = plot_cost(torch.full((1, 1, 50), torch.nan), 0, ax=Figure().subplots())
    assert nothing.images[0].get_clim() == (0.0, 1.0)


@pytest.mark.parametrize(
    ("shape", "words"), [((1, 0, 5), "no targets"), ((1, 3, 0), "no predictions"), ((1, 0, 99), "no targets")]
)
def test_an_empty_matrix_says_so(shape: tuple[int, ...], words: str) -> None:
    (ax,) = plot_cost(torch.zeros(shape), 0, ax=Figure().subplots())
    assert [text.get_text() for text in ax.texts] == [words]


def test_bad_arguments_of_costs() -> None:
    cost = torch.zeros(2, 4, 6)
    with pytest.raises(TypeError, match=r"costs must be a tensor \(\*batch, G, P\), or several by name, got list"):
        plot_cost([cost], 0)
    with pytest.raises(ValueError, match="costs must be one tensor"):
        plot_cost({}, 0)
    with pytest.raises(ValueError, match="several of the same shape, got {'a': .2, 4, 6., 'b': .4, 6.}"):
        plot_cost({"a": cost, "b": cost[0]}, 0)
    with pytest.raises(IndexError, match="sample must have 1 indices"):
        plot_cost(cost, (0, 0))
    with pytest.raises(ValueError, match="the result is for 6 predictions, the costs are for 5"):
        plot_cost(cost[..., :5], 0, result=ASSIGNMENT)
    with pytest.raises(ValueError, match="there are 4 targets, the costs are for 2"):
        plot_cost(cost[:, :2], 0, result=ASSIGNMENT)
    other = Targets.of([{"boxes": BOXES[:1], "labels": torch.tensor([0])}] * 2)
    with pytest.raises(ValueError, match="the result is for 4 targets, got 1"):
        plot_cost(cost, 0, result=ASSIGNMENT, targets=other)
    with pytest.raises(ValueError, match="there are 1 panels to draw, got 2 axes"):
        plot_cost(cost, 0, ax=Figure().subplots(2))


# --- matplotlib is an extra ----------------------------------------------------------------------------------------


def test_without_matplotlib_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    targets, boxes = scene()
    for call in (
        lambda: plot_match(ASSIGNMENT, {"pred_boxes": boxes}, targets, 0),
        lambda: plot_cost(torch.zeros(1, 1, 1), 0),
    ):
        with pytest.raises(ImportError, match=r'pip install "ragged-batch\[plot\]"'):
            call()


@pytest.mark.processes
def test_importing_the_package_does_not_import_matplotlib() -> None:
    code = "import sys, matchers, matchers.plots.match; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_matcher_imports_the_plots() -> None:
    package = Path(matchers.__file__).parent
    others = [path for path in package.rglob("*.py") if path.parent.name != "plots" and path.parent != package]
    assert others and not [path.name for path in others if "matchers.plots" in path.read_text()]
