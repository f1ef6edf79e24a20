"""The benchmarks run and write a complete report; what they measure is nobody's business here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as report
from benchmarks import core, timing


def test_report_has_a_line_for_every_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "SECONDS_PER_ROUND", 0.0)
    monkeypatch.setattr(core, "INDEXED_SHAPES", core.INDEXED_SHAPES[:1])
    threads = torch.get_num_threads()
    out = tmp_path / "RESULTS.md"
    try:
        report.main(["--threads", str(threads), "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    text = out.read_text()
    assert text.startswith("# Benchmark results")
    assert [text.count(f"\n## {title}\n") for title in ("Combining samples", "Indexing", "Arithmetic")] == [1, 1, 1]
    assert sum(line.startswith("| ") and "±" in line for line in text.splitlines()) == 5 + 3 + 1 + 6


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
