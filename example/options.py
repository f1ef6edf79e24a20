"""The command line of the example: its options, and which of them exclude each other."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from example.detectors import DETECTORS
from example.matching import MATCHERS

_COARSEST_STRIDE = 32


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line (that of the process if none is given)."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    _check(parser, options)
    if not options.data:
        options.train_scenes, options.val_scenes = options.train_scenes or 2000, options.val_scenes or 300
    options.image_size = options.image_size or 256
    return options


def make_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        prog="python -m example",
        usage="%(prog)s [--help] [options]",
        description="Train a small detector, print its mAP, and draw detections, matches and the hardest images.",
        epilog="Start with: python -m example --epochs 2 --train-scenes 500",
    )
    what = parser.add_argument_group("model and loss")
    what.add_argument(
        "--criterion",
        choices=list(DETECTORS),
        help="the loss, with a head that fits it; own is the loss of example/criterion.py (default: own)",
    )
    what.add_argument("--matcher", choices=list(MATCHERS), help="the matcher of the criterion own (default: hungarian)")
    what.add_argument(
        "--compare",
        action="store_true",
        help="train with every criterion, one after the other; write a table and a plot",
    )
    _add_data(
        parser.add_argument_group(
            "data", "scenes of handwritten digits, or a folder in COCO's format with --data and --ann"
        )
    )
    how = parser.add_argument_group("training")
    how.add_argument("--epochs", type=_at_least(1), default=10, help="passes over the training images (default: 10)")
    how.add_argument(
        "--batch-size", type=_at_least(1), default=32, help="images in a step, on all ranks together (default: 32)"
    )
    how.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of scenes, initial weights and order (default: 0)"
    )
    how.add_argument("--device", default="cpu", help="device to train on, for example cuda (default: cpu)")
    how.add_argument(
        "--amp", action="store_true", help="mixed precision: the network computes in bfloat16, the loss in float32"
    )
    how.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="compile network, matching and loss with torch.compile (default backend: inductor)",
    )
    how.add_argument(
        "--ddp", action="store_true", help="train on several ranks: torchrun --nproc-per-node=2 -m example --ddp"
    )
    how.add_argument(
        "--workers", type=_at_least(0), default=0, help="number of processes that load images (default: 0)"
    )
    result = parser.add_argument_group("output")
    result.add_argument(
        "--out", type=Path, default=Path("runs/example"), help="folder for pictures and tables (default: runs/example)"
    )
    result.add_argument("--tensorboard", action="store_true", help="also write events for TensorBoard")
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--train-scenes", type=_at_least(1), help="number of training scenes (default: 2000)")
    group.add_argument("--val-scenes", type=_at_least(1), help="number of validation scenes (default: 300)")
    group.add_argument("--data", type=Path, metavar="DIR", help="folder of images; needs --ann")
    group.add_argument("--ann", type=Path, metavar="FILE", help="annotations of these images in COCO's format, json")
    group.add_argument(
        "--val-ann",
        type=Path,
        metavar="FILE",
        help="annotations of validation images (default: every fifth image of --ann)",
    )
    group.add_argument("--val-data", type=Path, metavar="DIR", help="folder of validation images (default: --data)")
    group.add_argument(
        "--image-size",
        type=_at_least(_COARSEST_STRIDE),
        help="images of --data are scaled to squares of this side (default: 256)",
    )


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a message if options exclude each other, or need something that is missing."""
    if options.compare and (options.criterion or options.matcher or options.ddp):
        parser.error("--compare trains with every criterion in turn: not together with --criterion, --matcher or --ddp")
    options.criterion = options.criterion or "own"
    if options.matcher and options.criterion != "own":
        parser.error(f"--matcher goes with --criterion own, the criterion {options.criterion} has a matcher of its own")
    if options.ddp and "RANK" not in os.environ:
        parser.error("--ddp needs ranks: torchrun --nproc-per-node=2 -m example --ddp")
    if bool(options.data) != bool(options.ann):
        parser.error("--data and --ann go together: --data images --ann annotations.json")
    if options.val_data and not options.val_ann:
        parser.error("--val-data needs --val-ann, the annotations of these images")
    for name in ("val_ann", "image_size"):
        if getattr(options, name) and not options.data:
            parser.error(f"--{name.replace('_', '-')} goes with --data; scenes of digits have what they need")
    for name in ("train_scenes", "val_scenes"):
        if getattr(options, name) and options.data:
            parser.error(f"--{name.replace('_', '-')} goes with the scenes of digits, not with --data")
    if options.image_size and options.image_size % _COARSEST_STRIDE:
        parser.error(f"--image-size must be a multiple of {_COARSEST_STRIDE}, got {options.image_size}")
    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        parser.error("--tensorboard needs a package: pip install -c constraints.txt -e '.[tensorboard]'")
    if options.compile and options.compile not in torch.compiler.list_backends(exclude_tags=()):
        backends = ", ".join(torch.compiler.list_backends())
        parser.error(f"--compile {options.compile}: torch.compile has no such backend, but {backends}")
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {options.device}: {str(error).splitlines()[0]}")


def _at_least(minimum: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected at least {minimum}, got {value}")
        return value

    return integer
