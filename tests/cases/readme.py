"""What the README says of the cases: the table of criteria and matchers, and how many bad inputs and bugs there are."""

from __future__ import annotations

import re
from pathlib import Path

from reliability.test_bad_inputs import ROWS

from cases.combinations import table
from tests.mutation.run import MUTANTS

README = Path(__file__).parents[2] / "README.md"
_TABLE = re.compile(r"^\| \| `.*?^Soft plans: [^.]*\.", re.DOTALL | re.MULTILINE)


def updated(text: str) -> str:
    """The README as it is to be."""
    text = _TABLE.sub(lambda _: table(), text, count=1)
    text = re.sub(r"\d+ of \d+ cases", f"{len(ROWS)} of {len(ROWS)} cases", text)
    return re.sub(r"\d+ of \d+ planted bugs", f"{len(MUTANTS)} of {len(MUTANTS)} planted bugs", text)
