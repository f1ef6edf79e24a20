"""What the README says of the cases: criteria and matchers, how fast they are, how many bad inputs and bugs there are."""

from __future__ import annotations

import re
from pathlib import Path

from reliability.test_bad_inputs import ROWS

from cases.combinations import table
from tests.mutation.planting import REFERENCE
from tests.mutation.run import CHOICE, MUTANTS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
_RESULTS = ROOT / "benchmarks" / "RESULTS.md"
_TABLE = re.compile(r"^\| \| `.*?^Soft plans: [^.]*\.", re.DOTALL | re.MULTILINE)
_SPEED = re.compile(r"^\| criterion \| original \|.*?\n\n", re.DOTALL | re.MULTILINE)
_COMPARED = (
    "DetrCriterion",
    "DFINECriterion",
    "YOLOXCriterion",
    "RTMDetCriterion",
    "YOLOv9Criterion",
    "ATSSCriterion",
    "SSDCriterion",
    "SSDLoss",
    "DetectionLoss, Hungarian",
    "DetectionLoss, BalancedSinkhorn",
)


def updated(text: str) -> str:
    """The README as it is to be."""
    text = _TABLE.sub(lambda _: table(), text, count=1)
    text = _SPEED.sub(lambda _: speed() + "\n\n", text, count=1)
    text = re.sub(r"\d+ of \d+ cases", f"{len(ROWS)} of {len(ROWS)} cases", text)
    text = re.sub(r"\d+ of \d+ planted bugs", f"{len(MUTANTS)} of {len(MUTANTS)} planted bugs", text)
    needing = [mutant for mutant in MUTANTS if mutant.caught_by == REFERENCE]
    choices = sum(mutant.kind == CHOICE for mutant in needing)
    words = f"{choices} wrong constants or choices and {len(needing) - choices} other need"
    return re.sub(r"\d+ wrong constants or choices and \d+ other need", words, text)


def speed() -> str:
    """Criteria beside their originals, as ``benchmarks/RESULTS.md`` has them."""
    times, kernels = _lines_of("Criteria"), _lines_of("Launches")
    lines = [
        "| criterion | original | ours, ms | original, ms | times faster | times faster, large batch | kernels |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in _COMPARED:
        _, _, ours, theirs, factor, _, _, original = times[name, "medium"]
        cells = [f"`{name.partition(',')[0]}`", original, _median(ours), _median(theirs), factor]
        if "," in name:
            cells[0] += f" with `{name.partition(', ')[2]}`"
        lines.append(f"| {' | '.join([*cells, times[name, 'large'][4], kernels[name, 'medium', 'device'][3]])} |")
    return "\n".join(lines)


def _lines_of(section: str) -> dict[tuple[str, ...], list[str]]:
    """The cells of a table, by name, size and, of launches, path."""
    text = _RESULTS.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("| ")]
    return {tuple(row[: 3 if section == "Launches" else 2]): row for row in rows}


def _median(text: str) -> str:
    return text.partition(" ±")[0]
