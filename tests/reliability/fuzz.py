"""Valid calls of every public function, with one or two arguments made wrong: what comes of them?

A wrong argument is either an error of our own, which says what was expected, or it is no error at all. An error that
torch, numpy or Python raise deep in our code, because nobody looked at the argument, is a finding::

    PYTHONPATH=.:tests python -m reliability.fuzz --calls 20000 --seed 0
"""

from __future__ import annotations

import argparse
import dis
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from reliability import calls_drop_in, calls_losses, calls_matchers, calls_ragged
from reliability.call import Call
from reliability.mutations import Child, mutations
from torch.utils import _pytree as pytree

import ragged

ROOT = Path(ragged.__file__).parents[1]
PACKAGES = tuple(str(ROOT / name) for name in ("ragged", "matchers", "losses"))
DOCUMENTED = (ValueError, TypeError, IndexError, KeyError, ImportError)
# What Python says itself of a call with arguments too many or too few.
PYTHON_SAYS = re.compile(r"unexpected keyword argument|required (positional|keyword-only) argument|positional argument")
CALLS: dict[str, Callable[[], Call]] = {
    f"{package}.{name}": make
    for package, calls in (
        ("ragged", calls_ragged.CALLS),
        ("matchers", calls_matchers.CALLS),
        ("losses", calls_losses.CALLS),
        ("losses", calls_drop_in.CALLS),
    )
    for name, make in calls.items()
}


@dataclass(frozen=True)
class Finding:
    """A call that ended as none may."""

    name: str
    changes: tuple[str, ...]
    what: str

    @property
    def where(self) -> str:
        """The kind of the error and its place: what findings of one cause have in common."""
        return f"{self.what.split(':')[0]} {self.what[self.what.rfind('[') :]}"

    def __str__(self) -> str:
        return f"{self.name} with {' and '.join(self.changes)}: {self.what}"


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand, containers included."""
    children: Any = ()
    if isinstance(tree, dict):
        children = tree.items()
    elif isinstance(tree, (list, tuple)) and not isinstance(tree, torch.Size):
        children = enumerate(tree)
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def value_at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def with_value(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy in which another value stands at the place."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(tree, dict):
        return {name: with_value(child, rest, value) if name == key else child for name, child in tree.items()}
    children = [with_value(child, rest, value) if k == key else child for k, child in enumerate(tree)]
    return type(tree)(*children) if hasattr(tree, "_fields") else type(tree)(children)


def attempt(name: str, call: Call, rng: random.Random, most: int = 2) -> Finding | None:
    """Change one argument, sometimes two, and judge what comes of it."""
    changes: list[str] = []
    used: list[tuple[Any, ...]] = []
    keeps_shape, refused = True, False
    changed = call
    for _ in range(rng.choice([1] * 3 + [most])):
        tree = [changed.init or {}, changed.args, changed.kwargs]
        found = [path for path in places(tree) if len(path) > 1 and not touched(path, used)]
        if not found:
            break
        path = rng.choice(found)
        used.append(path)
        mutation: Child = rng.choice(mutations(value_at(tree, path)))
        keeps_shape &= mutation.keeps_shape and not name.startswith(GROUPED)
        refused |= must_be_refused(name, path, mutation)
        tree = with_value(tree, path, mutation.value)
        init = None if changed.init is None else tree[0]
        changed = replace(changed, init=init, args=tree[1], kwargs=tree[2])
        changes.append(f"{'.'.join(map(str, path))} = {mutation.name}")
    what = judge(changed, shapes(call()) if keeps_shape else None, refused=refused)
    return None if what is None else Finding(name, tuple(changes), what)


def touched(path: tuple[Any, ...], used: list[tuple[Any, ...]]) -> bool:
    """Whether the place, or one in it or around it, was changed before, or is no business of ours."""
    return path[-1] in TORCH_ARGUMENTS or any(zip_equal(path, other) for other in used)


def zip_equal(path: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(a == b for a, b in zip(path, other, strict=False))


TORCH_ARGUMENTS = ("device", "dtype")
"""Handed to torch as they are, whose errors say well what is wrong with them."""


WEIGHTS = ("weights", "class_weights", "valid_label_mask")
"""Arguments that must be finite and not negative."""
GROUPED = ("losses.DecoderOutputs.of", "losses.detr.assign", "losses.dfine.assign", "losses.deim.assign")
"""What is of another dtype stands in another group."""
FREE = ("ragged.average_over_targets", "ragged.collate")
"""Weights of any sign, and dicts of any keys."""


def must_be_refused(name: str, path: tuple[Any, ...], mutation: Child) -> bool:
    """Whether an argument changed so has to end in an error."""
    if name.startswith(FREE) or path[-1] in TORCH_ARGUMENTS:
        return False
    return mutation.refused or (path[-1] in WEIGHTS and mutation.name in ("negative", "NaN", "inf"))


def judge(call: Call, expected: list[tuple[int, ...]] | None, *, refused: bool = False) -> str | None:
    """What is wrong with how a call ends, or None."""
    try:
        result = call()
    except Exception as error:
        return judge_error(error)
    if refused:
        return "gave a result, where there is none"
    if expected is not None and (found := shapes(result)) != expected:
        return f"gave shapes {found}, not {expected}"
    return None


def judge_error(error: Exception) -> str | None:
    said = f"{type(error).__name__}: {str(error)[:200]}"
    if isinstance(error, TypeError) and PYTHON_SAYS.search(str(error)):
        return None
    if not isinstance(error, DOCUMENTED) or not raised_by_us(error):
        return f"{said} [{place_of(error)}]"
    return None if len(str(error)) > 15 else f"{said}: no words"


def raised_by_us(error: Exception) -> bool:
    """Whether a ``raise`` in our packages made the error."""
    last = last_frame(error)
    frame = last.tb_frame
    ours = frame.f_code.co_filename.startswith(PACKAGES)
    return ours and dis.opname[frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"


def last_frame(error: Exception) -> TracebackType:
    last = error.__traceback__
    assert last is not None
    while last.tb_next is not None:
        last = last.tb_next
    return last


def place_of(error: Exception) -> str:
    """The last line of ours."""
    found, step = "?", error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if name.startswith(PACKAGES):
            found = f"{Path(name).relative_to(ROOT)}:{step.tb_lineno}"
        step = step.tb_next
    return found


def shapes(result: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def run(calls: int, seed: int, names: list[str] | None = None) -> Iterator[Finding | None]:
    """Wrong calls, of one function after the other and round again; for each what was found, if anything."""
    names = sorted(CALLS) if names is None else names
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(calls):
            name = names[number % len(names)]
            yield attempt(name, CALLS[name](), rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names that have this in them")
    options = parser.parse_args()
    names = [name for name in sorted(CALLS) if options.only in name]
    found = [finding for finding in run(options.calls, options.seed, names) if finding is not None]
    kinds = Counter(each.where for each in found)
    examples = {each.where: each for each in found}
    for kind, count in kinds.most_common():
        print(f"{count:5d}  {examples[kind]}")
    print(f"{options.calls} calls of {len(names)} functions: {len(found)} findings of {len(kinds)} kinds")


if __name__ == "__main__":
    main()
