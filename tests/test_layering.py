"""Imports flow one way, and the public names are all there, in order and documented."""

from __future__ import annotations

import ast
import collections
import importlib
import inspect
import sys
import types
from pathlib import Path

import pytest

from docs.pictures import rooms as picture

ROOT = Path(__file__).parent.parent
PACKAGES = ("ragged", "matchers", "losses")
# What each room may import of its own package, and every room below it: who stands further down sees who stands above,
# but not its neighbours on the same line.
ROOMS = {
    "ragged": ["values", "batch", "ops", "interop"],
    "matchers": ["geometry", "targets", "assignments", "pairs solver", "costs", "dense by_cost", "transport", "plots"],
    "losses": [
        "functional",
        "modules coders core",
        "heads",
        "criteria",
        "criteria.query criteria.dense criteria.two_stage",
        "drop_in",
    ],
}
# Beside that: one arrow less. Nobody reads plots.
NOT = {("transport", "dense"), ("plots", "dense"), ("plots", "by_cost")}
OUTSIDE = {
    "ragged": {"torch", "numpy"},
    "matchers": {"torch", "numpy", "scipy"},
    "losses": {"torch", "numpy", "scipy"},
    "example": {"torch", "numpy", "scipy", "sklearn", "matplotlib", "tqdm", "pycocotools", "PIL"},
}
LAYERS = (*PACKAGES, "example")
FILES = [path.relative_to(ROOT) for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in FILES}


def imported_modules(path: Path) -> set[str]:
    """What a file imports, under ``if TYPE_CHECKING`` as well: our modules by their full names, packages of others."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (full & MODULES) or {str(node.module)}
    ours = {name for name in names if name.partition(".")[0] in LAYERS}
    others = {name.partition(".")[0] for name in names - ours} - set(sys.stdlib_module_names)
    return ours | (others - {"typing_extensions"})  # which is for hints alone


def room_of(module: str) -> str:
    """``criteria.query`` of ``losses.criteria.query.detr``; "" of a package itself, ``testing`` of all in there."""
    parts = module.split(".")[1:]
    if parts[:1] == ["testing"]:
        return "testing"
    return ".".join(parts if (ROOT / module.replace(".", "/")).is_dir() else parts[:-1])


def allowed_rooms(package: str, room: str) -> set[str]:
    """The rooms of a package that one of them may import."""
    above: set[str] = set()
    for line in ROOMS[package]:
        if room in line.split():
            return {other for other in above | {room} if (room, other) not in NOT}
        above |= set(line.split())
    return above | {"testing"} if room in ("testing", "") else set()


def wrong_arrows(module: str, imported: set[str]) -> list[str]:
    """Imports of a module that go against the table, as ``losses.core.terms -> losses.criteria.detection``."""
    package, own = module.partition(".")[0], room_of(module)
    allowed = set(OUTSIDE[package])
    if own == "testing":
        allowed |= {"hypothesis"}
    if own == "plots":
        allowed |= {"matplotlib"}
    if ".triton_" in module:
        allowed |= {"triton"}
    wrong = []
    for each in sorted(imported - allowed):
        other = each.partition(".")[0]
        if other in LAYERS and LAYERS.index(other) < LAYERS.index(package):
            # Kits build on kits; a package below is used by its public names or its modules.
            fits = own == "testing" or room_of(each) != "testing"
        elif other == package and package in ROOMS:
            fits = room_of(each) in allowed_rooms(package, own) or (own == "testing" and each == package)
        else:
            fits = other == package
        if not fits:
            wrong.append(f"{module} -> {each}")
    return wrong


def test_no_import_goes_against_the_rooms() -> None:
    named = {f"{package}.{room}" for package, lines in ROOMS.items() for room in " ".join(lines).split()}
    folders = {".".join(path.parent.parts) for path in FILES if path.parts[0] in ROOMS and "testing" not in path.parts}
    assert folders == named | set(PACKAGES)
    wrong = []
    for path in FILES:
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        wrong += wrong_arrows(module, imported_modules(ROOT / path))
    assert not wrong, "\n".join(wrong)


def test_the_check_sees_an_arrow_that_goes_backwards() -> None:
    assert wrong_arrows("losses.core.terms", {"losses.criteria.detection", "losses.functional.numerics", "torch"}) == [
        "losses.core.terms -> losses.criteria.detection"
    ]
    assert wrong_arrows("matchers.pairs.pairs", {"losses", "matchers.pairs.problem", "lap"}) == [
        "matchers.pairs.pairs -> lap",
        "matchers.pairs.pairs -> losses",
    ]
    assert wrong_arrows("losses.criteria.dense.atss", {"losses.criteria.query.detr", "ragged.testing"}) == [
        "losses.criteria.dense.atss -> losses.criteria.query.detr",
        "losses.criteria.dense.atss -> ragged.testing",
    ]


def test_modules_form_no_circle() -> None:
    """Not even in type hints."""
    graph = {
        module: imported_modules(ROOT / path) & MODULES
        for path in FILES
        if path.parts[0] in ROOMS and path.name != "__init__.py"
        for module in [".".join(path.with_suffix("").parts)]
    }
    while leaves := {module for module, imported in graph.items() if not imported & graph.keys() - {module}}:
        graph = {module: imported for module, imported in graph.items() if module not in leaves}
    assert not graph, sorted(graph)


def test_rooms_are_small() -> None:
    """A room has 12 modules at most, a module 300 lines."""
    of_rooms = [path for path in FILES if path.parts[0] in ROOMS]
    counts = collections.Counter(path.parent for path in of_rooms if path.name != "__init__.py")
    assert {str(room): count for room, count in counts.items() if count > 12} == {}
    lengths = {str(path): (ROOT / path).read_text().count("\n") for path in of_rooms}
    assert {path: length for path, length in lengths.items() if length > 300} == {}


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


def test_the_picture_of_the_rooms_shows_them() -> None:
    for package, _, columns in picture.PACKAGES:
        left: set[str] = set()
        for column in columns:
            for room in column:
                assert allowed_rooms(package, room) <= left | {room}, room
            left |= set(column)
        assert left == {room for line in ROOMS[package] for room in line.split()}
