"""Matchers in one graph, on fake tensors, and without waiting for the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from effort import mostly_thorough
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensorMode
from torch.utils import _pytree as pytree

import matchers
from matchers import Assignment, Hungarian, Predictions, Targets, batched_linear_sum_assignment, detr_costs
from matchers.solver import linear_assignment
from matchers.solver.linear_assignment import goes_through_host, solve_rows, solve_rows_on_host
from matchers.testing import Scene, make_scene
from ragged.testing import HostSyncError, assert_no_host_sync

SIZES = ([3, 1, 4], [9, 2, 5], [1, 1, 1], [0, 0, 0], [2, 0, 17], [6, 6, 6])
# One for the first size, one for all others, and one each for 0 and 1 targets, which torch always treats apart.
MOST_GRAPHS = 4
L1 = nn.L1Loss(reduction="none")


class Own(nn.Module):
    """Knows one label for each row of logits."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels, reduction="none") * 2


MATCHERS: dict[str, Callable[[], Hungarian]] = {
    "focal": lambda: Hungarian(detr_costs()),
    "softmax": lambda: Hungarian(detr_costs(classes="softmax")),
    "background": lambda: Hungarian(detr_costs(), background_cost=4.0),
    "function": lambda: Hungarian(lambda pairs: -pairs.logits_of_labels()),
    "modules": lambda: Hungarian(cls_match_module=nn.CrossEntropyLoss(reduction="none"), loc_match_module=L1),
    "own module": lambda: Hungarian(cls_match_module=Own()),
}


@pytest.fixture(autouse=True)
def _forget_graphs() -> None:
    torch._dynamo.reset()


def scene_of(sizes: list[int], *, ignored: float | None = 0.3, layers: tuple[int, ...] = (2,)) -> Scene:
    return make_scene(sizes, 7, seed=sum(sizes), layers=layers, ignored=ignored, bad=0.1, slack=1, filler="nan")


def same(found: Assignment, expected: Assignment) -> bool:
    leaves = zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in leaves)


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("name", "backend"),
    mostly_thorough(
        [*((name, "eager") for name in MATCHERS), ("background", "aot_eager")],
        usual=[("modules", "eager"), ("function", "eager"), ("background", "aot_eager")],
    ),
)
def test_one_graph(name: str, backend: str) -> None:
    matcher = MATCHERS[name]()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(matcher, fullgraph=True, backend=counter)
    for sizes in SIZES if (name, backend) == ("focal", "eager") else SIZES[:2]:
        scene = scene_of(list(sizes))
        assert same(compiled(scene.predictions, scene.targets), matcher(scene.predictions, scene.targets))
    assert counter.frame_count <= MOST_GRAPHS


@pytest.mark.graphs
def test_matching_and_what_follows_in_one_graph() -> None:
    matcher = Hungarian(detr_costs())

    def step(logits: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
        assignment = matcher(Predictions(logits, boxes), targets)
        overlap = matchers.giou(boxes, assignment.gather(targets.boxes))
        return torch.where(assignment.is_positive, 1 - overlap, 0).sum() + 0 * logits.sum()

    scene = make_scene([3, 0, 2], 6, slack=2, filler="nan")
    arguments = [value.clone().requires_grad_() for value in (scene.predictions.logits, scene.predictions.boxes)]
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(step(*arguments, scene.targets), arguments)
    for found, gradient in zip(
        torch.autograd.grad(compiled(*arguments, scene.targets), arguments), expected, strict=True
    ):
        torch.testing.assert_close(found, gradient)
        assert found.isfinite().all()


@pytest.mark.graphs
def test_anchors_in_one_graph() -> None:
    scene = scene_of([3, 0, 4])
    matcher = Hungarian(loc_match_module=L1, is_anchor_based=True)
    first, second = scene.predictions.boxes[0].nan_to_num(0, 9, 0).split(2, -1)
    priors = torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)
    for given in (priors, priors[0]):
        compiled = torch.compile(matcher, fullgraph=True, backend="eager")
        arguments = (scene.predictions, scene.targets, given)
        assert same(compiled(*arguments), matcher(*arguments))


MEASURES = ("iou", "iof", "giou", "diou", "ciou")


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("name", "backend"),
    mostly_thorough(
        [*((name, "eager") for name in MEASURES), ("giou", "aot_eager")],
        usual=[("ciou", "eager"), ("giou", "aot_eager")],
    ),
)
def test_boxes_in_one_graph(name: str, backend: str) -> None:
    def function(first: Tensor, second: Tensor) -> Tensor:
        first = matchers.convert(first, "cxcywh", "xyxy")
        return matchers.pairwise(getattr(matchers, name), first, second)

    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    for count in (5, 7) if backend == "aot_eager" else (5, 7, 1, 0, 30):
        first, second = torch.rand(count, 4), torch.rand(6, 4).cumsum(-1)
        arguments = [value.requires_grad_() for value in (first, second)]
        found, expected = compiled(*arguments), function(*arguments)
        torch.testing.assert_close(found, expected)
        gradients = (torch.autograd.grad(value.sum(), arguments) for value in (found, expected))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)
    assert counter.frame_count <= MOST_GRAPHS


# --- the solver as an operation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 4), (0, 4), (6, 1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("with_forbidden", [False, True])
def test_operation(shape: tuple[int, int], dtype: torch.dtype, with_forbidden: bool) -> None:
    cost = torch.rand(shape).to(dtype)
    rows = shape[0]
    start, count = torch.tensor([0, rows // 2, rows]), torch.tensor([rows // 2, rows - rows // 2, 0])
    forbidden = torch.rand(shape) < 0.3 if with_forbidden else None
    torch.library.opcheck(solve_rows, (cost, start, count, torch.ones(rows, dtype=torch.bool), forbidden))
    assert torch.ops.ragged_batch.linear_assignment.default is solve_rows._opoverload


def test_the_way_through_the_host_is_no_part_of_a_cuda_graph() -> None:
    arguments = (torch.tensor([[2.0, 1.0]]), torch.tensor([0]), torch.tensor([1]), torch.tensor([True]), None)
    torch.library.opcheck(solve_rows_on_host, (*arguments, "scipy"))
    if hasattr(torch.Tag, "cudagraph_unsafe"):  # of torch 2.9
        assert torch.Tag.cudagraph_unsafe in torch.ops.ragged_batch.linear_assignment_on_host.default.tags
        assert torch.Tag.cudagraph_unsafe not in torch.ops.ragged_batch.linear_assignment.default.tags
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert solve_rows_on_host(*arguments, "scipy").tolist() == [[-1, 0]]
    with pytest.warns(UserWarning, match="goes through the host, which waits for the device"):
        assert solve_rows_on_host(*arguments, "auto").tolist() == [[-1, 0]]


@pytest.mark.parametrize(("solver", "through_host"), [("scipy", True), ("lapx", True), ("triton", False)])
def test_a_graph_knows_which_way_costs_go(solver: str, through_host: bool) -> None:
    def run(cost: Tensor) -> Tensor:
        return cost + 1 if goes_through_host(cost.device, solver) else cost

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(2)).tolist() == [float(through_host)] * 2


def test_without_a_kernel_costs_go_through_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_assignment, "triton_kernel", lambda: None)
    assert goes_through_host(torch.device("cuda"), "auto")
    assert not goes_through_host(torch.device("cuda"), "triton")  # which is an error


def test_operation_of_costs_with_a_graph() -> None:
    cost = torch.rand(3, 2, requires_grad=True)
    arguments = (torch.tensor([0]), torch.tensor([3]), torch.ones(3, dtype=torch.bool))
    assert not solve_rows(cost, *arguments).requires_grad


@pytest.mark.graphs
def test_solver_in_one_graph() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(batched_linear_sum_assignment, fullgraph=True, backend=counter)
    for width in (3, 5, 1, 8, 0):
        cost = torch.rand(2, width, 4)
        counts = torch.tensor([width, width // 2])
        assert torch.equal(compiled(cost, counts), batched_linear_sum_assignment(cost, counts))
    assert counter.frame_count <= MOST_GRAPHS


# --- without values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MATCHERS)
def test_fake_tensors(name: str) -> None:
    scene = scene_of([3, 0, 4])
    expected = MATCHERS[name]()(scene.predictions, scene.targets)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    predictions, targets = pytree.tree_map(mode.from_tensor, (scene.predictions, scene.targets))
    with mode:
        found = MATCHERS[name]()(predictions, targets)
    for a, b in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
        if isinstance(b, Tensor):
            assert (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
        else:
            assert a == b


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize("ignored", [None, 0.3])
def test_only_the_solver_waits_for_the_device(name: str, ignored: float | None) -> None:
    """On meta tensors the solver is its fake kernel; all else is what an accelerator would run."""
    matcher = MATCHERS[name]()
    for sizes in ([3, 0, 4], [0, 0]):
        scene = scene_of(sizes, ignored=ignored)
        assert_no_host_sync(lambda p, t: matcher(p, t), scene.predictions, scene.targets)
        assert_no_host_sync(lambda p, t: matcher.costs(p, t), scene.predictions, scene.targets)


def test_anchors_do_not_wait_for_the_device() -> None:
    scene = scene_of([3, 0, 4])
    assert_no_host_sync(
        lambda p, t, priors: Hungarian(loc_match_module=L1, is_anchor_based=True)(p, t, priors),
        scene.predictions,
        scene.targets,
        torch.rand(7, 4),
    )


def test_the_solver_would_wait() -> None:
    """The proof is about something: the solver's own kernel does read values."""

    def solve(cost: Tensor) -> Any:
        counts = torch.full((1,), 2, device=cost.device)
        start, valid = torch.zeros_like(counts), torch.ones(2, dtype=torch.bool, device=cost.device)
        return solve_rows._init_fn(cost, start, counts, valid)

    assert solve(torch.tensor([[1.0, 2.0], [1.0, 3.0]])).tolist() == [[1, 0]]
    with pytest.raises(HostSyncError):
        assert_no_host_sync(solve, torch.rand(2, 2))


@pytest.mark.parametrize("name", [*MEASURES, "area"])
def test_boxes_do_not_wait_for_the_device(name: str) -> None:
    measure = getattr(matchers, name)
    arguments = [torch.rand(5, 4), torch.rand(5, 4)][: 1 if name == "area" else 2]
    assert_no_host_sync(measure, *arguments)


@pytest.mark.parametrize(
    "read",
    [
        lambda boxes, labels, mask, canvas: Targets.of(
            {"boxes": boxes, "labels": labels, "mask": mask}, canvas_size=canvas
        ),
        lambda boxes, labels, mask, canvas: Targets.of(torch.cat([labels.unsqueeze(-1).float(), boxes], -1)),
        lambda boxes, labels, mask, canvas: Targets.of(
            torch.cat([labels.flatten()[:, None].float(), labels.flatten()[:, None].float(), boxes.flatten(0, 1)], -1),
            batch_size=2,
            box_format="xyxy",
            max_num_targets=6,
            canvas_size=canvas,
        ),
        lambda boxes, labels, mask, canvas: Targets.of(
            [{"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)]
        ),
    ],
    ids=["padded", "padded tensor", "flat", "dicts"],
)
def test_readers_do_not_wait_for_the_device(read: Callable[..., Targets]) -> None:
    def boxes_of(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        targets = read(*arguments)
        normalized = targets.canvas_size is not None
        return targets.boxes_as("cxcywh", normalized=normalized), targets.matchable

    labels = torch.tensor([[0, 1, 1], [1, 0, 1]])
    boxes = torch.rand(2, 3, 4).cumsum(-1) / 4
    assert_no_host_sync(boxes_of, boxes, labels, labels > 0, torch.full((2, 2), 8.0))
