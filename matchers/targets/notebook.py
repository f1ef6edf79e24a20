"""How targets and predictions look when printed, and as a table in a notebook: a row for each of the first images."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from torch import Tensor

from matchers.targets.values import text_of
from ragged import RaggedBatch
from ragged.batch.notebook import MAX_ENTRIES, Cell, Shown, count_of, first_positions, name_of, numbers
from ragged.values.readable import has_values


def unit_of(box_format: str | None, normalized: bool | None) -> str:
    """``xyxy, in pixels``, or less where less is known."""
    where = {None: "", True: "in fractions of the image", False: "in pixels"}[normalized]
    return ", ".join(word for word in (box_format, where) if word)


def shown_targets(parts: Mapping[str, RaggedBatch], ignored: Tensor, box_format: str, normalized: bool) -> Shown:
    """Label, box and fields of the first targets of each image; ignored ones are greyed.

    >>> truth = [{"boxes": torch.tensor([[0.0, 0.0, 1.0, 2.0]]), "labels": torch.tensor([3])}]
    >>> Targets.of(truth)
    Targets (1,), label: box as xyxy, in pixels, cpu
      sample 0: 1 target; 3: 0, 0, 1, 2
    >>> print(Targets.of(truth)._repr_html_())
    <table style="white-space:nowrap"><caption>Targets (1,), label: box as xyxy, in pixels, cpu</caption>
    <tr><th>sample 0</th><td>1 target</td><td>3: 0, 0, 1, 2</td></tr>
    </table>
    """
    first = next(iter(parts.values()))
    shown = [name for name in parts if name not in ("boxes", "labels", "weights", "ignore")]
    words = [f"label: box as {unit_of(box_format, normalized)}" if "boxes" in parts else "label", *shown]
    caption = f"Targets {tuple(first.batch_shape)}, {', '.join(words)}, {first.device}"
    if not has_values(first.tensor) or not has_values(first.sample_sizes):
        return Shown(caption)
    rows = [(name_of(at), _targets_of(parts, shown, ignored, at)) for at in first_positions(first.batch_shape)]
    return Shown(caption, rows, first.total_num_samples_in_batch - len(rows))


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


def shown_predictions(
    parts: Mapping[str, Tensor], batch_shape: tuple[int, ...], sizes: Tensor | None, unit: str
) -> Shown:
    """The predictions of each image with the highest class logits: index, class, logit and box.

    Args:
        parts: Tensors ``(*batch, P, …)`` by name: logits, boxes, objectness, fields.
        batch_shape: ``*batch``.
        sizes: ``(*batch,)``, if predictions are ragged.
        unit: Of the boxes.

    >>> Predictions(torch.tensor([[[-2.0, 1.0], [3.0, 0.0]]]), torch.tensor([[[0.0, 0, 8, 8], [1, 2, 3, 4]]]))
    Predictions: logits (1, 2, 2), boxes (1, 2, 4), cpu
      sample 0: 2 predictions; 1: class 0 (3), box 1, 2, 3, 4; 0: class 1 (1), box 0, 0, 8, 8
    """
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in parts.items())
    first = next(iter(parts.values()))
    caption = f"Predictions: {shapes}, {f'{unit}, ' if unit else ''}{first.device}"
    if not has_values(first):
        return Shown(caption)
    rows = []
    for at in first_positions(batch_shape):
        own = {name: value[at].detach() for name, value in parts.items()}
        rows.append((name_of(at), _predictions_of(own, len(first[at]) if sizes is None else int(sizes[at]))))
    return Shown(caption, rows, prod(batch_shape) - len(rows))


def _predictions_of(own: Mapping[str, Tensor], size: int) -> list[Cell]:
    cells: list[Cell] = [count_of(size, "prediction", "predictions")]
    best = list(range(min(size, MAX_ENTRIES)))
    if "logits" in own and own["logits"].shape[-1]:
        top, classes = (each.cpu() for each in own["logits"][:size].float().max(-1))
        best = top.argsort(descending=True, stable=True)[:MAX_ENTRIES].tolist()
    for index in best:
        words = [f"class {int(classes[index])} ({float(top[index]):.3g})"] if "logits" in own else []
        words += [f"box {numbers(own['boxes'][index])}"] if "boxes" in own else []
        cells.append((f"{index}: {', '.join(words)}", ""))
    return [*cells, (f"… {size - len(best)} more", "")] if size > len(best) else cells
