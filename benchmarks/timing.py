"""Timing of rivals side by side, in one process and in turn, so that noise hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ROUNDS = 25
FEWEST_ROUNDS = 3
SECONDS_PER_ROUND = 0.004
SECONDS = 6.0


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: the median over all rounds, and half the distance between the quartiles."""

    median: float
    spread: float


def compare(
    rivals: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing]:
    """Time every rival, interleaved round by round; each round repeats the call for a few milliseconds.

    Slow rivals get fewer rounds: about as many as fit ``SECONDS``, but not less than ``FEWEST_ROUNDS``. The ``clock``
    gives seconds; that of a thread, ``time.thread_time``, does not count what other processes take.
    """
    repeats = {name: _repeats(function) for name, function in rivals.items()}
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    begin = time.perf_counter()
    for done in range(ROUNDS):
        if done >= FEWEST_ROUNDS and time.perf_counter() - begin > SECONDS:
            break
        for name, function in rivals.items():
            start = clock()
            for _ in range(repeats[name]):
                function()
            seconds[name].append((clock() - start) / repeats[name] * 1e6)
    return {name: _summary(values) for name, values in seconds.items()}


def _repeats(function: Callable[[], object]) -> int:
    start = time.perf_counter()
    function()
    if time.perf_counter() - start < 1:  # what takes longer needs no further warming
        function()
        start = time.perf_counter()
        function()
    return max(1, min(200, int(SECONDS_PER_ROUND / (time.perf_counter() - start))))


def _summary(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return Timing(median, (high - low) / 2)
