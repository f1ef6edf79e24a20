"""The packages, where they are installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

WHY = "needs the extra 'integrations'"


@pytest.fixture
def lightning() -> Any:
    return pytest.importorskip("pytorch_lightning", reason=WHY)


@pytest.fixture
def fabric() -> Any:
    return pytest.importorskip("lightning_fabric", reason=WHY)


@pytest.fixture
def accelerate() -> Iterator[Any]:
    """The package, which knows nothing of other tests: it keeps one precision for a process."""
    package = pytest.importorskip("accelerate", reason=WHY)
    package.state.AcceleratorState._reset_state()
    yield package
    package.state.AcceleratorState._reset_state()
