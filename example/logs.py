"""What is written while training: tables of the loss terms, and events for TensorBoard."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

STEPS, EPOCHS = "steps.csv", "epochs.csv"

# How criteria call the terms of the layers of a decoder but the last.
_LAYER = re.compile(r"_(aux|enc|dn|pre)(_\d+|_pre)?$")


class Log:
    """Tables of each step and of the means of each epoch, in a folder that is made; use it in a ``with`` statement.

    Args:
        folder: Where `STEPS` and `EPOCHS` are written.
        tensorboard: Whether events for TensorBoard are written there too; needs the package.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._steps, self._epochs = _Table(folder / STEPS), _Table(folder / EPOCHS)
        self._events: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # needs a package that few have

            self._events = SummaryWriter(str(folder))

    def step(self, step: int, epoch: int, learning_rate: float, terms: Mapping[str, float]) -> None:
        """Write the terms of one step."""
        total = sum(terms.values())
        self._steps.write({"step": step, "epoch": epoch, "learning_rate": learning_rate, "total": total, **terms})
        self._write_events("loss", {"total": total, **terms}, step)
        self._write_events("train", {"learning_rate": learning_rate}, step)

    def epoch(self, epoch: int, terms: Mapping[str, float]) -> None:
        """Write the mean terms of one epoch."""
        total = sum(terms.values())
        self._epochs.write({"epoch": epoch, "total": total, **terms})
        self._write_events("epoch", {"total": total, **terms}, epoch)

    def _write_events(self, group: str, values: Mapping[str, float], step: int) -> None:
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{group}/{name}", value, step)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steps.close()
        self._epochs.close()
        if self._events is not None:
            self._events.close()


class _Table:
    """A csv file whose columns are those of its first row; complete after each row."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", newline="")
        self._writer: Any = None

    def write(self, row: Mapping[str, Any]) -> None:
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        texts = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        self._writer.writerow(texts)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_table(path: Path) -> dict[str, list[float]]:
    """The columns of a table by name."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def by_name(terms: Mapping[str, float]) -> dict[str, float]:
    """Terms that differ only in the layer of a decoder added up, under the short name that they share.

    >>> by_name({"loss_vfl": 1.0, "loss_vfl_aux_0": 0.5, "loss_bbox": 2.0})
    {'vfl': 1.5, 'bbox': 2.0}
    """
    found: dict[str, float] = {}
    for name, value in terms.items():
        short = _LAYER.sub("", name).removeprefix("loss_")
        found[short] = found.get(short, 0.0) + value
    return found
