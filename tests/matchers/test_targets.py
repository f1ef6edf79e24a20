"""Targets: every layout in and out, and an error that names the image for whatever does not fit."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import boxes as box_reference
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers import (
    Targets,
    read_targets,
    targets_from_dicts,
    targets_from_flat,
    targets_from_lists,
    targets_from_padded,
    targets_from_padded_tensor,
)
from matchers.testing import make_boxes, make_scene
from ragged import RaggedBatch, combine_data
from ragged.testing import FILLERS

SIZES = [[3, 0, 1], [0, 0], [1], [0], [5, 2, 2, 7]]
Sample = dict[str, Tensor]


def samples_of(sizes: Sequence[int], seed: int = 0) -> list[Sample]:
    """Boxes are fractions, and eighths, so that they are exact in every format."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "boxes": make_boxes(size, generator, steps=8) / 64,
            "labels": torch.randint(9, (size,), generator=generator),
            "weights": torch.rand(size, generator=generator),
            "ignore": torch.rand(size, generator=generator) < 0.5,
        }
        for size in sizes
    ]


def check_same(targets: Targets, samples: Sequence[Sample], keys: Sequence[str] = ("boxes", "labels")) -> None:
    assert targets.num_targets.flatten().tolist() == [len(sample["labels"]) for sample in samples]
    dicts = targets.to_dicts()
    assert len(dicts) == len(samples)
    for found, sample in zip(dicts, samples, strict=True):
        assert list(found) == list(keys)
        for key in keys:
            assert torch.equal(found[key], sample[key])
            assert found[key].dtype == sample[key].dtype


def flat_rows(samples: Sequence[Sample], order: Tensor | None = None) -> Tensor:
    rows = [
        [index, float(label), *box.tolist()]
        for index, sample in enumerate(samples)
        for label, box in zip(sample["labels"], sample["boxes"], strict=True)
    ]
    table = torch.tensor(rows).reshape(-1, 6)
    return table if order is None else table[order]


def scattered(samples: Sequence[Sample], width: int, filler: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and mask with the targets anywhere among the slots, in order."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.full((len(samples), width, 4), filler)
    labels, mask = torch.full((len(samples), width), -5), torch.zeros(len(samples), width, dtype=torch.bool)
    for index, sample in enumerate(samples):
        slots = torch.randperm(width, generator=generator)[: len(sample["labels"])].sort().values
        boxes[index, slots], labels[index, slots], mask[index, slots] = sample["boxes"], sample["labels"], True
    return boxes, labels, mask


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
def test_dicts(sizes: list[int]) -> None:
    samples = samples_of(sizes)
    every = ("boxes", "labels", "weights", "ignore")
    for reader in (targets_from_dicts, Targets.of, read_targets):
        check_same(reader(samples), samples, every)
    plain = [{"boxes": sample["boxes"], "labels": sample["labels"], "image_id": 3} for sample in samples]
    check_same(Targets.of(plain), samples)
    check_same(Targets.of(Targets.of(samples).to_dicts()), samples, every)  # both ways
    assert Targets.of(plain).weights is None


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_crowds_are_ignored(dtype: torch.dtype) -> None:
    samples = samples_of([3, 0, 1])
    crowds = [{**sample, "iscrowd": sample["ignore"].to(dtype)} for sample in samples]
    for sample in crowds:
        del sample["ignore"]
    check_same(Targets.of(crowds), samples, ("boxes", "labels", "weights", "ignore"))


@pytest.mark.parametrize("sizes", SIZES)
def test_lists(sizes: list[int]) -> None:
    samples = samples_of(sizes)
    columns = {key: [sample[key] for sample in samples] for key in samples[0]}
    check_same(targets_from_lists(**columns), samples, ("boxes", "labels", "weights", "ignore"))
    check_same(Targets.of((columns["boxes"], columns["labels"])), samples)
    check_same(Targets.of([columns["boxes"], columns["labels"]]), samples)
    arrays = [[value.numpy() for value in columns[key]] for key in ("boxes", "labels")]
    check_same(Targets.of(arrays), samples)
    numbers = [[value.tolist() for value in columns[key]] for key in ("boxes", "labels")]
    check_same(targets_from_lists(*numbers), samples)


def test_float64_arrays_with_an_empty_image() -> None:
    targets = targets_from_lists([np.zeros((2, 4)), np.zeros((0, 4))], [np.array([1, 2]), np.array([], dtype=np.int64)])
    assert targets.boxes.dtype == torch.float64


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("width", [None, 9])
def test_flat(sizes: list[int], width: int | None) -> None:
    samples = samples_of(sizes)
    options: dict[str, Any] = {"batch_size": len(sizes), "box_format": "xyxy", "max_num_targets": width}
    targets = targets_from_flat(flat_rows(samples), **options)
    check_same(targets, samples)
    assert targets.max_num_targets == (max(sizes) if width is None else width)
    check_same(Targets.of(flat_rows(samples), **options), samples)


def test_flat_rows_in_any_order() -> None:
    samples = samples_of([3, 0, 4])
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    mixed = flat_rows(samples, order)
    targets = targets_from_flat(mixed, batch_size=3, box_format="xyxy")
    for index, found in enumerate(targets.to_dicts()):
        own = mixed[mixed[:, 0] == index]
        assert torch.equal(found["boxes"], own[:, 2:]) and torch.equal(found["labels"], own[:, 1].long())
    default = targets_from_flat(torch.tensor([[0, 1, 0.5, 0.5, 0.2, 0.2]]), batch_size=1)
    assert (default.box_format, default.normalized) == ("cxcywh", True)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("filler", [0.0, math.nan, -math.inf, 1e9])
def test_padded(sizes: list[int], filler: float) -> None:
    samples = samples_of(sizes)
    boxes, labels, mask = scattered(samples, 9, filler)
    for seed in range(3):
        boxes, labels, mask = scattered(samples, 9, filler, seed)
        check_same(Targets.of({"boxes": boxes, "labels": labels, "mask": mask}), samples)
    one_hot = torch.nn.functional.one_hot(labels.clamp(min=0), 9)
    for dtype in (torch.int64, torch.float32):
        check_same(targets_from_padded({"boxes": boxes, "labels": one_hot.to(dtype), "mask": mask}), samples)
    more = {"weights": torch.where(mask, 2.0, math.nan), "ignore": mask}
    targets = targets_from_padded({"boxes": boxes, "labels": labels, "mask": mask, **more})
    assert targets.num_targets.tolist() == sizes
    for found in targets.to_dicts():
        assert (found["weights"] == 2).all() and found["ignore"].all()


def test_boolean_one_hot_labels() -> None:
    labels = torch.tensor([[[True, False], [False, True]]])
    assert targets_from_padded({"boxes": torch.zeros(1, 2, 4), "labels": labels}).labels.tensor.tolist() == [[0, 1]]


def test_padded_without_a_mask_or_ragged() -> None:
    samples = samples_of([3, 3])
    boxes, labels = (torch.stack([sample[key] for sample in samples]) for key in ("boxes", "labels"))
    check_same(Targets.of({"boxes": boxes, "labels": labels}), samples)
    ragged = {key: combine_data([sample[key] for sample in samples]) for key in ("boxes", "labels", "ignore")}
    check_same(Targets.of(ragged), samples, ("boxes", "labels", "ignore"))


def test_padded_with_several_batch_dimensions() -> None:
    samples = samples_of([3, 0, 1, 4])
    boxes, labels, mask = (part.unflatten(0, (2, 2)) for part in scattered(samples, 6, math.nan))
    targets = Targets.of({"boxes": boxes, "labels": labels, "mask": mask}, canvas_size=(10, 20))
    assert targets.batch_shape == (2, 2)
    assert targets.canvas_size is not None and targets.canvas_size.shape == (2, 2, 2)
    check_same(targets, samples)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("filler", [0.0, math.nan, -math.inf])
def test_padded_tensor(sizes: list[int], filler: float) -> None:
    samples = samples_of(sizes)
    boxes, labels, mask = scattered(samples, 8, filler)
    table = torch.cat([torch.where(mask, labels, -1).unsqueeze(-1), boxes], -1)
    for reader in (targets_from_padded_tensor, Targets.of):
        check_same(reader(table), samples)


def test_layouts_agree() -> None:
    samples = samples_of([2, 0, 3])
    boxes, labels, mask = scattered(samples, 4, 0.0)
    plain = [{"boxes": sample["boxes"], "labels": sample["labels"]} for sample in samples]
    for source, options in [
        (plain, {}),
        (([sample["boxes"] for sample in samples], [sample["labels"] for sample in samples]), {}),
        (flat_rows(samples), {"batch_size": 3}),
        ({"boxes": boxes, "labels": labels, "mask": mask}, {}),
        (torch.cat([torch.where(mask, labels, -1).unsqueeze(-1), boxes], -1), {}),
    ]:
        targets = Targets.of(source, box_format="xyxy", normalized=True, canvas_size=(4, 8), num_classes=9, **options)
        check_same(targets, samples)
        assert (targets.box_format, targets.normalized) == ("xyxy", True)
        assert targets.canvas_size.tolist() == [[4, 8]] * 3
        with pytest.raises(ValueError, match="is out of range for 1 classes"):
            Targets.of(source, box_format="xyxy", num_classes=1, **options)


# --- what it knows ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 99), st.integers(0, 3), st.sampled_from(FILLERS)
)
def test_filler_is_nobody(sizes: list[int], seed: int, slack: int, filler: str) -> None:
    scene = make_scene(sizes, 0, seed=seed, ignored=0.5, slack=slack, filler=filler)
    targets = scene.targets
    assert targets.max_num_targets == max(sizes) + slack
    boxes = targets.boxes_as("cxcywh")
    assert boxes.isfinite().all()
    assert (boxes[~targets.mask] == 0).all()
    for index, (size, sample) in enumerate(zip(sizes, targets.to_dicts(), strict=True)):
        assert targets.mask[index].tolist() == [g < size for g in range(max(sizes) + slack)]
        expected = [not flag for flag in sample["ignore"].tolist()] + [False] * (max(sizes) + slack - size)
        assert targets.matchable[index].tolist() == expected
        converted = [box_reference.convert(box, "xyxy", "cxcywh") for box in sample["boxes"].tolist()]
        torch.testing.assert_close(boxes[index, :size], torch.tensor(converted).reshape(-1, 4))
    assert torch.equal(scene.padded(2, "nan").targets.matchable[:, : max(sizes)], targets.matchable[:, : max(sizes)])


@pytest.mark.parametrize("box_format", ["xyxy", "cxcywh", "xywh"])
@pytest.mark.parametrize("normalized", [False, True])
def test_units(box_format: str, normalized: bool) -> None:
    canvas = torch.tensor([[50.0, 100.0], [10.0, 40.0]])
    samples = samples_of([2, 3])
    factor = torch.ones(2, 4) if normalized else canvas.flip(-1).repeat(1, 2)
    given_boxes = [
        torch.tensor([box_reference.convert(box, "xyxy", box_format) for box in (sample["boxes"] * scale).tolist()])
        for sample, scale in zip(samples, factor, strict=True)
    ]
    labels = [sample["labels"] for sample in samples]
    targets = Targets.of((given_boxes, labels), box_format=box_format, normalized=normalized, canvas_size=canvas)
    for wanted, scale in [(True, torch.ones(2, 4)), (False, canvas.flip(-1).repeat(1, 2))]:
        boxes = targets.boxes_as("xyxy", normalized=wanted)
        for index, sample in enumerate(samples):
            torch.testing.assert_close(boxes[index, : len(sample["labels"])], sample["boxes"] * scale[index])
    assert torch.equal(targets.boxes_as(box_format), targets.boxes.with_padded_set_to(0).tensor)


@pytest.mark.parametrize("canvas", [(50, 100), [50, 100], torch.tensor([50, 100]), torch.tensor([[50.0, 100.0]] * 3)])
def test_ways_to_give_the_canvas(canvas: Any) -> None:
    targets = Targets.of(samples_of([2, 0, 1]), canvas_size=canvas)
    assert targets.canvas_size is not None
    assert targets.canvas_size.dtype == torch.float32
    assert targets.canvas_size.tolist() == [[50, 100]] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_to(dtype: torch.dtype) -> None:
    targets = Targets.of(samples_of([3, 0, 1]), canvas_size=(8, 8))
    moved = targets.to(dtype)
    assert moved.boxes.dtype == moved.weights.dtype == dtype
    assert moved.labels.dtype == torch.int64 and moved.ignore.dtype == torch.bool
    assert moved.boxes_as("xyxy").dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(moved.labels.tensor, targets.labels.tensor)
    on_meta = targets.to("meta")
    assert on_meta.device.type == on_meta.canvas_size.device.type == on_meta.ignore.device.type == "meta"
    assert targets.device.type == "cpu"


def same(first: Targets, second: Targets) -> bool:
    assert (first.box_format, first.normalized) == (second.box_format, second.normalized)
    parts = [(getattr(first, name), getattr(second, name)) for name in ("boxes", "labels", "weights", "ignore")]
    assert torch.equal(first.canvas_size, second.canvas_size)
    return all((a is None) == (b is None) and (a is None or a.equal(b)) for a, b in parts)


def saved(targets: Targets) -> Targets:
    buffer = io.BytesIO()
    torch.save(targets, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("keep", [("weights", "ignore"), ("ignore",), ()])
@pytest.mark.parametrize(
    "way",
    [
        saved,
        copy.copy,
        copy.deepcopy,
        lambda targets: pickle.loads(pickle.dumps(targets)),
        lambda targets: pytree.tree_map(lambda leaf: leaf.clone(), targets),
        lambda targets: torch.compile(lambda t: t, backend="eager", fullgraph=True)(targets),
    ],
    ids=["save", "copy", "deepcopy", "pickle", "pytree", "compile"],
)
def test_copies(way: Callable[[Targets], Targets], keep: tuple[str, ...]) -> None:
    samples = [
        {key: value for key, value in sample.items() if key in ("boxes", "labels", *keep)}
        for sample in samples_of([3, 0])
    ]
    targets = Targets.of(samples, box_format="xyxy", normalized=True, canvas_size=(4, 6))
    found = way(targets)
    assert type(found) is Targets
    assert same(found, targets)


@pytest.mark.graphs
def test_made_in_a_compiled_graph() -> None:
    def build(boxes: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return Targets.of({"boxes": boxes, "labels": labels, "mask": mask}, canvas_size=None).boxes_as("cxcywh")

    arguments = scattered(samples_of([3, 0, 1]), 5, math.nan)
    compiled = torch.compile(build, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*arguments), build(*arguments))


# --- bad input -------------------------------------------------------------------------------------------------------


def two(boxes: Any = None, labels: Any = None, **more: Any) -> Targets:
    """The second image is the bad one."""
    good = [[0.0, 0.0, 0.5, 0.5]]
    second = torch.tensor(good) if boxes is None else boxes
    return targets_from_lists([torch.tensor(good), second], [[1], [1] if labels is None else labels], **more)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: two(torch.tensor([[5.0, 0, 1, 1]])),
            ValueError,
            r"box \[5.0, 0.0, 1.0, 1.0\] at position 0 of sample 1 has x2 < x1 or y2 < y1; is box_format='xyxy' right",
        ),
        (lambda: two(torch.tensor([[0, math.nan, 1, 1]])), ValueError, "at position 0 of sample 1 is not finite"),
        (lambda: two(torch.tensor([[0, 0, math.inf, 1]])), ValueError, "of sample 1 is not finite"),
        (
            lambda: two(torch.tensor([[0.0, 0, -1, 1]]), box_format="xywh"),
            ValueError,
            "of sample 1 has a negative width or height",
        ),
        (
            lambda: two(torch.tensor([[0.0, 0, 1, -1]]), box_format="cxcywh"),
            ValueError,
            "of sample 1 has a negative width or height",
        ),
        (
            lambda: two(torch.tensor([[0.0, 0, 1, 3]]), normalized=True),
            ValueError,
            r"of sample 1 lies far from \[0, 1\]; is normalized=True right",
        ),
        (
            lambda: two(torch.tensor([[-1.5, 0, 1, 1]]), normalized=True),
            ValueError,
            r"of sample 1 lies far from \[0, 1\]",
        ),
        (lambda: two(torch.tensor([[-1.01, 0, 1, 1]]), normalized=True), ValueError, "of sample 1 lies far from"),
        (lambda: two(torch.tensor([[0.0, 0, 1, 2.01]]), normalized=True), ValueError, "of sample 1 lies far from"),
        (lambda: two(labels=[-1]), ValueError, "labels must not be negative, got -1 at position 0 of sample 1"),
        (lambda: two(labels=[1.0]), TypeError, "labels of sample 1 must be integers, got torch.float32"),
        (lambda: two(labels=[1, 2]), ValueError, r"sample 1 has 1 boxes, but labels of shape \(2,\)"),
        (lambda: two(labels=[[1]]), ValueError, r"sample 1 has 1 boxes, but labels of shape \(1, 1\)"),
        (lambda: two(torch.zeros(0, 4), labels=[1]), ValueError, "sample 1 has 0 boxes, but labels"),
        (lambda: two(torch.zeros(1, 5)), ValueError, r"boxes of sample 1 must have shape \(n, 4\), got \(1, 5\)"),
        (lambda: two(torch.zeros(4)), ValueError, r"boxes of sample 1 must have shape \(n, 4\), got \(4,\)"),
        (
            lambda: two(torch.zeros(1, 4).long()),
            TypeError,
            "boxes of sample 1 must have a floating dtype, got torch.int64",
        ),
        (
            lambda: two(torch.zeros(1, 4).double()),
            ValueError,
            "boxes of sample 1 are torch.float64 on cpu, those of sample 0 are torch.float32",
        ),
        (lambda: two(torch.zeros(1, 4, device="meta")), ValueError, "boxes of sample 1 are torch.float32 on meta"),
        (
            lambda: two(labels=torch.tensor([1], device="meta")),
            ValueError,
            "labels of sample 1 are on meta, boxes on cpu",
        ),
        (lambda: two(weights=[[1.0], [1.0, 2.0]]), ValueError, r"sample 1 has 1 boxes, but weights of shape \(2,\)"),
        (lambda: two(ignore=[[True], []]), ValueError, r"sample 1 has 1 boxes, but ignore of shape \(0,\)"),
        (lambda: two(weights=[[1.0]]), ValueError, "boxes are given for 2 images, weights for 1"),
        (lambda: two(boxes="a"), TypeError, "boxes of sample 1 must be a tensor, an array or a list of numbers"),
        (
            lambda: two(canvas_size=(3,)),
            ValueError,
            r"canvas_size must be height and width, shape \(2,\) or \(2, 2\), got \(1,\)",
        ),
        (lambda: two(box_format="yxyx"), ValueError, "box format must be one of"),
        (
            lambda: two().boxes_as("xyxy", normalized=True),
            ValueError,
            r"boxes are pixels, but fractions of the image are needed: give the targets a canvas_size",
        ),
        (
            lambda: two(normalized=True).boxes_as("xyxy", normalized=False),
            ValueError,
            "boxes are fractions of the image, but pixels are needed",
        ),
        (
            lambda: two().check_labels(1),
            ValueError,
            "label 1 at position 0 of sample 0 is out of range for 1 classes; labels count from 0",
        ),
        (
            lambda: two(labels=[5]).check_labels(2),
            ValueError,
            "label 5 at position 0 of sample 1 is out of range for 2 classes",
        ),
        (lambda: Targets.of([]), ValueError, "targets need at least one image, got an empty list"),
        (
            lambda: Targets.of([{"boxes": torch.zeros(0, 4), "labels": []}, {"boxes": torch.zeros(0, 4)}]),
            ValueError,
            r"the targets of sample 1 have no 'labels', but \['boxes'\]",
        ),
        (
            lambda: Targets.of(
                [{"boxes": torch.zeros(0, 4), "labels": [], "weights": []}, {"boxes": torch.zeros(0, 4), "labels": []}]
            ),
            ValueError,
            "the targets of sample 1 have no 'weights'",
        ),
        (lambda: Targets.of(3), TypeError, "targets must be Targets, a list of dicts, a pair .* got int"),
        (lambda: Targets.of(two(), box_format="xyxy"), TypeError, "already know their layout, got box_format"),
        (
            lambda: Targets.of(torch.zeros(3, 5), batch_size=1),
            ValueError,
            r"flat targets must have shape \(N, 6\): image index, label, box; got \(3, 5\)",
        ),
        (
            lambda: Targets.of(torch.zeros(3, 6).long(), batch_size=1),
            TypeError,
            "flat targets must be floating, got torch.int64",
        ),
        (
            lambda: targets_from_flat(torch.tensor([[2.0, 0, 0, 0, 0, 0]]), batch_size=2),
            ValueError,
            "row 0 names image 2, expected a whole number from 0 to 1",
        ),
        (
            lambda: targets_from_flat(torch.tensor([[0.5, 0, 0, 0, 0, 0]]), batch_size=2),
            ValueError,
            "row 0 names image 0.5",
        ),
        (
            lambda: targets_from_flat(torch.tensor([[-1.0, 0, 0, 0, 0, 0]]), batch_size=2),
            ValueError,
            "row 0 names image -1",
        ),
        (
            lambda: targets_from_flat(torch.tensor([[math.nan, 0, 0, 0, 0, 0]]), batch_size=2),
            ValueError,
            "row 0 names image nan",
        ),
        (
            lambda: targets_from_flat(torch.tensor([[1.0, 0.5, 0, 0, 0, 0]]), batch_size=2),
            ValueError,
            "row 0, of sample 1, has the label 0.5: not a whole number",
        ),
        (
            lambda: targets_from_flat(torch.tensor([[1.0, -1, 0, 0, 0, 0]]), batch_size=2),
            ValueError,
            "labels must not be negative, got -1 at position 0 of sample 1",
        ),
        (
            lambda: targets_from_flat(torch.tensor([[1.0, 1, 9, 0, 0, 0]]), batch_size=2),
            ValueError,
            r"of sample 1 lies far from \[0, 1\]",
        ),
        (lambda: targets_from_flat(torch.zeros(0, 6), batch_size=-1), ValueError, "batch_size must not be negative"),
        (
            lambda: Targets.of({"boxes": torch.zeros(1, 2, 4)}),
            ValueError,
            r"padded targets need 'labels', got \['boxes'\]",
        ),
        (
            lambda: Targets.of({"boxes": torch.zeros(1, 2, 4), "labels": torch.zeros(1, 3).long()}),
            ValueError,
            r"padded boxes must begin with the shape \(1, 3\) of labels, got \(1, 2, 4\)",
        ),
        (
            lambda: Targets.of(
                {"boxes": torch.zeros(1, 2, 4), "labels": torch.zeros(1, 2).long(), "mask": torch.ones(1, 2)}
            ),
            ValueError,
            "mask must be a boolean tensor",
        ),
        (
            lambda: Targets.of({"boxes": torch.zeros(1, 2, 4), "labels": torch.zeros(1, 2)}),
            TypeError,
            "labels must be integers, got torch.float32",
        ),
        (
            lambda: Targets.of({"boxes": torch.zeros(1, 2, 4), "labels": [[1, 2]]}),
            TypeError,
            "labels must be a torch.Tensor, got list",
        ),
        (
            lambda: Targets.of(torch.zeros(1, 2, 6)),
            ValueError,
            r"padded targets must be a floating tensor \(\*batch, N, 5\): label, box; got \(1, 2, 6\)",
        ),
        (
            lambda: Targets(torch.zeros(1, 2, 4), torch.zeros(1, 2)),
            TypeError,
            "boxes must be a RaggedBatch, got Tensor; Targets.of reads other layouts",
        ),
    ],
)
def test_bad_input(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_fields_that_do_not_fit_each_other() -> None:
    boxes = RaggedBatch(torch.zeros(2, 3, 4), sample_sizes=[1, 3])
    labels = RaggedBatch(torch.zeros(2, 3, dtype=torch.int64), sample_sizes=[1, 3])
    targets = Targets(boxes, labels)
    with pytest.raises(ValueError, match="labels and boxes: sample sizes differ, 2 and 1 for sample 0"):
        Targets(boxes, RaggedBatch(labels.tensor, sample_sizes=[2, 3]))
    with pytest.raises(ValueError, match="labels are padded to 4 targets, boxes to 3"):
        Targets(boxes, labels.with_max_sample_size(4))
    with pytest.raises(ValueError, match=r"boxes must have shape \(\*batch, G, 4\), ragged along G, got \(2, 3\)"):
        Targets(labels, labels)
    three = RaggedBatch(torch.zeros(2, 3, 4, 5), sample_sizes=[1, 3])
    with pytest.raises(ValueError, match=r"labels must have shape \(\*batch, G\), or .* got \(2, 3, 4, 5\)"):
        Targets(boxes, three)
    with pytest.raises(TypeError, match="ignore must be boolean, got torch.int64"):
        replace(targets, ignore=labels)
    with pytest.raises(TypeError, match="weights must be a RaggedBatch, got list"):
        replace(targets, weights=[1.0])
    with pytest.raises(ValueError, match=r"labels must be on the device of boxes \(cpu\), got meta"):
        Targets(boxes, labels.to_device("meta"))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda: two(weights=[torch.tensor([2]), torch.tensor([1])]), TypeError),
        pytest.param(lambda: two(canvas_size=(0, 3)), ValueError),
        pytest.param(lambda: two(canvas_size=(math.nan, 3)), ValueError),
        pytest.param(
            lambda: targets_from_padded_tensor(torch.tensor([[[2.5, 0, 0, 4, 4]]])),
            ValueError,
        ),
        pytest.param(
            lambda: targets_from_padded_tensor(torch.tensor([[[math.nan, 0, 0, 4, 4]]])),
            ValueError,
        ),
    ],
    ids=["weights", "canvas 0", "canvas NaN", "label 2.5", "label NaN"],
)
def test_what_should_be_an_error(make: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_sides_may_be_too_large_for_the_dtype_of_boxes() -> None:
    targets = targets_from_lists([torch.tensor([[-60000.0, 0, 60000, 1]]).half()], [[1]])
    assert targets.boxes_as("cxcywh").tolist() == [[[0.0, 0.5, 120000.0, 1.0]]]


def test_boxes_on_the_edge_of_the_image_are_normalised() -> None:
    assert two(torch.tensor([[-0.005, 0, 1.005, 1]]), normalized=True).normalized
    assert two(torch.tensor([[0.5, 0.5, 0.0, 0.0]]), box_format="cxcywh", normalized=True).num_targets.tolist() == [
        1,
        1,
    ]


def test_fields_take_conversions_alone() -> None:
    dicts = [{"boxes": torch.tensor([[0.0, 0.0, 1.0, 2.0]] * n), "labels": torch.arange(n)} for n in (2, 1)]
    targets, others = Targets.of(dicts), Targets.of(dicts[::-1])
    assign = functools.partial(setattr, targets)
    assign("boxes", targets.boxes.half())
    assign("box_format", "xyxy")
    assert targets.boxes.dtype == torch.float32 and targets.labels.dtype == torch.int64  # geometry is not rounded
    posed = Targets(fields={"keypoints": RaggedBatch(torch.tensor([[[1001.0]]]), sample_sizes=[1])})
    posed.fields = {"keypoints": posed.fields["keypoints"].half()}  # type: ignore[misc]
    assert posed.fields["keypoints"].tensor.item() == 1001
    assign("boxes", targets.boxes.double())
    assert targets.boxes.dtype == torch.float64
    for name, value, words in (
        ("boxes", others.boxes, r"the sample sizes of Targets\.boxes must keep all values"),
        ("boxes", targets.boxes.with_max_sample_size(3), r"a RaggedBatch of shape \(2, 2, 4\) .* \(2, 3, 4\)"),
        ("labels", targets.labels.half(), "kind of dtype"),
        ("weights", targets.labels.float(), r"Targets\.weights must keep .* expected None, got a RaggedBatch"),
        ("box_format", "xywh", "expected 'xyxy', got 'xywh'"),
        ("note", 1, "Targets has no field 'note'"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError, match=words):
            assign(name, value)
    assert targets.boxes.sample_sizes.tolist() == [2, 1] and targets.box_format == "xyxy"
