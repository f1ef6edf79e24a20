"""Rules in graphs: as one operation on CPU, traced elsewhere; the assignment is that of an eager call."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import EVERY_MATCHER, scene
from effort import mostly_thorough
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils import _pytree as pytree

from matchers import ATSS, FCOS, Assignment, DynamicSoftLabel, MaxIoU, Problem, Rule, SimOTA, TaskAligned
from matchers.dense import as_operation

pytestmark = pytest.mark.graphs

ROOT = Path(__file__).parent.parent.parent
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


def in_graph(matcher: Any, name: str = "simota") -> bool:
    """Whether a graph has the rule as an operation. What it assigns is compared with an eager call."""
    counter = CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    compiled = torch.compile(lambda *args: call(matcher, *args), fullgraph=True, backend=counter)
    arguments = (EVERY_MATCHER[name][1], *scene(3, 0, 5))
    assert_same(compiled(*arguments), call(matcher, *arguments))
    (graph,) = counter.graphs
    return any("assign_by_rule" in str(node.target) for node in graph.graph.nodes)


@dataclass(frozen=True, kw_only=True)
class Derived(SimOTA):
    """A rule of a user's own, with a parameter more."""

    most: int = 1
    max_pairwise_bytes: int | None = None

    def most_per_target(self) -> int:
        return self.most

    def choose(self, problem: Problem) -> Any:
        target, quality, num_invalid = super().choose(problem)
        if torch.compiler.is_compiling():
            return target, quality, num_invalid
        assert problem.max_pairwise_bytes == self.max_pairwise_bytes
        return target, quality.clamp(max=1 / int(self.most)), num_invalid  # reads what it is


@dataclass(frozen=True, kw_only=True)
class First(Rule):
    """The first target for all; what it multiplies by may be anything."""

    by: Any = 1.0

    def choose(self, problem: Problem) -> Any:
        target = torch.where(problem.is_empty, -1, problem.labels.new_zeros(1, problem.num_predictions))
        return target, target.float() + self.by, None


class WithMore(SimOTA):
    """Not a dataclass of its own: what it holds, its parameters do not say."""

    def __init__(self, more: float) -> None:
        super().__init__(center_radius=more)
        self.more = more


def test_rules_of_ones_own_are_operations() -> None:
    assert in_graph(Derived()) and in_graph(Derived(most=3, max_pairwise_bytes=10_000)) and in_graph(First())
    assert in_graph(First(by=0.5)) and in_graph(First(by=(2.0,)[0]))


@pytest.mark.parametrize("by", [np.ones(3), Fraction(1, 2), (1.0, Fraction(1, 2)), {"by": 1.0}], ids=repr)
def test_parameters_that_may_say_too_little_have_no_handle(by: Any) -> None:
    assert First(by=by)._handle is None and First(by=2)._handle is not None


def test_a_rule_without_a_handle_is_traced() -> None:
    assert not in_graph(First(by=torch.tensor(2.0))) and not in_graph(First(by=torch.tensor(3.0)))


def test_rules_that_hold_more_than_parameters_are_traced() -> None:
    assert not in_graph(WithMore(2.0)) and not in_graph(WithMore(0.1))


def test_of_two_classes_of_one_name_graphs_know_the_first() -> None:
    def make(sign: float) -> Any:
        @dataclass(frozen=True, kw_only=True)
        class Same(First):
            def choose(self, problem: Problem) -> Any:
                target, quality, _ = super().choose(problem)
                return target, sign * quality, None

        return Same()

    assert in_graph(make(1.0))
    assert not in_graph(make(2.0))


def test_a_rule_that_is_made_in_the_graph_is_traced() -> None:
    _, priors = EVERY_MATCHER["simota"]
    predictions, targets = scene(3, 1)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(
        lambda radius: SimOTA(center_radius=radius)(predictions, targets, priors), fullgraph=True, backend=counter
    )
    for radius in (2.0, 0.5, 0.25):
        wanted = SimOTA(center_radius=radius)(predictions, targets, priors)
        assert torch.equal(compiled(radius).target_index, wanted.target_index)
    assert not any("assign_by_rule" in str(node.target) for graph in counter.graphs for node in graph.graph.nodes)


def test_a_graph_that_is_given_other_rules_takes_these() -> None:
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    arguments = (EVERY_MATCHER["tood"][1], *scene(3, 0, 5))
    results = set()
    for topk in (10, 3, 1, 3, 2):
        matcher = TaskAligned(topk=topk)
        found = compiled(matcher, *arguments)
        assert_same(found, call(matcher, *arguments))
        results.add(int((found.target_index >= 0).sum()))
    assert len(results) > 2


class _Rules(torch.utils.data.Dataset[Any]):
    """Rules that are made where they are asked for."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return SimOTA(center_radius=1.7531 + index)


def _made_by_a_worker() -> list[Any]:
    loader = torch.utils.data.DataLoader(_Rules(), num_workers=1, batch_size=2, collate_fn=list)
    (rules,) = loader
    return list(rules)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda rule: pickle.loads(pickle.dumps(rule)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "replace": replace,
}


@pytest.mark.parametrize("name", ["simota", "max_iou"])
@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_the_same_rule(kind: str, name: str) -> None:
    rule = EVERY_MATCHER[name][0]
    text = pickle.dumps(rule)
    copied = COPIES[kind](rule)
    assert copied == rule and hash(copied) == hash(rule) and repr(copied) == repr(rule)
    assert pickle.dumps(copied) == text
    assert in_graph(copied, name)


@pytest.mark.parametrize("kind", ["pickle", "copy", "deepcopy"])
def test_what_comes_from_another_process_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = SimOTA(center_radius=1.25)
    monkeypatch.setattr(as_operation, "_RULES", {})
    assert in_graph(COPIES[kind](rule))
    assert len(as_operation._RULES) == 1


def test_rules_of_a_worker_are_found() -> None:
    known = set(as_operation._RULES)
    rules = _made_by_a_worker()
    assert len(set(as_operation._RULES) - known) == len(rules) == 2
    assert all(map(in_graph, rules)) and rules[0] != rules[1]


def test_equal_rules_have_one_handle() -> None:
    SimOTA(center_radius=1.5)
    known = len(as_operation._RULES)
    rules = [pickle.loads(pickle.dumps(SimOTA(center_radius=np.float64(1.5)))) for _ in range(1000)]
    assert len(as_operation._RULES) == known and len({rule._handle for rule in rules}) == 1
    assert all(SimOTA(center_radius=radius)._handle != rules[0]._handle for radius in (1.5 + 1e-15, -0.0, 2.0))
    with pytest.raises(ValueError, match="must not be negative"):
        SimOTA(center_radius=-1.5)
    assert not any("center_radius=-1.5" in handle for handle in as_operation._RULES)


def test_a_rule_that_the_process_has_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile(SimOTA(center_radius=1.5), fullgraph=True, backend="eager")
    predictions, targets = scene(3, 1)
    arguments = (predictions, targets, EVERY_MATCHER["simota"][1])
    wanted = compiled(*arguments)
    monkeypatch.setattr(as_operation, "_RULES", {})
    missing = r"needs a rule that this process has not made yet; make matchers.dense.simota.SimOTA\(center_radius=1.5, "
    # A graph that fails leaves gradients off, as torch has it: the context puts them on again.
    with torch.enable_grad(), pytest.raises(RuntimeError, match=missing):
        compiled(*arguments)
    assert torch.is_grad_enabled()
    SimOTA(center_radius=1.5)
    assert_same(compiled(*arguments), wanted)


IN_A_PROCESS = """
import sys
sys.path[:0] = [".", "tests"]
import torch
from torch._dynamo.utils import counters
from cases import EVERY_MATCHER, scene
from matchers import TaskAligned
predictions, targets = scene(3, 0, 5)
*others, matcher = [TaskAligned(topk=int(topk)) for topk in sys.argv[1:]]
def index():
    return matcher(predictions, targets, EVERY_MATCHER["tood"][1]).target_index
found = torch.compile(index, fullgraph=True)()
assert torch.equal(found, index())
assert all(not torch.equal(found, other(predictions, targets, EVERY_MATCHER["tood"][1]).target_index) for other in others)
print(counters["inductor"]["fxgraph_cache_hit"])
"""


def test_a_graph_that_another_process_compiled(tmp_path: Path) -> None:
    """It is found on the disk, and takes the rule that it was compiled for, whichever were made before."""
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
    }
    for topk, hits in ((["2"], "0"), (["7", "1", "2"], "1")):
        command = [sys.executable, "-c", IN_A_PROCESS, *topk]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == hits


def of_numpy(real: Any) -> dict[str, Any]:
    """Rules whose parameters are numbers of numpy, real ones of one kind."""
    topk, budget = np.int64(10), np.int32(2**20)
    return {
        "simota": SimOTA(center_radius=real(2.5), candidate_topk=topk, iou_weight=real(0.7), max_pairwise_bytes=budget),
        "dynamic_soft_label": DynamicSoftLabel(topk=topk, soft_center_radius=real(2.7), max_pairwise_bytes=budget),
        "tood": TaskAligned(topk=topk, alpha=real(0.3), only_inside=np.bool_(True), overlap=np.str_("ciou")),
        "fcos": FCOS(center_radius=real(2), regress_range=(real(4), real(8)), max_pairwise_bytes=budget),
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
    args = (
        matcher._handle,
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
