"""How targets look in a notebook: a row for each of the first images."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from matchers.targets.values import text_of
from ragged import RaggedBatch
from ragged.batch.notebook import MAX_ENTRIES, Cell, count_of, first_positions, name_of, numbers, table
from ragged.values.readable import has_values


def targets_as_html(parts: Mapping[str, RaggedBatch], ignored: Tensor, unit: str) -> str:
    """Label, box and fields of the first targets of each image; ignored ones are greyed.

    >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 1.0, 2.0]]), "labels": torch.tensor([3])}]
    >>> print(Targets.of(truth)._repr_html_())
    <table style="white-space:nowrap"><caption>Targets (1,), label: box as xyxy, in pixels, cpu</caption>
    <tr><th>sample 0</th><td>1 target</td><td>3: 0, 0, 1, 2</td></tr>
    </table>
    """
    first = next(iter(parts.values()))
    shown = [name for name in parts if name not in ("boxes", "labels", "weights", "ignore")]
    words = [f"label: box as {unit}" if "boxes" in parts else "label", *shown]
    caption = f"Targets {tuple(first.batch_shape)}, {', '.join(words)}, {first.device}"
    if not has_values(first.tensor) or not has_values(first.sample_sizes):
        return table(caption, [])
    rows = [(name_of(at), _targets_of(parts, shown, ignored, at)) for at in first_positions(first.batch_shape)]
    return table(caption, rows, left_out=first.total_num_samples_in_batch - len(rows))


def _targets_of(parts: Mapping[str, RaggedBatch], shown: list[str], ignored: Tensor, at: tuple[int, ...]) -> list[Cell]:
    size = int(next(iter(parts.values())).sample_sizes[at])
    count = min(size, MAX_ENTRIES)
    values = {name: batch.tensor[at][:count].detach().cpu() for name, batch in parts.items()}
    cells: list[Cell] = [count_of(size, "target", "targets")]
    for index, grey in enumerate(ignored[at][:count].tolist()):
        label = f"{text_of(values['labels'][index])}: " if "labels" in values else ""
        box = numbers(values["boxes"][index]) if "boxes" in values else ""
        own = [f"{name} {numbers(values[name][index].reshape(-1))}" for name in shown]
        cells.append((label + "; ".join(([box] if box else []) + own), "ignored" if grey else ""))
    return [*cells, (f"… {size - count} more", "")] if size > count else cells
