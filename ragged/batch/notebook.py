"""How values look: the first samples, as a table in a notebook or as lines of text. Never more than a screen of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from ragged.batch.core import BatchCore
from ragged.values.readable import has_values

MAX_SAMPLES = 6
MAX_ENTRIES = 8
MAX_NUMBERS = 6

MAX_WIDTH = 120

Cell = tuple[str, str]
"""Text, and why it is greyed; "" if it is not."""


@dataclass(frozen=True)
class Shown:
    """A caption, and a name and cells for each of the first samples: for people, as a table or as text."""

    caption: str
    rows: Sequence[tuple[str, Sequence[Cell]]] = ()
    left_out: int = 0

    def html(self) -> str:
        """The ``_repr_html_``."""
        return table(self.caption, self.rows, left_out=self.left_out)

    def text(self) -> str:
        """The ``__repr__``: at most `MAX_SAMPLES` + 2 lines, no longer than `MAX_WIDTH`."""
        lines = [self.caption if len(self.caption) <= MAX_WIDTH else self.caption[: MAX_WIDTH - 1] + "…"]
        for name, cells in self.rows:
            parts = [f"{text} ({why})" if why else text for text, why in cells]
            line = f"  {name}: {'; '.join(parts)}"
            while len(line) > MAX_WIDTH and parts:
                parts.pop()
                line = f"  {name}: {'; '.join(parts)}; …"
            lines.append(line)
        return "\n".join([*lines, *([f"  … and {self.left_out} more"] if self.left_out > 0 else [])])


def as_html(batch: BatchCore) -> str:
    """The ``_repr_html_`` of a batch; without its values where they cannot be read.

    >>> print(RaggedBatch(torch.tensor([[1, 2], [3, 0]]), sample_sizes=[2, 1])._repr_html_())
    <table style="white-space:nowrap"><caption>RaggedBatch (2, 2), torch.int64, cpu, ragged in dimension 1</caption>
    <tr><th>sample 0</th><td>2 entries</td><td>1</td><td>2</td></tr>
    <tr><th>sample 1</th><td>1 entry</td><td>3</td><td style="opacity:0.4" title="filler">0</td></tr>
    </table>
    """
    caption = (
        f"RaggedBatch {tuple(batch.shape)}, {batch.dtype}, {batch.device}, ragged in dimension {batch.non_uniform_dim}"
    )
    if not (has_values(batch.tensor) and has_values(batch.sample_sizes)):
        return table(caption, [])
    positions = first_positions(batch.batch_shape)
    rows = [(name_of(position), _cells(batch, position)) for position in positions]
    return table(caption, rows, left_out=batch.total_num_samples_in_batch - len(rows))


def table(caption: str, rows: Sequence[tuple[str, Sequence[Cell]]], *, left_out: int = 0) -> str:
    """A table with a name and cells in each row; all text is escaped."""
    lines = [f'<table style="white-space:nowrap"><caption>{escape(caption)}</caption>']
    for name, cells in rows:
        styles = [f' style="opacity:0.4" title="{escape(why)}"' if why else "" for _, why in cells]
        shown = [f"<td{style}>{escape(text)}</td>" for style, (text, _) in zip(styles, cells, strict=True)]
        lines.append(f"<tr><th>{escape(name)}</th>{''.join(shown)}</tr>")
    if left_out > 0:
        lines.append(f"<tr><th>… and {left_out} more</th></tr>")
    return "\n".join([*lines, "</table>"])


def first_positions(batch_shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Indices of the first samples of a batch."""
    return list(itertools.islice(itertools.product(*map(range, batch_shape)), MAX_SAMPLES))


def count_of(number: int, what: str, several: str) -> Cell:
    """``3 entries``, as a cell."""
    return f"{number} {what if number == 1 else several}", ""


def numbers(values: Tensor) -> str:
    """A few numbers of a tensor, short."""
    values = values.detach().flatten()
    if values.is_complex():
        return ", ".join(f"{value.real:.4g}{value.imag:+.4g}j" for value in values.cpu().to(torch.complex128).tolist())
    if values.is_floating_point():
        return ", ".join(f"{value:.4g}" for value in values.cpu().double().tolist())
    return ", ".join(map(str, values.tolist()))


def name_of(position: tuple[int, ...]) -> str:
    """``sample 3``, or ``sample 3, 0``."""
    return f"sample {', '.join(map(str, position))}".strip()


def _cells(batch: BatchCore, position: tuple[int, ...]) -> list[Cell]:
    size = int(batch.sample_sizes[position])
    # Views alone: nothing large is copied, whatever the shape.
    entries = batch.tensor.detach()[position].movedim(batch.ragged_axis, 0)[:MAX_ENTRIES]
    whole = entries[:1].numel() <= MAX_NUMBERS
    if not whole:
        while entries.dim() > 2:
            entries = entries[:, 0]
        entries = entries[:, : MAX_NUMBERS // 2]
    entries = entries.cpu()
    suffix = "" if whole else ", …"
    cells: list[Cell] = [count_of(size, "entry", "entries")]
    cells += [(numbers(entry) + suffix, "filler" if number >= size else "") for number, entry in enumerate(entries)]
    hidden = batch.max_sample_size - len(entries)
    return [*cells, (f"… {hidden} more", "filler" if size <= MAX_ENTRIES else "")] if hidden > 0 else cells
