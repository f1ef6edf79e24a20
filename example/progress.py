"""How far a training is: a bar on a terminal; elsewhere, as in a log file, a line for each epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from tqdm import tqdm

from example.logs import by_name


class Progress:
    """Shows steps and mean loss terms on the standard error stream; use it in a ``with`` statement.

    Args:
        steps: Of the whole training.
        epochs: Of the whole training.
        shown: Whether this process shows anything.
    """

    def __init__(self, steps: int, epochs: int, *, shown: bool = True) -> None:
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=steps, desc="training", unit="step", disable=not (shown and on_terminal))
        self._epochs, self._writes_lines = epochs, shown and not on_terminal
        self._start = time.perf_counter()

    def step(self, means: Mapping[str, float]) -> None:
        """One step is done; the means are those of its epoch so far."""
        self._bar.set_postfix(by_name(means), refresh=False)
        self._bar.update()

    def epoch(self, number: int, means: Mapping[str, float]) -> None:
        """An epoch is done, counted from 0."""
        if self._writes_lines:
            terms = ", ".join(f"{name} {value:.3f}" for name, value in by_name(means).items())
            seconds = time.perf_counter() - self._start
            line = f"epoch {number + 1}/{self._epochs}: loss {sum(means.values()):.3f} ({terms}), {seconds:.0f} s"
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
