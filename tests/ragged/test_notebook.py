"""What a notebook shows of a batch."""

from __future__ import annotations

import re

import pytest
import torch

from matchers import Assignment, Targets
from ragged import RaggedBatch, combine_data
from ragged.batch.notebook import table

DTYPES = [
    torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.uint16,
    torch.bool, torch.complex64,
]  # fmt: skip


def rows(html: str) -> list[tuple[list[str], list[str]]]:
    """Cells of each row: those that are seen well, and those that are greyed."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", html):
        cells = re.findall(r"<t[dh]( style=[^>]*)?>(.*?)</t[dh]>", row)
        found.append(([text for grey, text in cells if not grey], [text for grey, text in cells if grey]))
    return found


def test_filler_is_greyed() -> None:
    batch = RaggedBatch(torch.tensor([[1.0, 2.5], [float("nan"), 3.0]]), sample_sizes=[2, 0])
    assert rows(batch._repr_html_()) == [
        (["sample 0", "2 entries", "1", "2.5"], []),
        (["sample 1", "0 entries"], ["nan", "3"]),
    ]


def test_ragged_along_another_dimension() -> None:
    batch = RaggedBatch(torch.arange(12).view(2, 2, 3), sample_sizes=[3, 1], non_uniform_dim=2)
    assert rows(batch._repr_html_())[1] == (["sample 1", "1 entry", "6, 9"], ["7, 10", "8, 11"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: torch.dtype) -> None:
    batch = RaggedBatch(torch.ones(1, 2).to(dtype), sample_sizes=[1])
    ((shown, greyed),) = rows(batch._repr_html_())
    assert len(shown) == 3 and shown[2] == greyed[0] and shown[2][0] in "1T"


def test_what_is_large_is_cut() -> None:
    html = RaggedBatch.from_full_tensor(torch.zeros(1).expand(3, 50, 100, 64, 64))._repr_html_()
    assert len(html) < 3000 and "0, 0, 0, …" in html and html.count("… 42 more") == 3
    many = RaggedBatch.from_full_tensor(torch.zeros(1000, 9), num_batch_dims=1)._repr_html_()
    assert many.count("<tr>") == 7 and "… and 994 more" in many
    short = RaggedBatch(torch.zeros(1, 20), sample_sizes=[3])._repr_html_()
    assert rows(short)[0][1][-1] == "… 12 more"  # filler, all of them


def test_text_is_no_markup() -> None:
    assert table("<b>", [("&", [("<i>", ""), ('"', '"<')])]) == (
        '<table style="white-space:nowrap"><caption>&lt;b&gt;</caption>\n'
        '<tr><th>&amp;</th><td>&lt;i&gt;</td><td style="opacity:0.4" title="&quot;&lt;">&quot;</td></tr>\n</table>'
    )


def test_odd_shapes() -> None:
    assert rows(RaggedBatch.empty(2, (4,))._repr_html_()) == [
        (["sample 0", "0 entries"], []),
        (["sample 1", "0 entries"], []),
    ]
    assert rows(RaggedBatch.empty(0)._repr_html_()) == []
    assert rows(RaggedBatch(torch.ones(3), sample_sizes=torch.tensor(2))._repr_html_())[0] == (
        ["sample", "2 entries", "1", "1"],
        ["1"],
    )
    assert rows(RaggedBatch.empty((1, 2))._repr_html_())[1][0][0] == "sample 0, 1"
    assert rows(RaggedBatch(torch.ones(1, 2, 0), sample_sizes=[1])._repr_html_()) == [
        (["sample 0", "1 entry", ""], [""])
    ]


def test_without_values_to_read() -> None:
    batch = combine_data([[1.0], []])
    assert rows(batch.to("meta")._repr_html_()) == []
    seen: list[str] = []
    torch.vmap(lambda tensor: seen.append(RaggedBatch(tensor, sample_sizes=[1])._repr_html_()) or tensor)(
        torch.ones(2, 1, 3)
    )
    assert rows(seen[0]) == [] and "RaggedBatch (1, 3)" in seen[0]


def test_gradients_and_the_batch_are_left_alone() -> None:
    batch = combine_data([torch.ones(2, 4)]).requires_grad_()
    before = batch.tensor.detach().clone()
    batch._repr_html_()
    assert torch.equal(batch.tensor.detach(), before) and batch.tensor.grad is None


def test_targets_and_assignments() -> None:
    boxes = torch.zeros(20, 4)
    targets = Targets.of(([boxes, boxes[:1]], [torch.arange(20), torch.tensor([7])]), ignore=[[False] * 20, [True]])
    first, second = rows(targets._repr_html_())
    assert first[0][:2] == ["sample 0", "20 targets"] and first[0][-1] == "… 12 more" and len(first[0]) == 11
    assert second == (["sample 1", "1 target"], ["7: 0, 0, 0, 0"])
    assert rows(targets.to("meta")._repr_html_()) == []
    index = torch.full((30, 5), -1)
    assignment = Assignment.from_index(index, num_targets=torch.ones(30, dtype=torch.int64))
    assert rows(assignment._repr_html_())[0][0] == ["sample 0", "1 target", "0 positive", "5 background", "0 ignored"]
    assert "… and 24 more" in assignment._repr_html_()
