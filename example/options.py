"""The command line of the example: its options, and what cannot be."""

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
        description="Train a small detector, print its mAP, and draw what it found, what was matched and what is hard.",
    )
    what = parser.add_argument_group("what is trained")
    what.add_argument(
        "--criterion", choices=list(DETECTORS), help="loss, with a head that suits it; own is example/criterion.py"
    )
    what.add_argument("--matcher", choices=list(MATCHERS), help="who learns which object, with the criterion own")
    what.add_argument("--compare", action="store_true", help="train with every criterion; a table and a plot of all")
    _add_data(parser.add_argument_group("on what", "scenes of handwritten digits, unless --data is given"))
    how = parser.add_argument_group("how")
    how.add_argument("--epochs", type=_at_least(1), default=10, help="passes over the training images (default: 10)")
    how.add_argument("--batch-size", type=_at_least(1), default=32, help="images in a step, of all ranks (default: 32)")
    how.add_argument(
        "--seed", type=_at_least(0), default=0, help="chooses scenes, weights and their order (default: 0)"
    )
    how.add_argument("--device", default="cpu", help="where to train, for example cuda (default: cpu)")
    how.add_argument("--amp", action="store_true", help="the network computes in bfloat16, the loss in float32")
    how.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="compile network, matching and loss, with inductor unless another backend of torch.compile is named",
    )
    how.add_argument("--ddp", action="store_true", help="train on all ranks that torchrun started")
    how.add_argument("--workers", type=_at_least(0), default=0, help="processes that load images (default: 0)")
    result = parser.add_argument_group("what comes out")
    result.add_argument(
        "--out", type=Path, default=Path("runs/example"), help="folder for all files (default: runs/example)"
    )
    result.add_argument("--tensorboard", action="store_true", help="write events for TensorBoard as well")
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--train-scenes", type=_at_least(1), help="number of training scenes (default: 2000)")
    group.add_argument("--val-scenes", type=_at_least(1), help="number of validation scenes (default: 300)")
    group.add_argument("--data", type=Path, metavar="DIR", help="folder of images, with --ann")
    group.add_argument("--ann", type=Path, metavar="FILE", help="their annotations in COCO's format, json")
    group.add_argument(
        "--val-ann", type=Path, metavar="FILE", help="those of validation images (default: every fifth of --ann)"
    )
    group.add_argument("--val-data", type=Path, metavar="DIR", help="folder of validation images (default: --data)")
    group.add_argument(
        "--image-size", type=_at_least(_COARSEST_STRIDE), help="side of the images with --data (default: 256)"
    )


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What goes together, and what is there."""
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
