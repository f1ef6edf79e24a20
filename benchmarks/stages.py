"""Where the kernels of a step are: ``python -m benchmarks.stages DetrCriterion`` prints them by stage.

A stage is what calls the operations: the functions of the packages on the way to them, in the order of the step. Of the
backward pass, kernels stand by the node of autograd that launches them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import criteria, launches, matchers
from benchmarks.scenes import Shape

PACKAGES = ("losses", "matchers", "ragged")
SIZE = Shape((20, 0, 7), queries=60)
"""That of the budgets in ``tests/test_launches.py``."""
Stage = tuple[str, ...]


class Stages(launches.Count):
    """Counts kernels, and remembers who launched them."""

    def __init__(self) -> None:
        super().__init__()
        self.forward: dict[Stage, Counter[str]] = {}
        self.backward: dict[str, Counter[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before, node = self.kernels, torch._C._current_autograd_node()
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if self.kernels > before:
            name = func._schema.name.partition("::")[2]
            if node is None:
                self.forward.setdefault(_stage(), Counter())[name] += 1
            else:
                self.backward.setdefault(node.name(), Counter())[name] += 1
        return result


def _stage() -> Stage:
    """The functions of the packages that are being called, the outermost first."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        package = next((name for name in PACKAGES if name in path.parts), None)
        if package is not None and frame.f_code.co_name != "call":  # which reads ragged arguments
            found.append(f"{path.stem}.{frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(reversed(found))


def lines(stages: dict[Stage, Counter[str]], depth: int = 0) -> Iterator[str]:
    """A line for each stage, with the kernels of it and of all that it calls, and their names where it calls them."""
    inner: dict[str, dict[Stage, Counter[str]]] = {}
    for stage, names in stages.items():
        if stage:
            inner.setdefault(stage[0], {})[stage[1:]] = names
        else:
            yield f"{'  ' * depth}= {_said(names)}"
    for name, below in inner.items():
        yield f"{'  ' * depth}{sum(sum(each.values()) for each in below.values())} {name}"
        yield from lines(below, depth + 1)


def _said(names: Counter[str]) -> str:
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in names.most_common())


def report(name: str, size: Any = SIZE) -> Iterator[str]:
    """The text for a criterion or a matcher of the benchmark, on the path of static shapes."""
    found: list[Stages] = []

    class Kept(Stages):
        def __init__(self) -> None:
            super().__init__()
            found.append(self)

    if name in criteria.CASES:
        launches.criterion_on_device(criteria.CASES[name], size, count=Kept)
    else:
        launches.matcher_on_device(matchers.EVERY_CASE[name], size, count=Kept)
    yield from (f"{name}: {' + '.join(str(each.kernels) for each in found)} kernels", *lines(found[0].forward))
    for node, names in sorted(found[-1].backward.items(), key=lambda item: -sum(item[1].values())):
        yield f"{sum(names.values())} {node}: {_said(names)}"


if __name__ == "__main__":
    for case in sys.argv[1:]:
        print("\n".join(report(case)))
