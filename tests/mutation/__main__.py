"""The table of all planted bugs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

# The helpers of the tests import each other by their names in that directory.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.exit(importlib.import_module("tests.mutation.run").main())
