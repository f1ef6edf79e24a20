"""Property tests for operations on ragged batches: strategies that draw batches, and checkers of what must hold.

Needs hypothesis: ``pip install "ragged-batch[testing]"``. The checkers are plain functions, for any test
runner or none.

    @given(ragged_batches(dtypes=[torch.float32]))
    def test_my_op(batch):
        check_op(my_op, batch, reference=lambda sample: my_op_of_one_sample(sample))
"""

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError('ragged.testing needs hypothesis: pip install "ragged-batch[testing]"') from error

from ragged.testing.as_code import as_code
from ragged.testing.check import PROPERTIES, check_op
from ragged.testing.filler import FILLERS, filler_value, refilled
from ragged.testing.outcome import PropertyViolation
from ragged.testing.properties.compiling import assert_compiles
from ragged.testing.properties.gradients import assert_gradients
from ragged.testing.properties.invariance import (
    assert_batch_equivariant,
    assert_filler_invariant,
    assert_padding_invariant,
    assert_sample_independent,
)
from ragged.testing.properties.per_sample import assert_matches_per_sample
from ragged.testing.properties.precision import assert_dtype_stable
from ragged.testing.properties.purity import assert_pure
from ragged.testing.properties.synchronisation import HostSyncError, assert_no_host_sync
from ragged.testing.strategies import (
    DTYPES,
    FLOATS,
    VALUES,
    batches_sharing_sizes,
    draw_values,
    index_batches,
    masks,
    permutations,
    ragged_batches,
    sample_sizes,
)

__all__ = [
    "DTYPES",
    "FILLERS",
    "FLOATS",
    "PROPERTIES",
    "VALUES",
    "HostSyncError",
    "PropertyViolation",
    "as_code",
    "assert_batch_equivariant",
    "assert_compiles",
    "assert_dtype_stable",
    "assert_filler_invariant",
    "assert_gradients",
    "assert_matches_per_sample",
    "assert_no_host_sync",
    "assert_padding_invariant",
    "assert_pure",
    "assert_sample_independent",
    "batches_sharing_sizes",
    "check_op",
    "draw_values",
    "filler_value",
    "index_batches",
    "masks",
    "permutations",
    "ragged_batches",
    "refilled",
    "sample_sizes",
]
