"""The criteria compiled: time beside eager execution, what compiling costs, and how often it has to be done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
import torch._inductor.config
from torch import Tensor

from benchmarks import criteria
from benchmarks.contest import Options, milliseconds
from benchmarks.criteria import as_tensor, gradients_of, ground_truth
from benchmarks.criterion_scenes import CriterionScene
from benchmarks.scenes import Shape
from benchmarks.timing import compare
from matchers import Targets
from ragged import combine_data

DESCRIPTION = """Milliseconds forward and backward, of targets that are padded already, in eager mode and with
``torch.compile(fullgraph=True)`` and inductor; seconds of the first step, and of all further ones that had to compile,
over batches whose numbers of objects change from step to step; and how many graphs there are in the end.
"""
SIZES: tuple[str, ...] = ("large",)
BATCHES = 50
_MOST = 50
BACKEND = "inductor"
CASES = tuple(name for name, case in criteria.CASES.items() if case.compiled)


def padded(scene: CriterionScene, layout: str) -> tuple[Any, Targets]:
    """What a graph is given of a scene: its lists, of targets and of denoising queries, are padded before."""
    given, output = ground_truth(scene, layout), scene.output
    options: dict[str, Any] = {"batch_size": len(scene.boxes)} if layout == "rows" else {}
    if not isinstance(given, Targets):
        given = Targets.of(given, box_format="cxcywh", normalized=True, **options)
    if isinstance(output, dict) and "dn_meta" in output:
        meta = output["dn_meta"]
        output = {**output, "dn_meta": {**meta, "dn_positive_idx": combine_data(meta["dn_positive_idx"])}}
    return output, given


def changing(case: Any, images: int) -> Iterator[CriterionScene]:
    """Ever other numbers of objects; always the same ones."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(BATCHES):
        most = int(torch.randint(1, _MOST + 1, (), generator=generator))
        yield case.scene(Shape(tuple(torch.randint(most + 1, (images,), generator=generator).tolist())))


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named."""
    lines = [
        "| criterion | size | eager, ms | compiled, ms | times faster | first step, s | later compiling, s | graphs |",
        "|---" * 8 + "|",
    ]
    lines += [_line(name, size) for name in options.names or CASES for size in SIZES]
    return f"{DESCRIPTION}\n" + "\n".join(lines)


def _line(name: str, size: str) -> str:
    case: Any = criteria.CASES[name]
    scene = case.scene(size)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()

    criterion = case.criterion()

    def loss(output: Any, targets: Targets) -> Tensor:
        return as_tensor(criterion(output, targets))

    compiled = torch.compile(loss, fullgraph=True, backend=BACKEND)

    def step(function: Callable[..., Tensor], scene: CriterionScene) -> Callable[[], Any]:
        return gradients_of(partial(function, *padded(scene, case.layout)), scene.leaves)

    try:
        # Machine code that an earlier run left on disk would make compiling look quick.
        with torch._inductor.config.patch(force_disable_caches=True):
            seconds = list(_compiling(step(compiled, each) for each in [scene, *changing(case, len(scene.boxes))]))
    except Exception as error:  # whatever the compiler raises: a line says so
        reason = str(error).strip().splitlines()[0].replace("|", "/")
        return f"| {name} | {size} | | does not compile: {type(error).__name__}: {reason[:100]} | | | | |"
    timings = compare({"eager": step(loss, scene), "compiled": step(compiled, scene)})
    faster = timings["eager"].median / timings["compiled"].median
    cells = [name, size, milliseconds(timings["eager"]), milliseconds(timings["compiled"]), f"{faster:.1f}"]
    return f"| {' | '.join([*cells, f'{seconds[0]:.0f}', f'{sum(seconds[1:]):.0f}', str(len(seconds))])} |"


def _compiling(steps: Iterable[Callable[[], Any]]) -> Iterator[float]:
    """Seconds of those steps that brought a new graph."""
    for step in steps:
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        start = time.perf_counter()
        step()
        if torch._dynamo.utils.counters["stats"]["unique_graphs"] > before:
            yield time.perf_counter() - start
