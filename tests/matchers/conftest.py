"""Fixtures of all matcher tests; see ``scenes.py`` for random scenes."""

from __future__ import annotations

import pytest

from matchers.testing import Scene, make_scene


@pytest.fixture
def scene() -> Scene:
    """Four images: many targets, none, one, and more than there are predictions; no nasty values."""
    return make_scene([5, 0, 1, 9], 7, seed=1)


@pytest.fixture
def layered_scene() -> Scene:
    """Three layers of predictions for the same targets, some of which are ignored."""
    return make_scene([4, 0, 2], 8, seed=2, layers=(3,), ignored=0.3, slack=2, filler="nan")
