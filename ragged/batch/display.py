"""The ``repr`` of a RaggedBatch: its first samples, without padding."""

from __future__ import annotations

import itertools
import textwrap

from ragged.batch.core import BatchCore
from ragged.values.readable import has_values

MAX_SAMPLES = 6


def represent(batch: BatchCore) -> str:
    """Sizes, dtype and device in one line, then the first samples; shapes alone where values cannot be read.

    >>> RaggedBatch(torch.tensor([[1, 2], [3, 0]]), sample_sizes=[2, 1])
    RaggedBatch(batch_shape=(2,), sample_sizes=[2, 1], shape=(2, 2), non_uniform_dim=1, dtype=torch.int64, device=cpu)
      [0] tensor([1, 2])
      [1] tensor([3])
    """
    readable = has_values(batch.tensor) and has_values(batch.sample_sizes)
    facts = [f"batch_shape={tuple(batch.batch_shape)}"]
    if readable:
        facts.append(f"sample_sizes={batch.sample_sizes.tolist()}")
    facts += [
        f"shape={tuple(batch.shape)}",
        f"non_uniform_dim={batch.non_uniform_dim}",
        f"dtype={batch.dtype}",
        f"device={batch.device}",
    ]
    if batch.requires_grad:
        facts.append("requires_grad=True")
    lines = [f"RaggedBatch({', '.join(facts)})"]
    if readable:
        lines += _sample_lines(batch)
    return "\n".join(lines)


def _sample_lines(batch: BatchCore) -> list[str]:
    positions = itertools.islice(itertools.product(*map(range, batch.batch_shape)), MAX_SAMPLES)
    lines = []
    for position in positions:
        sample = batch.tensor.detach()[position].narrow(batch.ragged_axis, 0, int(batch.sample_sizes[position]))
        label = f"[{', '.join(map(str, position))}] "
        lines.append(textwrap.indent(f"{label}{sample!r}".replace("\n", "\n" + " " * len(label)), "  "))
    left = batch.total_num_samples_in_batch - len(lines)
    return [*lines, f"  … and {left} more"] if left > 0 else lines
