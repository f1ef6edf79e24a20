"""A tiny run from the command line to the picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from example.__main__ import parse_arguments

ROOT = Path(__file__).resolve().parents[2]


def test_tiny_run(tmp_path):
    small = {"epochs": 1, "train-scenes": 6, "val-scenes": 4, "batch-size": 4, "out": tmp_path / "run"}
    options = [f"--{name}={value}" for name, value in small.items()]
    run = subprocess.run(
        [sys.executable, "-m", "example", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    picture, metrics = tmp_path / "run" / "scenes.png", tmp_path / "run" / "metrics.json"
    assert "mAP@0.5 = " in run.stdout and "mAP@[.5:.95] = " in run.stdout and str(picture) in run.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {"mAP@0.5", "mAP@[.5:.95]", "losses", "seconds"} <= json.loads(metrics.read_text()).keys()


@pytest.mark.parametrize("option", ["--epochs=0", "--batch-size=none", "--workers=-1"])
def test_wrong_options_are_refused(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_arguments([option])
    assert stopped.value.code == 2
    assert option.split("=")[0] in capsys.readouterr().err
