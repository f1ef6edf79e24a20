"""``PYTHONPATH=.:tests python -m cases`` writes into the README what the cases say."""

from __future__ import annotations

from cases.readme import README, updated

README.write_text(updated(README.read_text()))
