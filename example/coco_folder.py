"""A folder of images with annotations in COCO's format, as a plain map-style dataset."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import Dataset

from example.data import Sample, Task

Part = Literal["train", "val", "all"]

# Between black and white, so that the border is neither.
_BORDER = 0.5
_VAL_EVERY = 5


class CocoFolder(Dataset[Sample]):
    """Images, brought to one size, with their boxes; those without an object are kept.

    Crowds become ignored targets: no prediction has to find them, and none that does is wrong. Boxes without an area
    are left out. There is no augmentation: it belongs into ``__getitem__``.

    Args:
        folder: Holds the images.
        annotations: The json file.
        image_size: Side of the square that images are made to fit, in pixels; a multiple of 32.
        part: ``"val"`` for every fifth image, ``"train"`` for the others, ``"all"`` for all.
        categories: Identifiers by label; by default those of the file, in increasing order.

    Raises:
        FileNotFoundError: There is no such folder, file or image.
        ValueError: The file is not in COCO's format, has a category that is not among ``categories``, or the part has
            no image.
    """

    def __init__(
        self,
        folder: Path,
        annotations: Path,
        *,
        image_size: int,
        part: Part = "all",
        categories: tuple[int, ...] | None = None,
    ) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        self.folder, self._coco = folder, read_annotations(annotations)
        known = {category["id"]: str(category["name"]) for category in self._coco.dataset["categories"]}
        self.categories = tuple(sorted(known)) if categories is None else categories
        self._label_of = {category: label for label, category in enumerate(self.categories)}
        _check_entries(self._coco, self._label_of, annotations)
        names = tuple(known.get(category, str(category)) for category in self.categories)
        self.task = Task(names, image_size, channels=3)
        images = sorted(self._coco.getImgIds())
        of_val = images[::_VAL_EVERY]
        self._images = {"train": sorted(set(images) - set(of_val)), "val": of_val, "all": images}[part]
        if not self._images:
            raise ValueError(f"{annotations} has {len(images)} images, which is too few for the part {part!r}")
        names_of_files = [self.name(index) for index in range(len(self))]
        missing = [name for name in names_of_files if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(self)} images that {annotations} names are not in {folder}, the first of them "
                f"{missing[0]}"
            )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        with Image.open(self.folder / self.name(index)) as opened:
            image, scale = letterbox(opened.convert("RGB"), self.task.image_size)
        entries = self._coco.loadAnns(self._coco.getAnnIds(imgIds=self._images[index]))
        entries = [entry for entry in entries if min(entry["bbox"][2:]) > 0]
        boxes = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float32).reshape(-1, 4) * scale
        corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1).clamp(0, self.task.image_size)
        labels = torch.tensor([self._label_of[entry["category_id"]] for entry in entries], dtype=torch.int64)
        ignore = torch.tensor([bool(entry.get("iscrowd", 0)) for entry in entries], dtype=torch.bool)
        return image, {"boxes": corners, "labels": labels, "ignore": ignore}

    def name(self, index: int) -> str:
        """The name of the image's file."""
        return str(self._coco.imgs[self._images[index]]["file_name"])


def read_annotations(path: Path) -> COCO:
    """Read a file, and say what is wrong with it."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no json file: {error}") from None
    wanted = ("images", "annotations", "categories")
    missing = [key for key in wanted if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"{path} is not in COCO's format: it has no {missing[0]!r}, but must have {', '.join(wanted)}")
    if not content["images"] or not content["categories"]:
        raise ValueError(f"{path} has no image" if not content["images"] else f"{path} has no category")
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def letterbox(image: Image.Image, size: int) -> tuple[Tensor, float]:
    """Scale an image to fit into a square, at its upper left, and fill the rest.

    Args:
        image: In colours.
        size: Side of the square, in pixels.

    Returns:
        The image (3, size, size), float32 from 0 to 1, and what coordinates are multiplied by.
    """
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    canvas = torch.full((3, size, size), _BORDER)
    canvas[:, :height, :width] = torch.from_numpy(pixels).permute(2, 0, 1)
    return canvas, scale


def _check_entries(coco: COCO, label_of: dict[int, int], path: Path) -> None:
    entries: list[dict[str, Any]] = coco.dataset["annotations"]
    for entry in entries:
        if entry["category_id"] not in label_of:
            known = ", ".join(map(str, label_of))
            raise ValueError(
                f"{path}: annotation {entry.get('id')} has the category {entry['category_id']}, the categories are "
                f"{known}; a validation file must have those of the training file"
            )
        if entry["image_id"] not in coco.imgs:
            raise ValueError(f"{path}: annotation {entry.get('id')} is of image {entry['image_id']}, which is missing")
        if len(entry.get("bbox", ())) != 4:
            raise ValueError(f"{path}: annotation {entry.get('id')} has no bbox [x, y, width, height]")
