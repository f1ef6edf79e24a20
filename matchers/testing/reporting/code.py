"""Scenes as code that can be pasted, imports included."""

from __future__ import annotations

import re
from typing import Any

from ragged.testing import as_code

_IMPORTS = {
    "torch": "import torch",
    "inf": "from math import inf, nan",
    "nan": "from math import inf, nan",
    "Predictions": "from matchers import Predictions",
    "Targets": "from matchers import Targets",
    "RaggedBatch": "from ragged import RaggedBatch",
}
_NO_FIELDS = ", fields={}"


def scene_as_code(call: str, **values: Any) -> str:
    """``Reproduce with``, and lines that make the values again, by name, and end with the call.

    >>> print(scene_as_code("criterion(predictions)", predictions={"x": 1.0}))
    Reproduce with
        predictions = {'x': 1.0}
        criterion(predictions)
    """
    lines = [f"{name} = {as_code(value).replace(_NO_FIELDS, '')}" for name, value in values.items()]
    words = set(re.findall(r"\w+", "\n".join(lines)))
    imports = sorted({line for word, line in _IMPORTS.items() if word in words})
    return "\n    ".join(["Reproduce with", *imports, *lines, call])


def without_code(message: str) -> str:
    """What a checker of operations says, without the code behind it."""
    return message.partition("\nReproduce with")[0]
