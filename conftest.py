"""Names that every doctest may use without importing them."""

from typing import Any

import pytest
import torch

import ragged


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["torch"] = torch
    doctest_namespace.update({name: getattr(ragged, name) for name in ragged.__all__})
