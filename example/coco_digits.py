"""Writes scenes of digits as a folder of images with annotations in COCO's format: ``python -m example.coco_digits``.

It has what real sets have: images of different shapes, identifiers with gaps, images without an object, and crowds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from example.digits import MAX_DIGITS, load_glyphs, render_scene

ANNOTATIONS = "annotations.json"
"""Name of the file beside the folder ``images``."""
_SHORTEST, _LONGEST = 72, 129
_EMPTY_EVERY, _CROWD_EVERY, _FEWEST_IN_CROWD = 8, 6, 3


def write_coco_digits(folder: Path, num_images: int = 60, *, seed: int = 0) -> Path:
    """Write ``images/*.png`` and `ANNOTATIONS` into a folder.

    Args:
        folder: It is made if there is none.
        num_images: How many.
        seed: Chooses the scenes.

    Returns:
        The path of the annotations.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    glyphs, classes = load_glyphs("train")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(num_images):
        rng = np.random.default_rng((seed, index))
        height, width = (int(side) for side in rng.integers(_SHORTEST, _LONGEST, size=2))
        max_digits = 0 if index % _EMPTY_EVERY == _EMPTY_EVERY - 1 else MAX_DIGITS
        pixels, target = render_scene(rng, glyphs, classes, canvas=(height, width), max_digits=max_digits)
        name = f"{index:06d}.png"
        Image.fromarray((pixels[0].numpy().clip(0, 1) * 255).astype(np.uint8)).save(folder / "images" / name)
        images.append({"id": 100 + 3 * index, "file_name": name, "height": height, "width": width})
        for label, box, is_crowd in _objects(target, may_have_crowd=index % _CROWD_EVERY == _CROWD_EVERY - 1):
            annotations.append(_annotation(len(annotations) + 1, images[-1]["id"], label, box, is_crowd))
    # Sets in this format seldom count from 0, nor without gaps.
    categories = [{"id": _category(label), "name": str(label)} for label in range(10)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / ANNOTATIONS
    path.write_text(json.dumps(content))
    return path


def _objects(target: dict[str, Tensor], *, may_have_crowd: bool) -> list[tuple[int, np.ndarray, bool]]:
    """Label, box and whether it is a crowd: of many objects, the last two together, as if nobody had counted them."""
    labels, boxes = target["labels"].tolist(), target["boxes"].double().numpy()
    single = [(label, box, False) for label, box in zip(labels, boxes, strict=True)]
    if not may_have_crowd or len(single) < _FEWEST_IN_CROWD:
        return single
    crowd = np.concatenate([boxes[-2:, :2].min(axis=0), boxes[-2:, 2:].max(axis=0)])
    return [*single[:-2], (labels[-2], crowd, True)]


def _category(label: int) -> int:
    return 2 * label + 1


def _annotation(identifier: int, image: int, label: int, box: np.ndarray, is_crowd: bool) -> dict[str, Any]:
    x1, y1, x2, y2 = box.tolist()
    entry = {"id": identifier, "image_id": image, "category_id": _category(label), "iscrowd": int(is_crowd)}
    return {**entry, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a set where the command line says, and say how to train on it."""
    parser = argparse.ArgumentParser(prog="python -m example.coco_digits", description=(__doc__ or "").split(":")[0])
    parser.add_argument("folder", type=Path, help="where to write images/ and annotations.json")
    parser.add_argument("--images", type=int, default=400, help="number of images (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the scenes (default: 0)")
    options = parser.parse_args(arguments)
    path = write_coco_digits(options.folder, options.images, seed=options.seed)
    print(f"{options.images} images written; train on them with")
    print(f"python -m example --data {options.folder / 'images'} --ann {path} --image-size 128")


if __name__ == "__main__":
    main()
