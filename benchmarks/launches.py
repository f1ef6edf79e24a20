"""What a step launches: kernels, views, bytes and waits. Counted, not timed: the same on every machine."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import criteria, matchers
from benchmarks.compiled import padded
from benchmarks.contest import Options, Run, load_adapter
from benchmarks.criteria import CriterionCase, as_tensor
from benchmarks.matchers import MatcherCase

PICTURE = "launches.svg"
SIZES: tuple[str, ...] = ("single", "medium", "skewed")
DESCRIPTION = """Kernels are ATen operations that are no views; the exact assignment is one, as it is one launch of a
Triton kernel. Bytes are those of all tensors that kernels read and write. *Streaming* is how many times as many bytes
that is as it takes to read the predictions once and to write their gradients once. *Waits* are operations that wait for
the device. *Device* is the path of static shapes, which accelerators take, counted on the meta device with padded
targets that come from the host; *host* is the path of eager CPU tensors, from lists of ground truth. Sizes as for the
criteria and the matchers.
"""
_VIEWS = {
    "view",
    "_unsafe_view",
    "reshape",
    "_reshape_alias",
    "expand",
    "permute",
    "transpose",
    "t",
    "unsqueeze",
    "squeeze",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "unbind",
    "detach",
    "alias",
    "as_strided",
    "unfold",
    "diagonal",
    "lift_fresh",
    "chunk",
    "narrow",
    "view_as",
    "movedim",
    "flatten",
    "unflatten",
    "is_same_size",
}
_WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "equal"}


class Count(TorchDispatchMode):
    """Counts the operations that run while it is entered.

    >>> with Count() as count:
    ...     _ = (torch.zeros(3, 4).mT + 1).sum()
    >>> count.kernels, count.views, count.bytes
    (3, 1, 196)
    """

    def __init__(self) -> None:
        super().__init__()
        self.views = self.bytes = self.waits = 0
        self.names: Counter[str] = Counter()

    @property
    def kernels(self) -> int:
        """How many operations were no views."""
        return sum(self.names.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        if name in _VIEWS or name.startswith("empty"):
            self.views += 1
            return result
        self.names[name] += 1
        self.bytes += sum(_bytes(each) for each in (*args, *kwargs.values(), result))
        self.waits += name in _WAITS or _reads_a_mask(name, args)
        return result


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0


def _reads_a_mask(name: str, args: Sequence[Any]) -> bool:
    """Whether an index is a mask, of which somebody has to know how much is true."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])


@dataclass(frozen=True)
class Launches:
    """Of a step: the forward pass, the backward pass, and the bytes of streaming predictions and gradients."""

    forward: Count
    backward: Count | None
    streaming: int = 0

    @property
    def bytes(self) -> int:
        """Of both passes."""
        return self.forward.bytes + (0 if self.backward is None else self.backward.bytes)

    def cells(self) -> list[str]:
        """For the table: kernels, views, megabytes, times streaming, waits."""
        passes = [each for each in (self.forward, self.backward) if each is not None]
        times = f"{self.bytes / self.streaming:.0f}" if self.streaming else ""
        kernels = " + ".join(f"{each.kernels:,}" for each in passes)
        views, waits = sum(each.views for each in passes), sum(each.waits for each in passes)
        return [kernels, f"{views:,}", f"{self.bytes / 1e6:,.0f}", times, str(waits)]


def of_step(loss: Callable[[], Tensor], leaves: Sequence[Tensor], count: type[Count] = Count) -> Launches:
    """Of a loss and its gradients. It is called before, so that what is made once for a size is there."""
    with torch.no_grad():
        loss()
    for leaf in leaves:
        leaf.grad = None
    with count() as forward:
        value = loss()
    with count() as backward:
        value.backward()
    return Launches(forward, backward, 2 * sum(leaf.numel() * leaf.element_size() for leaf in leaves))


def of_call(call: Run, count: type[Count] = Count) -> Launches:
    """Of a function without gradients."""
    with count() as forward:
        call()
    return Launches(forward, None)


def criterion_on_device(case: CriterionCase, size: Any, *, count: type[Count] = Count) -> Launches:
    """A criterion on the path of accelerators."""
    scene = case.scene(size)
    output, targets = padded(scene, case.layout)
    moved: dict[int, Tensor] = {}

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) not in moved:  # what stands in two places stays one tensor
            moved[id(leaf)] = leaf.detach().to("meta").requires_grad_(leaf.requires_grad)
        return moved[id(leaf)]

    output, targets = pytree.tree_map(move, output), targets.to("meta")
    criterion = copy.deepcopy(case.criterion()).to("meta")
    return of_step(
        lambda: as_tensor(criterion(output, targets)), [each for each in moved.values() if each.requires_grad], count
    )


def criterion_on_host(case: CriterionCase, size: Any) -> Launches:
    """A criterion on the path of CPU tensors."""
    scene = case.scene(size)
    return of_step(
        lambda: as_tensor(case.criterion()(scene.output, criteria.ground_truth(scene, case.layout))), scene.leaves
    )


def matcher_on_device(case: MatcherCase, size: Any, *, count: type[Count] = Count) -> Launches:
    """A matcher on the path of accelerators. It is called before, so that what is made once for a size is there."""
    scene = case.scene(size)
    moved, targets = scene.predicted_on("meta"), case.targets(scene).to("meta")
    case.match(moved, targets)
    return of_call(lambda: case.match(moved, targets), count)


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named. The picture is drawn next to it."""
    lines = [
        "| what | size | path | kernels | views | MB | × streaming | waits | theirs: kernels | counterpart |",
        "|---" * 10 + "|",
    ]
    adapter = None if options.rivals is None else load_adapter(options.rivals)
    bars: dict[str, tuple[int, int]] = {}
    for name, size, path, launches in _counted(options.names):
        lines.append(f"| {' | '.join([name, size, path, *launches.cells(), *_of_rival(adapter, name, size, path)])} |")
        if path == "device" and size == "medium" and launches.backward is not None:
            bars[name] = (launches.forward.kernels, launches.backward.kernels)
    if options.names:
        return f"{DESCRIPTION}\n" + "\n".join(lines)
    draw(bars, options.folder / PICTURE)
    return "\n".join([f"{DESCRIPTION}\n![launches]({PICTURE})\n", *lines])


def _counted(names: Sequence[str] | None) -> Iterator[tuple[str, str, str, Launches]]:
    for name in names or (*criteria.CASES, *matchers.EVERY_CASE):
        for size in SIZES:
            if name in criteria.CASES:
                yield name, size, "device", criterion_on_device(criteria.CASES[name], size)
                yield name, size, "host", criterion_on_host(criteria.CASES[name], size)
            else:
                case = matchers.EVERY_CASE[name]
                yield name, size, "device", matcher_on_device(case, size)
                yield name, size, "host", of_call(case.run(case.scene(size)))


def _of_rival(adapter: Any, name: str, size: str, path: str) -> list[str]:
    if adapter is None or path == "device":
        return ["", ""]
    case = {**matchers.EVERY_CASE, **criteria.CASES}[name]
    found = adapter.rival(name, case.scene(size))
    return ["", ""] if found is None else [f"{of_call(found[1]).forward.kernels:,}", found[0]]


def draw(bars: Mapping[str, tuple[int, int]], path: Path) -> None:
    """A bar for each criterion: the kernels of the forward pass, and those of the backward pass behind them."""
    figure = Figure(figsize=(8.0, 0.28 * len(bars) + 0.8), layout="constrained")
    FigureCanvasSVG(figure)
    axes: Any = figure.subplots()
    names = list(bars)[::-1]
    forward, backward = ([bars[name][which] for name in names] for which in (0, 1))
    axes.barh(names, forward, label="forward")
    axes.barh(names, backward, left=forward, label="backward")
    axes.set_xlabel("kernels of a step, 8 images, path of accelerators")
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8)
    with rc_context({"svg.fonttype": "none"}):  # text stays text, which is smaller
        figure.savefig(path, metadata={"Date": None})
