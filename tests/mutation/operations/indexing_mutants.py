"""Bugs in all operations of ``ragged`` but reductions."""

from __future__ import annotations

from tests.mutation.operations.ragged_cases import INDEXING, MASKS, ROWS
from tests.mutation.planting import Mutant

MUTANTS = [
    Mutant(
        "mask dropped",
        "filler of a mask counts",
        MASKS,
        "return mask.tensor & mask.mask",
        "return mask.tensor",
        "indices from mask",
        "filler",
    ),
    Mutant(
        "NaN gradient",
        "filler not protected from the logarithm",
        "ragged.batch.elementwise",
        "operand = protected(operand) if protect else",
        "operand = operand.tensor if protect else",
        "logarithm",
        "filler",
    ),
    Mutant(
        "off by one",
        "slot of filler inside the mask",
        MASKS,
        "place = torch.where(indices.mask, indices.tensor, mask_num_targets)",
        "place = torch.where(indices.mask, indices.tensor, mask_num_targets - 1)",
        "mask from indices",
        "padding",
    ),
    Mutant(
        "off by one",
        "rank counted from one",
        MASKS,
        "true.cumsum(-1) - 1",
        "true.cumsum(-1)",
        "indices from mask",
        "reference",
    ),
    Mutant(
        "filler read",
        "the entry behind",
        INDEXING,
        "take_rows(data, safe, ~",
        "take_rows(data, (safe + 1).clamp(max=data.shape[dim] - 1), ~",
        "access",
        "filler",
    ),
    Mutant(
        "argument order",
        "source and target swapped",
        INDEXING,
        "mapped = batched_indexing_access(source_data, source_indices.with_max_sample_size(size))\n    return batched_indexing_write(\n        mapped, target_indices",
        "mapped = batched_indexing_access(source_data, target_indices.with_max_sample_size(size))\n    return batched_indexing_write(\n        mapped, source_indices",
        "mapping",
        "reference",
    ),
    Mutant(
        "wrong broadcast",
        "rows of sample 0 for all",
        ROWS,
        "torch.arange(0, num_samples * size, size, device=index.device)",
        "torch.zeros(num_samples, dtype=torch.int64, device=index.device)",
        "write",
        "order",
        (INDEXING,),
    ),
    Mutant(
        "index not masked",
        "filler of an index is used",
        "ragged.ops.indices",
        "safe = index.masked_fill(~mask, 0)",
        "safe = index.clamp(min=0)",
        "access",
        "filler",
        (INDEXING,),
    ),
    Mutant(
        "index not masked",
        "filler is written to row 0",
        ROWS,
        "flat = torch.where(valid.reshape(-1), _row_numbers(index, moved.shape[nb]), num_rows)",
        "flat = _row_numbers(index.masked_fill(~valid, 0), moved.shape[nb])",
        "write",
        "filler",
        (INDEXING,),
    ),
]
