"""Set-up of the whole test run: reproducible property tests, and names that doctests use without importing them."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import hypothesis
import pytest
import torch

import losses
import matchers
import ragged

# Its doctests are collected by importing it.
collect_ignore = [] if importlib.util.find_spec("triton") else ["matchers/solver/triton_kernel.py"]

hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=2000, deadline=None, derandomize=False)
# Pytest's option --hypothesis-profile is read later than this.
hypothesis.settings.load_profile("default")

# Each worker of pytest-xdist has one core, more or less; more threads than cores only get in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["torch"] = torch
    for package in (ragged, matchers, losses):
        doctest_namespace.update({name: getattr(package, name) for name in package.__all__})
