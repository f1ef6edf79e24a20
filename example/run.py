"""One run: train, evaluate, draw, and write it all into a folder."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from typing import Any

import torch

from example.coco_folder import CocoFolder
from example.curves import draw_curves
from example.data import Samples, make_loader
from example.detector import Detector
from example.detectors import make_detector
from example.digits import DigitScenes
from example.evaluate import coco_map, evaluate
from example.logs import Log
from example.picture import draw_scenes
from example.ranking import draw_hardest, rank_images, write_ranking
from example.ranks import num_ranks, process_group, rank
from example.train import train


def make_samples(options: argparse.Namespace) -> tuple[Samples, Samples]:
    """Training and validation images, as the options say."""
    if options.data is None:
        return (
            DigitScenes(options.train_scenes, split="train", seed=options.seed),
            DigitScenes(options.val_scenes, split="val", seed=options.seed),
        )
    size, apart = {"image_size": options.image_size}, options.val_ann is not None
    training = CocoFolder(options.data, options.ann, part="all" if apart else "train", **size)
    if not apart:
        return training, CocoFolder(options.data, options.ann, part="val", **size)
    folder = options.val_data or options.data
    return training, CocoFolder(folder, options.val_ann, categories=training.categories, **size)


def run(options: argparse.Namespace, samples: tuple[Samples, Samples]) -> dict[str, Any]:
    """Train with one criterion, and write everything that is known about it.

    Args:
        options: As ``parse_arguments`` gives them.
        samples: For training and for validation, see `make_samples`.

    Returns:
        Scores, losses and times; nothing on ranks but the first.
    """
    training, validation = samples
    start = time.perf_counter()
    torch.manual_seed(options.seed)
    detector = make_detector(options.criterion, training.task, options.matcher)
    trained = _train(options, training, detector)
    if not trained:
        return {}
    scores = _evaluate(options, validation, detector)
    parameters = sum(parameter.numel() for parameter in detector.model.parameters())
    seconds = round(time.perf_counter() - start, 1)
    metrics = {"criterion": options.criterion, **scores, **trained, "parameters": parameters, "seconds": seconds}
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def _train(options: argparse.Namespace, training: Samples, detector: Detector) -> dict[str, Any]:
    """Train on one rank or on several; what is to be known about it, on the first of them."""
    with process_group(options.device) if options.ddp else nullcontext(options.device) as device:
        ranks: dict[str, Any] = {"rank": rank(), "num_ranks": num_ranks()}
        # Every shape of a batch is compiled for itself.
        even = options.compile is not None
        loader = make_loader(training, shuffle=True, drop_last=even, **_loading(options), **ranks)
        wall, cpu = time.perf_counter(), time.process_time()
        with Log(options.out, tensorboard=options.tensorboard) if ranks["rank"] == 0 else nullcontext() as log:
            how = {"device": device, "amp": options.amp, "backend": options.compile, "log": log}
            losses = train(detector, loader, training.task, epochs=options.epochs, **how)
    if ranks["rank"] > 0:
        return {}
    times = {"train_seconds": time.perf_counter() - wall, "train_cpu_seconds": time.process_time() - cpu}
    times = {name: round(value, 1) for name, value in times.items()}
    return {"losses": losses, "device": str(options.device), "ranks": ranks["num_ranks"], **times}


def _evaluate(options: argparse.Namespace, validation: Samples, detector: Detector) -> dict[str, float]:
    """Look at the validation images: scores, pictures and the ranking."""
    loader = make_loader(validation, **_loading(options))
    found = evaluate(detector, loader, validation.task, device=options.device)
    scores = coco_map(found.detections, found.targets, num_classes=validation.task.num_classes)
    draw_curves(options.out)
    draw_scenes(detector, validation, found, options.out / "scenes.png", device=options.device)
    ranking = rank_images(found.losses)
    write_ranking(ranking, found, validation, options.out / "ranking.csv")
    draw_hardest(ranking, found, validation, options.out / "hardest.png")
    return scores


def _loading(options: argparse.Namespace) -> dict[str, Any]:
    return {"batch_size": options.batch_size, "workers": options.workers, "seed": options.seed}
