"""Property tests for operations on ragged batches: strategies that draw batches, and checkers of what must hold.

Needs hypothesis: ``pip install "ragged-batch[testing]"``. The checkers are plain functions, for any test
runner or none.

    @given(ragged_batches(dtypes=[torch.float32]))
    def test_my_op(batch):
        check_op(my_op, batch, reference=lambda sample: my_op_of_one_sample(sample))
"""

try:
    import hypothesis
except ImportError as error:
    raise ImportError('ragged.testing needs hypothesis: pip install "ragged-batch[testing]"') from error

from ragged.testing.as_code import as_code
from ragged.testing.check import PROPERTIES, check_op
from ragged.testing.filler import FILLERS, filler_value, refilled
from ragged.testing.properties.compiling import assert_compiles
from ragged.testing.properties.forms import assert_empty_batches, assert_layout_invariant, assert_zeros_are_entries
from ragged.testing.properties.gradients import assert_gradients
from ragged.testing.properties.integers import assert_large_integers
from ragged.testing.properties.invariance import (
    assert_batch_equivariant,
    assert_filler_invariant,
    assert_padding_invariant,
    assert_sample_independent,
)
from ragged.testing.properties.nonfinite import assert_nonfinite_contained
from ragged.testing.properties.per_sample import assert_matches_per_sample
from ragged.testing.properties.precision import assert_dtype_stable
from ragged.testing.properties.purity import assert_pure, assert_random_state_kept
from ragged.testing.properties.sizes import assert_large_samples
from ragged.testing.properties.synchronisation import HostSyncError, assert_no_host_sync
from ragged.testing.report import Checked, UncheckedWarning
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
from ragged.testing.violation import NotCheckable, PropertyViolation

# Compilation, and the first call of torch, take longer than the 200 ms that hypothesis gives an example by default. A
# deadline that somebody chose stays.
if hypothesis.settings().deadline == hypothesis.settings.get_profile("default").deadline is not None:
    hypothesis.settings.register_profile("ragged.testing", hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("ragged.testing")

__all__ = [
    "DTYPES",
    "FILLERS",
    "FLOATS",
    "PROPERTIES",
    "VALUES",
    "Checked",
    "HostSyncError",
    "NotCheckable",
    "PropertyViolation",
    "UncheckedWarning",
    "as_code",
    "assert_batch_equivariant",
    "assert_compiles",
    "assert_dtype_stable",
    "assert_empty_batches",
    "assert_filler_invariant",
    "assert_gradients",
    "assert_large_integers",
    "assert_large_samples",
    "assert_layout_invariant",
    "assert_matches_per_sample",
    "assert_no_host_sync",
    "assert_nonfinite_contained",
    "assert_padding_invariant",
    "assert_pure",
    "assert_random_state_kept",
    "assert_sample_independent",
    "assert_zeros_are_entries",
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
