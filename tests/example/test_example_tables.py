"""Small functions of the example: the examples in their docstrings, and tables that are written and read."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch

from example.logs import Log, by_name, read_table


@pytest.mark.parametrize("name", ["logs", "curves", "ranking"])
def test_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"example.{name}"), extraglobs={"torch": torch})
    assert found.attempted > 0 and found.failed == 0


def test_what_is_logged_is_read_back(tmp_path):
    with Log(tmp_path / "new") as log:
        log.step(1, 0, 1e-3, {"box": 2.0, "class": 0.5})
        log.step(2, 0, 2e-3, {"box": 1.0, "class": 0.25})
        log.epoch(0, {"box": 1.5, "class": 0.375})
        assert read_table(tmp_path / "new" / "steps.csv")["box"] == [2.0, 1.0], "complete after each step"
    steps = read_table(tmp_path / "new" / "steps.csv")
    assert list(steps) == ["step", "epoch", "learning_rate", "total", "box", "class"]
    assert steps["total"] == [2.5, 1.25] and steps["learning_rate"] == [0.001, 0.002]
    assert read_table(tmp_path / "new" / "epochs.csv") == {
        "epoch": [0.0],
        "total": [1.875],
        "box": [1.5],
        "class": [0.375],
    }


def test_layers_of_all_kinds_are_added_up():
    names = ["", "_aux_0", "_pre", "_enc_0", "_dn_1", "_dn_pre"]
    assert by_name({f"loss_vfl{name}": 1.0 for name in names}) == {"vfl": len(names)}
    assert by_name({"precision": 1.0, "loss_encoder": 2.0}) == {"precision": 1.0, "encoder": 2.0}
