"""Train the example with a criterion of each family, and keep small pictures.

``python -m docs.pictures.gallery`` writes into ``docs/_static/gallery``. It takes about a
quarter of an hour on two cores.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from example.curves import draw_curves
from example.data import make_loader
from example.detectors import make_detector
from example.digits import DigitScenes
from example.evaluate import coco_map, evaluate
from example.logs import Log
from example.picture import draw_scenes
from example.ranking import draw_hardest, rank_images
from example.train import train

FOLDER = Path(__file__).parent.parent / "_static" / "gallery"
FAMILIES = ("yolox", "atss", "dfine")
"""Points, anchors, queries."""
SHOWN_WHOLE = "yolox"
"""The loss curves and the hardest images of this one are shown, too."""
BATCH_SIZE, COLOURS = 32, 48


def draw(name: str, folder: Path, *, epochs: int = 10, scenes: int = 2000) -> dict[str, float]:
    """Train as ``python -m example --criterion NAME`` does; returns the scores."""
    torch.manual_seed(0)
    training = DigitScenes(scenes, split="train")
    validation = DigitScenes(max(scenes * 3 // 20, 1), split="val")
    detector = make_detector(name, training.task)
    loader = make_loader(training, batch_size=BATCH_SIZE, shuffle=True)
    with tempfile.TemporaryDirectory() as place:
        with Log(Path(place)) as log:
            train(detector, loader, training.task, epochs=epochs, log=log)
        found = evaluate(
            detector, make_loader(validation, batch_size=BATCH_SIZE), validation.task
        )
        keep(draw_scenes(detector, validation, found, folder / f"{name}.png", count=2))
        if name == SHOWN_WHOLE:
            shutil.copy(draw_curves(Path(place)), folder / "losses.png")
            ranking = rank_images(found.losses)
            draw_hardest(ranking, found, validation, folder / "hardest.png", count=5)
            keep(folder / "losses.png")
            keep(folder / "hardest.png")
    return coco_map(found.detections, found.targets, num_classes=training.task.num_classes)


def keep(path: Path, colours: int = COLOURS) -> None:
    """Write a picture again in few colours, which makes it small."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def main(folder: Path) -> None:
    """All families."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FAMILIES:
        scores = draw(name, folder)
        print(name, {key: round(value, 3) for key, value in scores.items()}, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
