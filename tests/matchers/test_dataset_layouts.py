"""Ground truth as annotation files, data loaders and box classes of other packages have it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from matchers import Targets, targets_from_coco, targets_from_lists, targets_from_ultralytics
from ragged import collate

ONE = {"bbox": [4.0, 2.0, 8.0, 6.0], "category_id": 18}
CROWD = {"bbox": [0, 0, 30, 20], "category_id": 1, "iscrowd": 1, "area": 600, "segmentation": {}}
NONE: list[Any] = []


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


class Format(enum.Enum):
    """As that of torchvision's boxes, which has rotated ones too."""

    XYXY = "XYXY"
    XYWH = "XYWH"
    CXCYWH = "CXCYWH"
    XYWHR = "XYWHR"


class Boxes(Tensor):
    """As torchvision's: a tensor that knows its format and canvas, which operations on it forget."""

    format: Format
    canvas_size: tuple[int, int]

    @staticmethod
    def __new__(cls, values: Any, format: Format, canvas_size: tuple[int, int]) -> Boxes:
        boxes = torch.as_tensor(values, dtype=torch.float32).as_subclass(cls)
        boxes.format, boxes.canvas_size = format, canvas_size
        return boxes


def described(*values: list[float], format: Format = Format.XYWH, size: tuple[int, int] = (48, 64)) -> dict[str, Any]:
    boxes = Boxes(torch.tensor(values).reshape(-1, 4), format, size)
    return {"boxes": boxes, "labels": torch.ones(len(values), dtype=torch.int64)}


# --- COCO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images", [[[ONE, CROWD], []], [{"image_id": 3, "annotations": [ONE, CROWD]}, {"image_id": 4, "annotations": []}]]
)
@pytest.mark.parametrize("read", [targets_from_coco, Targets.of])
def test_coco(read: Callable[..., Targets], images: list[Any]) -> None:
    targets = read(images, label_of={1: 0, 18: 1}, canvas_size=(20, 32))
    assert targets.num_targets.tolist() == [2, 0]
    assert targets.boxes_as("xyxy")[0].tolist() == [[4, 2, 12, 8], [0, 0, 30, 20]]
    assert targets.labels.tensor[0].tolist() == [1, 0]
    assert targets.ignored[0].tolist() == [False, True]
    assert targets.boxes_as("cxcywh", normalized=True)[0, 0].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.3])


@pytest.mark.parametrize("key", ["ignore", "iscrowd"])
def test_coco_annotations_are_ignored_one_by_one(key: str) -> None:
    images = [[ONE, {**ONE, key: 1}, ONE], [{**ONE, key: True}, {**ONE, key: False}], [{**ONE, key: 0}]]
    assert [flags.tolist() for flags in targets_from_coco(images).ignored] == [
        [False, True, False],
        [True, False, False],
        [False, False, False],
    ]


def test_coco_images_without_annotations() -> None:
    for count in (1, 2, 3):  # two empty lists are no pair of boxes and labels
        assert Targets.of([NONE] * count).num_targets.tolist() == [0] * count
    assert targets_from_coco([[ONE]]).labels.tensor.tolist() == [[18]]


# --- Ultralytics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 0])
@pytest.mark.parametrize("read", [targets_from_ultralytics, Targets.of])
def test_ultralytics(read: Callable[..., Targets], columns: int) -> None:
    batch = {
        "img": torch.zeros(3, 3, 40, 80),
        "batch_idx": torch.tensor([2.0, 0.0, 2.0]),
        "cls": torch.tensor([5.0, 6.0, 7.0]).view(3, *(1,) * columns),
        "bboxes": torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.25, 0.25]]),
        "im_file": ["a", "b", "c"],
    }
    targets = read(batch)
    assert [labels.tolist() for labels in targets.labels.split()] == [[6], [], [5, 7]]
    assert targets.boxes_as("xyxy", normalized=False)[0, 0].tolist() == [0, 0, 40, 20]
    del batch["img"]
    assert read(batch, batch_size=4).num_targets.tolist() == [1, 0, 2, 0]


# --- boxes that say their format -------------------------------------------------------------------------------------


def test_boxes_say_their_format_and_canvas() -> None:
    targets = Targets.of([described([4, 2, 8, 6]), described(size=(32, 32))])
    assert targets.box_format == "xywh" and not targets.normalized
    assert targets.canvas_size is not None and targets.canvas_size.tolist() == [[48, 64], [32, 32]]
    assert targets.boxes_as("xyxy")[0].tolist() == [[4, 2, 12, 8]]
    # A tensor of another class would escape the checks of values.
    assert type(targets.boxes.tensor) is Tensor


def test_what_boxes_say_can_be_repeated() -> None:
    given = [described([4, 2, 8, 6])]
    for layout in ({"box_format": "xywh"}, {"canvas_size": (48, 64)}, {"normalized": False}, {"canvas_size": None}):
        assert Targets.of(given, **layout).boxes_as("xyxy").tolist() == [[[4, 2, 12, 8]]]
    assert targets_from_lists([given[0]["boxes"]], [ints(1)]).box_format == "xywh"


# --- what several readers share --------------------------------------------------------------------------------------


def test_collated_crowds_are_ignored() -> None:
    def sample(*crowd: int) -> dict[str, Tensor]:
        return {"boxes": torch.ones(len(crowd), 4), "labels": ints(*crowd), "iscrowd": ints(*crowd)}

    batch = collate([sample(0, 1), sample(1)])
    assert Targets.of(batch).ignored.tolist() == [[False, True], [True, False]]
    both = {**batch, "ignore": batch["labels"] == 0}
    assert Targets.of(both).ignored.tolist() == [[True, True], [True, False]]


def test_pinned_where_there_is_an_accelerator() -> None:
    targets = Targets.of([described([4, 2, 8, 6])])
    if torch.cuda.is_available():
        assert targets.pin_memory().boxes.tensor.is_pinned()
    else:
        with pytest.raises(RuntimeError):
            targets.pin_memory()


BATCH = {"batch_idx": torch.zeros(1), "cls": torch.ones(1), "bboxes": torch.full((1, 4), 0.5)}
PADDED = {"boxes": torch.zeros(1, 2, 4), "labels": torch.zeros(1, 2, dtype=torch.int64)}
UNUSUAL: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: targets_from_coco([ONE]), KeyError, "nobody reads 'bbox' of sample 0"),
    (lambda: targets_from_coco([[3]]), TypeError, "each annotation of sample 0 must be a dict, got int"),
    (lambda: targets_from_coco([[], [{"bbox": [1] * 4}]]), ValueError, "of sample 1 has no 'category_id', but"),
    (
        lambda: targets_from_coco([[{**ONE, "bbox": [1, 2]}]]),
        ValueError,
        "bbox of sample 0 must be four numbers, got 2",
    ),
    (lambda: targets_from_coco([[ONE]], label_of={1: 0}), ValueError, "sample 0 has the category 18, which has no"),
    (lambda: targets_from_coco([[ONE]], label_of=[0]), TypeError, "label_of must be a dict from category ids"),
    (lambda: targets_from_coco([]), ValueError, "at least one image"),
    (
        lambda: targets_from_coco([[{**ONE, "category_id": "cat"}]]),
        TypeError,
        "each category_id of sample 0 must be an int",
    ),
    (lambda: targets_from_coco([[ONE]], label_of={18: None}), TypeError, "each label in label_of must be an integer"),
    (
        lambda: targets_from_coco([[{**ONE, "iscrowd": "no"}]]),
        TypeError,
        "iscrowd and ignore of sample 0 must be an int",
    ),
    (lambda: Targets.of(BATCH), ValueError, "without 'img' does not say how many images there are: give batch_size="),
    (lambda: Targets.of({**BATCH, "img": torch.zeros(2, 3, 4, 4)}, batch_size=3), ValueError, "is 3, but img is of 2"),
    (lambda: Targets.of({**BATCH, "cls": torch.ones(2)}, batch_size=1), ValueError, r"got \(1,\), \(2,\), \(1, 4\)"),
    (
        lambda: Targets.of({**BATCH, "cls": torch.ones(1, device="meta")}, batch_size=1),
        ValueError,
        "cls must be on the",
    ),
    (lambda: targets_from_ultralytics({"cls": 1}), ValueError, r"needs 'batch_idx', got \['cls'\]"),
    (
        lambda: Targets.of([described([4, 2, 8, 6])], box_format="xyxy"),
        ValueError,
        "is 'xyxy', but the boxes say 'xywh'",
    ),
    (lambda: Targets.of([described()], normalized=True), ValueError, "normalized is True, but the boxes say False"),
    (lambda: Targets.of([described()], canvas_size=(64, 48)), ValueError, r"is \(64, 48\), but the boxes say"),
    (lambda: Targets.of([described(), described(format=Format.XYXY)]), ValueError, "of sample 1 are xyxy, those of"),
    (lambda: Targets.of([described(format=Format.XYWHR)]), ValueError, "of sample 0 have the format XYWHR, expected"),
    (lambda: Targets.of([described(), PADDED]), ValueError, "of sample 0 say their format .* those of sample 1 do not"),
    (lambda: Targets.of({**PADDED, "valid": torch.ones(1, 2)}), KeyError, "nobody reads 'valid' .* name it 'mask'"),
    (lambda: Targets.of({**PADDED, "iscrowd": 1}), TypeError, "iscrowd must be a torch.Tensor, got int"),
    (lambda: Targets.of([PADDED, 3]), TypeError, "the targets of sample 1 must be a dict, got int"),
]


@pytest.mark.parametrize(("make", "error", "words"), UNUSUAL)
def test_bad_input(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
