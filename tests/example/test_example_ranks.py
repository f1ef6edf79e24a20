"""Training on two ranks: shares of the scenes, one model, global counts; and the command line under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from effort import thorough
from torch import Tensor

from example.data import make_loader, to_targets
from example.detectors import DETECTORS, make_detector
from example.digits import DIGITS, DigitScenes
from example.options import parse_arguments
from example.train import train

ROOT = Path(__file__).resolve().parents[2]
RANKS, SCENES = 2, 4
CRITERIA = tuple(DETECTORS)


def terms(name: str, rank: int = 0, num_ranks: int = 1) -> dict[str, Tensor]:
    """Of an untrained model, for a rank's share of the scenes."""
    torch.manual_seed(0)
    detector = make_detector(name, DIGITS)
    scenes = DigitScenes(SCENES, split="train")
    images, targets = next(iter(make_loader(scenes, batch_size=SCENES, rank=rank, num_ranks=num_ranks)))
    # Batch normalisation of a share would not be that of the whole.
    output = detector.model.eval()(images)
    terms = detector.losses(output, to_targets(targets, DIGITS), detector.make_criterion("mean").eval())
    return {key: value.detach() for key, value in terms.items()}


def on_rank(rank: int, num_ranks: int) -> dict[str, Any]:
    """Of each criterion the terms, and the model and the mean losses after two steps."""
    found: dict[str, Any] = {}
    scenes = DigitScenes(SCENES, split="train")
    for name in CRITERIA:
        torch.manual_seed(0)
        detector = make_detector(name, DIGITS)
        before = [parameter.detach().clone() for parameter in detector.model.parameters()]
        loader = make_loader(scenes, batch_size=SCENES // 2, shuffle=True, rank=rank, num_ranks=num_ranks)
        losses = train(detector, loader, DIGITS, epochs=1)
        after = [parameter.detach() for parameter in detector.model.parameters()]
        found[name] = {"terms": terms(name, rank, num_ranks), "losses": losses, "before": before, "after": after}
    return found


@pytest.mark.parametrize("name", CRITERIA)
def test_ranks_train_one_model(name: str, by_rank: list[dict[str, Any]]) -> None:
    first, second = (found[name] for found in by_rank)
    assert first["losses"] == second["losses"]
    assert all(torch.equal(one, other) for one, other in zip(first["after"], second["after"], strict=True))
    # A coarse level may have nothing to learn from four scenes.
    moved = [not torch.equal(one, other) for one, other in zip(first["before"], first["after"], strict=True)]
    assert sum(moved) > 0.9 * len(moved)


@pytest.mark.parametrize("name", CRITERIA)
def test_terms_of_the_ranks_are_those_of_the_whole_batch(name: str, by_rank: list[dict[str, Any]]) -> None:
    shares = [found[name]["terms"] for found in by_rank]
    for key, value in terms(name).items():
        torch.testing.assert_close(sum(share[key] for share in shares) / RANKS, value, rtol=1e-4, atol=1e-6)


def test_ranks_share_the_scenes() -> None:
    scenes = DigitScenes(6, split="train")
    loaders = [make_loader(scenes, batch_size=4, shuffle=True, rank=rank, num_ranks=RANKS) for rank in range(RANKS)]
    found = [list(loader.sampler) for loader in loaders]
    assert sorted(found[0] + found[1]) == list(range(6)) and len(found[0]) == 3
    assert [len(images) for images, _ in loaders[0]] == [2, 1]
    with pytest.raises(ValueError, match="multiple of the number of ranks, 2, got 3"):
        make_loader(scenes, batch_size=3, num_ranks=RANKS)


@thorough
def test_command_line(tmp_path: Path) -> None:
    small = {"epochs": 1, "train-scenes": 6, "val-scenes": 4, "batch-size": 4, "out": tmp_path / "run"}
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    run = subprocess.run(
        [
            *torchrun,
            "-m",
            "example",
            "--ddp",
            "--criterion=yolox",
            *(f"--{name}={value}" for name, value in small.items()),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("mAP@0.5 = ") == 1 and run.stdout.count("pictures and tables written to") == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["ranks"] == RANKS


def test_ddp_needs_ranks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit):
        parse_arguments(["--ddp"])
    assert "torchrun --nproc-per-node=2 -m example --ddp" in capsys.readouterr().err
