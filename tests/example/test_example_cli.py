"""Runs from the command line to the pictures, each tiny, and what the command line refuses."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from example.__main__ import main
from example.coco_digits import write_coco_digits
from example.compare import compare
from example.data import make_loader
from example.detectors import DETECTORS, make_detector
from example.digits import DIGITS, DigitScenes
from example.options import parse_arguments
from example.progress import Progress
from example.run import make_samples
from example.train import train

TINY = ["--epochs=2", "--train-scenes=6", "--val-scenes=3", "--batch-size=4"]
PICTURES = ("scenes.png", "losses.png", "hardest.png")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_is_a_picture(path: Path) -> None:
    """Of some size, and neither blank nor cut off: many colours, all in a white frame."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    assert (pixels[0] == 255).all() and (pixels[:, -1] == 255).all()


@pytest.mark.hunts
def test_scenes_of_digits(tmp_path, capsys):
    assert main([*TINY, "--matcher=simota", "--amp", f"--out={tmp_path / 'run'}"]) == 0
    printed = capsys.readouterr()
    assert "mAP@0.5 = " in printed.out and "mAP@[.5:.95] = " in printed.out and str(tmp_path / "run") in printed.out
    first, second = (line for line in printed.err.splitlines() if line.startswith("epoch"))
    assert first.startswith("epoch 1/2: loss ") and second.startswith("epoch 2/2: loss ")
    assert "(class " in first and ", giou " in first and "\r" not in printed.err, "a log file shows the terms"
    for name in PICTURES:
        assert_is_a_picture(tmp_path / "run" / name)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"mAP@0.5", "mAP@[.5:.95]", "losses", "train_seconds", "train_cpu_seconds", "seconds"} <= metrics.keys()

    steps, epochs = rows(tmp_path / "run" / "steps.csv"), rows(tmp_path / "run" / "epochs.csv")
    assert [row["step"] for row in steps] == ["1", "2", "3", "4"] and [row["epoch"] for row in epochs] == ["0", "1"]
    for row in [*steps, *epochs]:
        terms = [float(row[name]) for name in ("class", "l1", "giou")]
        assert float(row["total"]) == pytest.approx(sum(terms), rel=1e-4) and min(terms) > 0
    of_last_epoch = [float(row["class"]) for row in steps[2:]]
    assert float(epochs[1]["class"]) == pytest.approx(sum(of_last_epoch) / 2, rel=1e-4)
    assert metrics["losses"]["class"] == pytest.approx(float(epochs[1]["class"]), rel=1e-4)

    ranking = rows(tmp_path / "run" / "ranking.csv")
    losses = [float(row["loss"]) for row in ranking]
    assert losses == sorted(losses, reverse=True) and {row["image"] for row in ranking} == {
        f"scene {n}" for n in range(3)
    }
    scene = next(row for row in ranking if row["image"] == "scene 1")
    assert int(scene["objects"]) == len(make_samples(parse_arguments(TINY))[1][1][1]["labels"])


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with Progress(2, 1) as progress:
        progress.step({"loss_class": 0.5, "loss_giou": 1.0})
        progress.step({"loss_class": 0.25, "loss_giou": 1.0})
        progress.epoch(0, {"loss_class": 0.25})
    shown = sys.stderr.getvalue()
    assert "class=0.25" in shown and "giou=1" in shown and "2/2" in shown and "epoch" not in shown
    with Progress(2, 1, shown=False) as progress:
        progress.step({"loss_class": 0.5})
    assert sys.stderr.getvalue() == shown


def test_help_is_grouped(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for group in ("model and loss:", "data:", "training:", "output:"):
        assert f"\n{group}\n" in shown


@pytest.mark.hunts
def test_a_coco_folder_with_crowds_and_empty_images(tmp_path, capsys):
    path = write_coco_digits(tmp_path / "set", 12)
    content = json.loads(path.read_text())
    annotated = {entry["image_id"] for entry in content["annotations"]}
    assert any(entry["iscrowd"] for entry in content["annotations"])
    assert any(image["id"] not in annotated for image in content["images"])
    small = ["--epochs=1", "--batch-size=4", "--image-size=64", "--criterion=dfine", "--tensorboard"]
    data = [f"--data={tmp_path / 'set' / 'images'}", f"--ann={path}"]
    apart = [f"--val-data={tmp_path / 'set' / 'images'}", f"--val-ann={path}"]
    assert main([*small, *data, *apart, "--workers=1", "--seed=1", "--device=cpu", f"--out={tmp_path / 'run'}"]) == 0
    assert "mAP@0.5 = " in capsys.readouterr().out
    for name in PICTURES:
        assert_is_a_picture(tmp_path / "run" / name)
    ranking = rows(tmp_path / "run" / "ranking.csv")
    assert len(ranking) == 12 and "0" in {row["objects"] for row in ranking}
    assert all(np.isfinite(float(row["loss"])) for row in ranking)

    train, val = make_samples(parse_arguments(data))
    assert len(train) == 9 and len(val) == 3 and train.task == val.task and train.task.image_size == 256

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert {"loss/total", "loss/loss_vfl", "loss/loss_fgl_aux_0", "epoch/total", "train/learning_rate"} <= set(
        events.Tags()["scalars"]
    )
    steps = rows(tmp_path / "run" / "steps.csv")
    found = [event.value for event in events.Scalars("loss/total")]
    assert found == pytest.approx([float(row["total"]) for row in steps], rel=1e-4) and len(found) == 3


@pytest.mark.hunts
def test_comparison(tmp_path):
    options = parse_arguments([*TINY, "--compare", f"--out={tmp_path}"])
    table = compare(options, make_samples(options), criteria=("own", "ssd")).splitlines()
    assert [line.split()[0] for line in table] == ["criterion", "own", "ssd"]
    assert (tmp_path / "compare.txt").read_text().splitlines() == table
    assert [row["criterion"] for row in rows(tmp_path / "compare.csv")] == ["own", "ssd"]
    assert all(float(row["train_cpu_seconds"]) > 0 for row in rows(tmp_path / "compare.csv"))
    assert_is_a_picture(tmp_path / "compare.png")
    assert (tmp_path / "ssd" / "scenes.png").exists()


@pytest.mark.graphs
def test_what_is_compiled_trains_alike_and_is_compiled_once():
    scenes, compiled, losses = DigitScenes(13, split="train"), [], []
    batches = list(make_loader(scenes, batch_size=4, drop_last=True))
    assert len(batches) == 3 and len({targets["labels"].max_sample_size for _, targets in batches}) > 1

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    for each in (None, backend):
        torch.manual_seed(0)
        loader = make_loader(scenes, batch_size=4, drop_last=True)
        losses.append(train(make_detector("own", DIGITS), loader, DIGITS, epochs=1, backend=each))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert len(compiled) == 1
    options = [parse_arguments(arguments).compile for arguments in ([], ["--compile"], ["--compile=eager"])]
    assert options == [None, "inductor", "eager"]


def test_every_criterion_has_a_name():
    assert len(DETECTORS) >= 9 and parse_arguments([]).criterion == "own"
    assert all(parse_arguments(["--criterion", name]).criterion == name for name in DETECTORS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs=0"], "--epochs: expected at least 1, got 0"),
        (["--batch-size=none"], "--batch-size"),
        (["--criterion=yolo"], "invalid choice: 'yolo'"),
        (["--criterion=ssd", "--matcher=atss"], "the criterion ssd has a matcher of its own"),
        (["--compare", "--criterion=ssd"], "--compare trains with every criterion in turn"),
        (["--data=."], "--data and --ann go together"),
        (["--ann=a.json"], "--data and --ann go together"),
        (["--data=.", "--ann=a.json", "--val-data=."], "--val-data needs --val-ann"),
        (["--val-ann=a.json"], "--val-ann goes with --data"),
        (["--image-size=64"], "--image-size goes with --data"),
        (["--data=.", "--ann=a.json", "--image-size=100"], "must be a multiple of 32, got 100"),
        (["--data=.", "--ann=a.json", "--train-scenes=5"], "--train-scenes goes with the scenes of digits"),
        (["--device=warp"], "--device warp: "),
        (["--compile=turbo"], "--compile turbo: torch.compile has no such backend, but "),
        (["--data=nowhere", "--ann=a.json"], "there is no folder nowhere"),
        (["--data=.", "--ann=nothing.json"], "there is no file nothing.json"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--device=cuda"])
    assert "--device cuda: " in capsys.readouterr().err


def test_tensorboard_needs_its_package(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        parse_arguments(["--tensorboard"])
    assert "--tensorboard needs a package: pip install" in capsys.readouterr().err
