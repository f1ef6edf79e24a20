"""What a notebook shows of a batch."""

from __future__ import annotations

import re

import pytest
import torch

from matchers import Assignment, Plan, Predictions, Targets
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


def _batch_of(size: int) -> tuple[Assignment, Plan, Predictions, Targets]:
    """Each of the four for a batch of images with 30 targets and 100 predictions."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(size, 30, 4, generator=generator).cumsum(-1)
    targets = Targets(
        RaggedBatch.from_full_tensor(boxes), RaggedBatch.from_full_tensor(torch.arange(30).expand(size, 30))
    )
    assignment = Assignment.from_index(torch.arange(100).expand(size, -1) % 30, num_targets=targets.num_targets)
    logits, found = torch.randn(size, 100, 80, generator=generator), torch.rand(size, 100, 4, generator=generator)
    predictions = Predictions(logits, found, box_format="cxcywh", normalized=True, fields={"ids": found})
    return assignment, assignment.plan(), predictions, targets


@pytest.mark.parametrize("which", range(4), ids=["Assignment", "Plan", "Predictions", "Targets"])
def test_what_is_printed_fits_ten_lines(which: int) -> None:
    for size in (0, 1, 64):
        value = _batch_of(size)[which]
        lines = repr(value).splitlines()
        assert len(lines) <= 10 and max(map(len, lines)) <= 120
        assert lines[0].startswith(type(value).__name__) and len(lines) == 1 + min(size, 6) + (size > 6)
        shown = rows(value._repr_html_())
        assert len(shown) == len(lines) - 1
        assert [cells[0] for cells, _ in shown][:1] == ["sample 0"][:size]
        assert repr(value.to("meta")).count("\n") == 0 and rows(value.to("meta")._repr_html_()) == []


def test_predictions_show_the_most_certain_ones_first() -> None:
    ragged = combine_data([torch.tensor([[0.0, -1.0], [0.5, 2.0]]), torch.zeros(1, 2)])
    first, second = rows(Predictions(ragged)._repr_html_())
    assert first[0] == ["sample 0", "2 predictions", "1: class 1 (2)", "0: class 0 (0)"]
    assert second[0] == ["sample 1", "1 prediction", "0: class 0 (0)"]
    (boxes,) = rows(Predictions(boxes=torch.tensor([[[1.0, 2, 3, 4]]]))._repr_html_())
    assert boxes[0] == ["sample 0", "1 prediction", "0: box 1, 2, 3, 4"]
    (fields,) = rows(Predictions(fields={"ids": torch.zeros(1, 12)})._repr_html_())
    assert fields[0][:2] == ["sample 0", "12 predictions"] and fields[0][-1] == "… 4 more"


def test_plans_show_totals_of_targets() -> None:
    weights = RaggedBatch(torch.tensor([[[0.5, 9.0], [0.25, 9.0]]]), sample_sizes=[1], non_uniform_dim=2)
    plan = Plan(weights, torch.tensor([[0.5, 0.75]]), torch.tensor([0]))
    assert rows(plan._repr_html_()) == [(["sample 0", "1 target", "background 1.25", "target 0: 0.75"], [])]
