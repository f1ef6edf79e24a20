"""Command line of the example: ``python -m example --help``."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from example.criterion import DetectionCriterion
from example.data import IMAGE_SIZE, NUM_CLASSES, DigitScenes, make_loader
from example.evaluate import coco_map, detect
from example.heads import HEADS, HeadDetector
from example.matching import MATCHERS, make_matcher
from example.model import GridDetector
from example.picture import draw_scenes
from example.ranks import num_ranks, process_group, rank
from example.train import train
from matchers import Predictions, Targets

Loss = Callable[[Any, Targets], dict[str, Tensor]]
Decode = Callable[[Any], Predictions]


def _at_least(minimum: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected at least {minimum}, got {value}")
        return value

    return integer


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line (that of the process if none is given)."""
    parser = argparse.ArgumentParser(
        prog="python -m example",
        description="Train a small detector on scenes of handwritten digits, then print its mAP and draw a picture.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--criterion",
        choices=["own", *HEADS],
        default="own",
        help="the loss, with a head that suits it; own is example/criterion.py",
    )
    parser.add_argument("--matcher", choices=list(MATCHERS), help="who learns which digit, with the criterion own")
    parser.add_argument("--epochs", type=_at_least(1), default=10, help="passes over the training scenes")
    parser.add_argument("--batch-size", type=_at_least(1), default=32, help="scenes in a step, of all ranks")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="chooses the scenes, the weights and the order")
    parser.add_argument("--out", type=Path, default=Path("runs/example"), help="folder for picture and metrics")
    parser.add_argument("--device", default="cpu", help="device to train on, for example cpu or cuda")
    parser.add_argument("--ddp", action="store_true", help="train on all ranks that torchrun started")
    parser.add_argument("--train-scenes", type=_at_least(1), default=2000, help="number of training scenes")
    parser.add_argument("--val-scenes", type=_at_least(1), default=300, help="number of validation scenes")
    parser.add_argument("--workers", type=_at_least(0), default=0, help="processes that load scenes, 0 for none")
    options = parser.parse_args(arguments)
    if options.matcher and options.criterion != "own":
        parser.error(f"--matcher goes with --criterion own, the criterion {options.criterion} has a matcher of its own")
    if options.ddp and "RANK" not in os.environ:
        parser.error("--ddp needs ranks: torchrun --nproc-per-node=2 -m example --ddp")
    return options


def make_detector(criterion: str, matcher: str | None) -> tuple[nn.Module, Loss, Decode]:
    """The model, what it is trained with, and how its output is read."""
    if criterion == "own":
        own = DetectionCriterion(matcher=make_matcher(matcher or "hungarian", IMAGE_SIZE), image_size=IMAGE_SIZE)
        return GridDetector(NUM_CLASSES), own, lambda predictions: predictions
    head = HEADS[criterion]
    module = head.criterion()

    def loss(maps: Any, targets: Targets) -> dict[str, Tensor]:
        found = module(head.inputs(maps), targets)
        return found if isinstance(found, dict) else {"loss": found}

    return HeadDetector(head), loss, head.decode


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, evaluate and draw; return the exit status."""
    options = parse_arguments(arguments)
    start = time.perf_counter()
    torch.manual_seed(options.seed)
    loading = {"batch_size": options.batch_size, "workers": options.workers, "seed": options.seed}
    train_scenes = DigitScenes(options.train_scenes, split="train", seed=options.seed)
    model, criterion, decode = make_detector(options.criterion, options.matcher)
    with process_group(options.device) if options.ddp else nullcontext(options.device) as device:
        ranks = {"rank": rank(), "num_ranks": num_ranks()}
        loader = make_loader(train_scenes, shuffle=True, **loading, **ranks)
        losses = train(model, loader, criterion, epochs=options.epochs, device=device)
    if ranks["rank"] > 0:
        return 0

    val_scenes = DigitScenes(options.val_scenes, split="val", seed=options.seed)
    detections, targets = detect(model, make_loader(val_scenes, **loading), decode=decode, device=device)
    scores = coco_map(detections, targets)
    for name in ("mAP@0.5", "mAP@[.5:.95]"):
        print(f"{name} = {scores[name]:.3f}")
    picture = draw_scenes(val_scenes, detections, options.out / "scenes.png")
    seconds = round(time.perf_counter() - start, 1)
    metrics = {**scores, "ranks": ranks["num_ranks"], "losses": losses, "seconds": seconds}
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"picture written to {picture} after {seconds} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
