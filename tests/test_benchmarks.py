"""The benchmarks run and write a complete report; what they measure is nobody's business here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as report
from benchmarks import core, criteria, matchers, timing
from matchers import Assignment


def test_report_has_a_line_for_every_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "SECONDS_PER_ROUND", 0.0)
    monkeypatch.setattr(core, "INDEXED_SHAPES", core.INDEXED_SHAPES[:1])
    monkeypatch.setattr(timing, "FEWEST_ROUNDS", 2)
    monkeypatch.setattr(matchers, "SIZES", ("small",))
    monkeypatch.setattr(criteria, "SIZES", ("small",))
    monkeypatch.setattr(criteria, "CASES", {name: criteria.CASES[name] for name in ("DetrCriterion", "SSDLoss")})
    threads = torch.get_num_threads()
    out, adapter = tmp_path / "RESULTS.md", tmp_path / "rivals.py"
    adapter.write_text(
        "def rival(name, scene):\n    return ('a stand-in', lambda: scene.points) if name == 'ATSS' else None\n"
    )
    try:
        report.main(["--threads", str(threads), "--out", str(out), "--rivals", str(adapter)])
    finally:
        torch.set_num_threads(threads)
    text = out.read_text()
    assert text.startswith("# Benchmark results")
    titles = ("Combining samples", "Indexing", "Arithmetic", "Matchers", "Criteria")
    assert [text.count(f"\n## {title}\n") for title in titles] == [1, 1, 1, 1, 1]
    lines = text.splitlines()
    assert sum(line.startswith("| ") and "±" in line for line in lines) == 5 + 3 + 1 + 6 + len(matchers.CASES) + 2
    assert sum("a stand-in" in line for line in lines) == 1
    assert text.count("\nMade by `python -m benchmarks") == len(titles) + 1

    report.main(["--threads", str(threads), "--out", str(out), "--only", "criteria"])
    again = out.read_text()
    assert again.partition("\n## Criteria\n")[0] == text.partition("\n## Criteria\n")[0]
    assert "--only criteria` on" in again.partition("\n## Criteria\n")[2]

    report.main(["--threads", str(threads), "--out", str(out), "--only", "criteria", "--case", "SSDLoss"])
    last = out.read_text()
    assert "\nThe lines of SSDLoss: made by `python -m benchmarks" in last
    changed = [line for line in last.splitlines() if "±" in line and line not in again.splitlines()]
    assert all(line.startswith("| SSDLoss | small |") for line in changed) and len(changed) <= 1
    with pytest.raises(SystemExit):
        report.main(["--case", "SSDLoss"])


def test_rivals_agree() -> None:
    samples = [torch.randn(n, 4) for n in (3, 0, 5)]
    tensor, mask, sizes = core._assign_slices(samples)
    batch = core.combine_data(samples)
    assert torch.equal(batch.tensor, tensor)
    assert torch.equal(batch.mask, mask)
    assert torch.equal(batch.sample_sizes, sizes)
    data, indices = torch.randn(2, 9, 4), core.RaggedBatch(torch.randint(9, (2, 5)), sample_sizes=[5, 2])
    assert torch.equal(core._access(data, indices), core._gather_with_filler(data, indices))
    assert torch.equal(core._gather(data, indices.tensor), core._advanced(data, indices.tensor))


@pytest.mark.parametrize("name", matchers.CASES)
def test_matchers_find_something_in_their_scenes(name: str) -> None:
    case = matchers.CASES[name]
    assignment = case.run(case.scene("small"))()
    assert isinstance(assignment, Assignment)
    assert assignment.num_positives.sum() > 0


@pytest.mark.parametrize("name", criteria.CASES)
def test_criteria_have_gradients_in_their_scenes(name: str) -> None:
    case = criteria.CASES[name]
    scene = case.scene("small")
    case.run(scene)()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in scene.leaves)
    assert sum(float(leaf.grad.abs().sum() > 0) for leaf in scene.leaves) >= len(scene.leaves) / 2
