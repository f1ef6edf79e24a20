"""Imports flow one way, and the public names are all there, in order and documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("ragged", "matchers", "losses", "example")
OUTSIDE = {
    "ragged": {"torch", "numpy"},
    "matchers": {"torch", "numpy", "scipy"},
    "losses": {"torch", "numpy", "scipy"},
    "example": {"torch", "numpy", "scipy", "sklearn", "matplotlib", "tqdm", "pycocotools", "PIL"},
}
FILES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imported_packages(path: Path) -> set[str]:
    """The top-level packages that a file imports at run time: not under ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add((node.module or "").partition(".")[0])
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_goes_against_the_layers(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    allowed = OUTSIDE[layer] | set(LAYERS[: LAYERS.index(layer) + 1])
    if "testing" in path.parts:
        allowed |= {"hypothesis"}
    if "plots" in path.parts:
        allowed |= {"matplotlib"}
    if path.stem.startswith("triton"):
        allowed |= {"triton"}
    assert imported_packages(path) <= allowed


def test_the_check_sees_an_arrow_that_goes_backwards(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("from losses.criteria.detection import DetectionLoss\nimport scipy.optimize\n")
    assert imported_packages(path) == {"losses", "scipy"}


@pytest.mark.parametrize("package", ["ragged", "matchers", "losses"])
def test_public_names_are_listed_once_and_documented(package: str) -> None:
    module = importlib.import_module(package)
    names = list(module.__all__)
    assert len(set(names)) == len(names)  # the linter sees to the order
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and not name.startswith("register_")
    }
    assert public == set(names)
    for name in names:
        assert inspect.getdoc(getattr(module, name)), name


# Containers that the toolkit fills itself, an abstract class, what needs another package, and what others show.
WITHOUT_EXAMPLE = {
    *("BalancedPOT", "BinTargets", "Criterion", "DFINECriterion", "DecodedLevels", "DecoderLayers", "Problem"),
    *("UnbalancedPOT", "module_costs"),
}


def test_public_names_have_an_example() -> None:
    """Which runs: examples are doctests."""
    lacking = set()
    for package in ("ragged", "matchers", "losses"):
        module = importlib.import_module(package)
        named = {name: getattr(module, name) for name in module.__all__}
        lacking |= {
            name
            for name, value in named.items()
            if isinstance(value, type | types.FunctionType) and ">>>" not in str(inspect.getdoc(value))
        }
    assert lacking == WITHOUT_EXAMPLE


def test_public_methods_of_ragged_batch_are_documented() -> None:
    from ragged import RaggedBatch

    for name, value in inspect.getmembers(RaggedBatch):
        if not name.startswith("_") and (callable(value) or isinstance(value, property)):
            assert inspect.getdoc(value), name
