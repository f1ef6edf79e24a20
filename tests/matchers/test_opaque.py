"""Rules in graphs: as one operation on CPU, traced elsewhere; the assignment is that of an eager call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from cases import EVERY_MATCHER, scene
from effort import mostly_thorough
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils import _pytree as pytree

from matchers import ATSS, Assignment, DynamicSoftLabel, MaxIoU, SimOTA, TaskAligned
from matchers.dense import as_operation

RULES = [name for name, (_, priors) in EVERY_MATCHER.items() if priors is not None]
# For one target, and for any number; none is a size of its own, too.
MOST_GRAPHS = 3


@pytest.fixture(autouse=True)
def _forget_graphs() -> None:
    torch._dynamo.reset()


def call(matcher: Any, priors: Tensor, predictions: Any, targets: Any) -> Assignment:
    if isinstance(matcher, EVERY_MATCHER["atss"][0].__class__):
        return matcher(predictions, targets, priors, level_sizes=(64, 16))
    return matcher(predictions, targets, priors)


def assert_same(found: Assignment, wanted: Assignment) -> None:
    for a, b in zip(pytree.tree_leaves(found), pytree.tree_leaves(wanted), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
    assert found.max_pairs == wanted.max_pairs


@pytest.mark.parametrize("name", RULES)
def test_one_operation_of_the_graph(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(lambda *args: call(matcher, *args), fullgraph=True, backend=counter)
    for counts in ((3, 0, 5), (7, 1, 2), (0, 0, 0), (1, 1, 1), (12, 2, 30)):
        predictions, targets = scene(*counts)
        assert_same(compiled(priors, predictions, targets), call(matcher, priors, predictions, targets))
    assert counter.frame_count <= MOST_GRAPHS + 1
    for graph in counter.graphs:
        names = [str(node.target) for node in graph.graph.nodes]
        assert sum("assign_by_rule" in each for each in names) == 1


@pytest.mark.parametrize("name", mostly_thorough(RULES, usual=["max_iou"]))
def test_traced_where_the_host_cannot_look(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_operation, "is_used", False)
    matcher, priors = EVERY_MATCHER[name]
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(lambda *args: call(matcher, *args), fullgraph=True, backend=counter)
    for counts in ((3, 0, 5), (7, 1, 2)):
        predictions, targets = scene(*counts)
        found, wanted = compiled(priors, predictions, targets), call(matcher, priors, predictions, targets)
        assert torch.equal(found.target_index, wanted.target_index)
        torch.testing.assert_close(found.quality, wanted.quality)
    assert not any("assign_by_rule" in str(node.target) for graph in counter.graphs for node in graph.graph.nodes)


@dataclass(frozen=True, kw_only=True)
class Derived(SimOTA):
    """A rule of a user's own."""


def test_a_rule_of_ones_own_is_traced() -> None:
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(Derived(), fullgraph=True, backend=counter)
    _, priors = EVERY_MATCHER["simota"]
    predictions, targets = scene(3, 1)
    found, wanted = compiled(predictions, targets, priors), SimOTA()(predictions, targets, priors)
    assert torch.equal(found.target_index, wanted.target_index)
    assert not any("assign_by_rule" in str(node.target) for node in counter.graphs[0].graph.nodes)


def of_numpy(real: Any) -> dict[str, Any]:
    """Rules whose parameters are numbers of numpy, real ones of one kind."""
    topk, budget = np.int64(10), np.int32(2**20)
    return {
        "simota": SimOTA(center_radius=real(2.5), candidate_topk=topk, iou_weight=real(0.7), max_pairwise_bytes=budget),
        "dynamic_soft_label": DynamicSoftLabel(topk=topk, soft_center_radius=real(2.7), max_pairwise_bytes=budget),
        "tood": TaskAligned(topk=topk, alpha=real(0.3), only_inside=np.bool_(True), overlap=np.str_("ciou")),
        "atss": ATSS(topk=topk, min_center_margin=real(0.01), ignore_iof=real(0.4)),
        "max_iou": MaxIoU(
            pos_iou_thr=real(0.6),
            neg_iou_thr=(real(0.1), real(0.5)),
            match_low_quality=np.bool_(False),
            gt_max_assign_all=np.bool_(True),
        ),
    }


@pytest.mark.parametrize("real", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("name", of_numpy(np.float64))
def test_numbers_of_numpy_become_those_of_python(name: str, real: Any) -> None:
    if name == "max_iou" and real is np.int64:
        matcher: Any = MaxIoU(pos_iou_thr=real(1), neg_iou_thr=(real(0), real(1)), match_low_quality=np.bool_(True))
    else:
        matcher = of_numpy(real)[name]
    assert "np." not in repr(matcher)
    predictions, targets = scene(3, 0, 5)
    compiled = torch.compile(lambda *args: call(matcher, *args), fullgraph=True, backend="eager")
    arguments = (EVERY_MATCHER[name][1], predictions, targets)
    assert_same(compiled(*arguments), call(matcher, *arguments))


def test_the_operation_is_sound() -> None:
    matcher, priors = EVERY_MATCHER["simota"]
    generator = torch.Generator().manual_seed(0)
    count = len(priors)
    gt = torch.rand(2, 3, 4, generator=generator).mul(60).sort(-1).values[..., [0, 1, 2, 3]]
    spec = "SimOTA" + str([getattr(matcher, name) for name in matcher.__dataclass_fields__])
    args = (
        spec,
        torch.randn(2, count, 5, generator=generator),
        None,
        torch.rand(2, count, 4, generator=generator).mul(60).sort(-1).values,
        priors,
        gt,
        torch.zeros(2, 3, dtype=torch.int64),
        torch.tensor([[True, True, True], [True, False, False]]),
        None,
        torch.tensor([3, 1]),
        count,
        None,
    )
    torch.library.opcheck(as_operation.assign_by_rule, args)
