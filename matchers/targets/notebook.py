"""How targets look in a notebook: a row for each of the first images."""

from __future__ import annotations

from torch import Tensor

from ragged import RaggedBatch
from ragged.batch.notebook import MAX_ENTRIES, Cell, count_of, first_positions, name_of, numbers, table
from ragged.values.readable import has_values


def targets_as_html(boxes: RaggedBatch, labels: RaggedBatch, ignored: Tensor, unit: str) -> str:
    """Label and box of the first targets of each image; ignored ones are greyed.

    >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 1.0, 2.0]]), "labels": torch.tensor([3])}]
    >>> print(Targets.of(truth)._repr_html_())
    <table style="white-space:nowrap"><caption>Targets (1,), label: box as xyxy, in pixels, cpu</caption>
    <tr><th>sample 0</th><td>1 target</td><td>3: 0, 0, 1, 2</td></tr>
    </table>
    """
    caption = f"Targets {tuple(labels.batch_shape)}, label: box as {unit}, {labels.device}"
    if not has_values(boxes.tensor) or not has_values(labels.sample_sizes):
        return table(caption, [])
    rows = [(name_of(at), _targets_of(boxes, labels, ignored, at)) for at in first_positions(labels.batch_shape)]
    return table(caption, rows, left_out=labels.total_num_samples_in_batch - len(rows))


def _targets_of(boxes: RaggedBatch, labels: RaggedBatch, ignored: Tensor, at: tuple[int, ...]) -> list[Cell]:
    size = int(labels.sample_sizes[at])
    shown = min(size, MAX_ENTRIES)
    own = (labels.tensor[at][:shown].tolist(), boxes.tensor[at][:shown].detach().cpu(), ignored[at][:shown].tolist())
    cells: list[Cell] = [count_of(size, "target", "targets")]
    for label, box, grey in zip(*own, strict=True):
        cells.append((f"{label}: {numbers(box)}", "ignored" if grey else ""))
    return [*cells, (f"… {size - shown} more", "")] if size > shown else cells
