"""What older versions of torch cannot do, of all that the oldest one that is supported could be asked for.

The table in ``docs/compile.md`` says the same to users. A test that is excepted must fail there: a version that can do
more than is written here is found out.
"""

from __future__ import annotations

import pytest
import torch

# The oldest version of torch that can do it, and what older ones do instead.
EXCEPTIONS = {
    "vmap of a checked operation in a graph": ("2.8", "the compiler has no rule for an assertion below a vmap"),
    "checks of values in machine code": ("2.9", "inductor leaves assertions out on CPU"),
    "RaggedBatch.apply of a function made in the graph": ("2.10", "the compiler does not know what arguments it takes"),
}


def needs_torch_for(feature: str) -> pytest.MarkDecorator:
    """A mark for a test of one of the exceptions, which must fail with an older torch."""
    oldest, reason = EXCEPTIONS[feature]
    return pytest.mark.xfail(torch.__version__ < oldest, reason=f"before torch {oldest}, {reason}", strict=True)
