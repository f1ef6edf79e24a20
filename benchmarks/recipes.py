"""The losses of ``example/recipes`` beside plain loops over samples: statements, and milliseconds of a step."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.contest import Options, Run, milliseconds
from benchmarks.criteria import gradients_of
from benchmarks.recipe_scenes import SCENES, RecipeScene, loops
from benchmarks.timing import compare

DESCRIPTION = """Milliseconds of one call, forward and backward, of the recipes in example/recipes and of plain loops
over samples in tests/reference/recipes. Ground truth comes as lists; models of one layer are part of tracking and of
point sets. Before they are timed, they are compared: the largest relative difference of a term or a gradient.
Statements are counted after formatting: all but imports, docstrings and the layers of a model, which both use.
"""
MOST = {"boxes3d": 40, "keypoints": 20, "tracking": 12, "point_sets": 200, "tags": 20}
"""Sizes of samples are drawn from 1 to these; the second sample is empty."""
SIZES: dict[int, dict[str, dict[str, int]]] = {
    32: {
        "boxes3d": {"queries": 300, "layers": 6},
        "keypoints": {"queries": 100},
        "tracking": {"queries": 60},
        "tags": {"queries": 100},
    },
    2: {
        "boxes3d": {"queries": 50, "layers": 1},
        "keypoints": {"queries": 100},
        "tracking": {"queries": 60},
        "tags": {"queries": 100},
    },
}
RECIPES = Path(__file__).parent.parent / "example" / "recipes"


def section(options: Options) -> str:
    """The text of the section; of some recipes only, if they are named."""
    heading = ["of", "samples", "recipe, ms", "loop, ms", "times faster", "apart", "statements"]
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    for name in SCENES:
        if options.wants(name):
            for samples in SIZES:
                scene = scene_of(name, samples)
                timings = compare({"recipe": _step(scene, "recipe"), "loop": _step(scene, "loop")}, clock)
                faster = timings["loop"].median / timings["recipe"].median
                cells = [name, str(samples), milliseconds(timings["recipe"]), milliseconds(timings["loop"])]
                cells += [f"{faster:.1f}", f"{apart(scene):.0e}", " / ".join(map(str, statements_of(name)))]
                lines.append(f"| {' | '.join(cells)} |")
    return f"{DESCRIPTION}\n" + "\n".join(lines)


def scene_of(name: str, samples: int) -> RecipeScene:
    """Samples of random sizes, one of them empty; two samples are small."""
    generator = torch.Generator().manual_seed(1)
    most = MOST[name] if samples > 2 or name == "point_sets" else 5
    sizes = torch.randint(1, most + 1, (samples,), generator=generator).tolist()
    if samples > 2:
        sizes[1] = 0
    return SCENES[name](sizes, generator, **SIZES[samples].get(name, {}))


def apart(scene: RecipeScene) -> float:
    """The largest difference of a term or a gradient, relative to the largest number of its tensor.

    Or to 1e-4 of the largest of all, where a tensor is 0 but for rounding.
    """
    ours, theirs = (_outcome(scene, which) for which in ("recipe", "loop"))
    largest = max(float(value.abs().max()) for value in theirs if value.numel())
    return max(_difference(*pair, 1e-4 * largest) for pair in zip(ours, theirs, strict=True))


def statements_of(name: str) -> tuple[int, int]:
    """How many statements the recipe has, and its loop with the functions that it takes from other loops."""
    path = Path(loops(name).__file__)
    return num_statements(RECIPES / f"{name}.py"), num_statements(path) + sum(_imported(path))


def num_statements(path: Path, names: Sequence[str] | None = None) -> int:
    """Statements of a file, or of some functions of it: all but imports, docstrings, and the layers of a model."""
    return sum(1 for _ in _statements(_parts(path, names)))


def _parts(path: Path, names: Sequence[str] | None) -> ast.Module:
    tree = ast.parse(path.read_text())
    if names is not None:
        tree.body = [part for part in tree.body if getattr(part, "name", None) in names]
    return tree


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    for part in ast.iter_child_nodes(node):
        is_text = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
        if isinstance(part, (ast.Import, ast.ImportFrom)) or is_text or _makes_layers(part):
            continue
        if isinstance(part, ast.stmt):
            yield part
        yield from _statements(part)


def _makes_layers(part: ast.AST) -> bool:
    return isinstance(part, ast.FunctionDef) and part.name == "__init__" and "nn." in ast.unparse(part)


def _imported(path: Path) -> Iterator[int]:
    """Statements of the functions that a loop takes from others."""
    for part in ast.parse(path.read_text()).body:
        if isinstance(part, ast.ImportFrom) and (part.module or "").startswith("reference.recipes."):
            source = path.with_name(f"{(part.module or '').rpartition('.')[-1]}.py")
            yield num_statements(source, [each.name for each in part.names])


def _step(scene: RecipeScene, which: str) -> Run:
    return gradients_of(lambda: torch.as_tensor(sum(getattr(scene, which)().values())), list(scene.leaves))


def _outcome(scene: RecipeScene, which: str) -> list[Tensor]:
    """Terms by the order of their names, and gradients of their sum; a loop over nothing gives numbers."""
    losses = getattr(scene, which)()
    values = [torch.as_tensor(losses[name], dtype=torch.float32) for name in sorted(losses)]
    loss = torch.stack(values).sum()
    if not loss.requires_grad:
        return [*values, *map(torch.zeros_like, scene.leaves)]
    gradients = torch.autograd.grad(loss, scene.leaves, materialize_grads=True)
    return [*(value.detach() for value in values), *gradients]


def _difference(one: Tensor, other: Tensor, least: float) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=max(least, 1e-12))) if one.numel() else 0.0
