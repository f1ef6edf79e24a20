"""Lightning and Accelerate, the real packages: they move and collate our types, and train with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tools import everything, run_page

from matchers import Assignment, Targets
from ragged import RaggedBatch

META = torch.device("meta")


def check_moved(moved: dict[str, Any]) -> None:
    assert list(moved) == list(everything()) and moved["name"] == "two images"
    assert isinstance(moved["boxes"], RaggedBatch) and moved["boxes"].mask.device == META
    (targets,), (assignment, plan) = moved["targets"], moved["matches"]
    assert isinstance(targets, Targets) and targets.canvas_size.device == targets.labels.device == META
    assert isinstance(assignment, Assignment) and assignment.target_index.device == plan.weights.device == META


@pytest.mark.filterwarnings("ignore")
def test_lightning_trains(lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page("Lightning")
    assert names["trainer"].global_step == 2
    assert names["trainer"].callback_metrics["loss"].isfinite()


def test_lightning_moves_what_holds_tensors(lightning: Any) -> None:
    check_moved(lightning.LightningModule().transfer_batch_to_device(everything(), META, 0))


def test_lightning_finds_the_batch_size(lightning: Any) -> None:
    from pytorch_lightning.utilities.data import extract_batch_size

    assert extract_batch_size({"boxes": everything()["boxes"]}) == 2


@pytest.mark.filterwarnings("ignore")
def test_accelerate_trains(lightning: Any, accelerate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page("Accelerate")
    assert isinstance(names["batch"]["boxes"], RaggedBatch) and names["batch"]["boxes"].sample_sizes.tolist() == [1, 3]
    assert all(parameter.isfinite().all() for parameter in names["model"].parameters())


def test_accelerate_moves_what_holds_tensors(accelerate: Any) -> None:
    check_moved(accelerate.utils.send_to_device(everything(), META, non_blocking=True))
