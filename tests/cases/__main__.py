"""``PYTHONPATH=.:tests python -m cases`` writes the table of criteria and matchers into the README."""

from __future__ import annotations

from cases.combinations import README, with_table

README.write_text(with_table(README.read_text()))
