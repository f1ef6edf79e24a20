"""How targets look in a notebook: a row for each of the first images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragged.batch.notebook import MAX_ENTRIES, Cell, count_of, first_positions, name_of, numbers, table
from ragged.values.checks import has_values

if TYPE_CHECKING:
    from matchers.targets.targets import Targets


def targets_as_html(targets: Targets) -> str:
    """Label and box of the first targets of each image; ignored ones are greyed.

    >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 1.0, 2.0]]), "labels": torch.tensor([3])}]
    >>> print(Targets.of(truth)._repr_html_())
    <table style="white-space:nowrap"><caption>Targets (1,), label: box as xyxy, in pixels, cpu</caption>
    <tr><th>sample 0</th><td>1 target</td><td>3: 0, 0, 1, 2</td></tr>
    </table>
    """
    unit = "in fractions of the image" if targets.normalized else "in pixels"
    caption = f"Targets {targets.batch_shape}, label: box as {targets.box_format}, {unit}, {targets.device}"
    if not has_values(targets.boxes.tensor) or not has_values(targets.num_targets):
        return table(caption, [])
    rows = [(name_of(at), _targets_of(targets, at)) for at in first_positions(targets.batch_shape)]
    return table(caption, rows, left_out=targets.labels.total_num_samples_in_batch - len(rows))


def _targets_of(targets: Targets, at: tuple[int, ...]) -> list[Cell]:
    size = int(targets.num_targets[at])
    shown = min(size, MAX_ENTRIES)
    labels = targets.labels.tensor[at][:shown].tolist()
    ignored = targets.ignored[at][:shown].tolist()
    boxes = targets.boxes.tensor[at][:shown].detach().cpu()
    cells: list[Cell] = [count_of(size, "target", "targets")]
    for label, box, grey in zip(labels, boxes, ignored, strict=True):
        cells.append((f"{label}: {numbers(box)}", "ignored" if grey else ""))
    return [*cells, (f"… {size - shown} more", "")] if size > shown else cells
