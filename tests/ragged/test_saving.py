"""Copies, pickles, files and pytrees: what comes out is what went in, and sizes that were shared still are."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import ragged
from ragged import RaggedBatch, combine_data, stack_batches

BATCHES = {
    "floats": combine_data([[1.0, 2.0], [3.0]]),
    "ragged elsewhere": RaggedBatch(torch.rand(2, 3, 4), sample_sizes=[4, 1], non_uniform_dim=2),
    "nested": stack_batches([combine_data([[1], []]), combine_data([[2], [3]])]),
    "no batch dimension": RaggedBatch(torch.ones(3), sample_sizes=2),
    "nothing": RaggedBatch.empty((0, 2), (3,), dtype=torch.int32),
    "booleans": combine_data([[True], [False, True]]),
    "half": combine_data([torch.ones(2, 3)]).bfloat16(),
}


def through_file(value: Any, **options: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, **options)


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "old pickle": lambda value: pickle.loads(pickle.dumps(value, protocol=2)),
    "torch.load": lambda value: through_file(value, weights_only=False),
    "torch.load, weights only": lambda value: through_file(value, weights_only=True),
    "pytree": lambda value: pytree.tree_unflatten(*pytree.tree_flatten(value)),
    "tree_map": lambda value: pytree.tree_map(torch.clone, value),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("way", WAYS)
def test_everything_comes_back(way: str, name: str) -> None:
    batch = BATCHES[name]
    again = WAYS[way](batch)
    assert type(again) is RaggedBatch and again is not batch
    assert again.ragged_axis == batch.ragged_axis
    for part in ("tensor", "mask", "sample_sizes"):
        assert torch.equal(getattr(again, part), getattr(batch, part))
        assert getattr(again, part).dtype == getattr(batch, part).dtype
    assert torch.equal((again * 1).tensor, (batch * 1).tensor)  # it works, too


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.load", "torch.load, weights only"])
def test_sizes_stay_shared(way: str) -> None:
    boxes = combine_data([torch.ones(2, 4), torch.ones(1, 4)])
    saved = {"boxes": boxes, "labels": boxes.create_with_sample_sizes_like_self(torch.zeros(2, 2))}
    loaded = WAYS[way](saved)
    assert loaded["labels"].sample_sizes is loaded["boxes"].sample_sizes is not boxes.sample_sizes
    assert loaded["labels"].mask is loaded["boxes"].mask is not boxes.mask


def test_a_copy_shares_the_data_and_a_deep_copy_does_not() -> None:
    batch = combine_data([[1.0, 2.0], [3.0]])
    shallow, deep = copy.copy(batch), copy.deepcopy(batch)
    assert shallow.tensor is batch.tensor and shallow.mask is batch.mask
    deep[0, 0] = 7
    assert batch[0, 0] == 1
    shallow.set_tensor(torch.zeros(2, 2))
    assert batch[0, 0] == 1


@pytest.mark.parametrize("way", ["copy", "deepcopy", "pickle", "torch.load, weights only"])
def test_leaves_keep_their_flag(way: str) -> None:
    assert WAYS[way](combine_data([[1.0]]).requires_grad_()).requires_grad


def test_a_file_can_be_read_to_another_device() -> None:
    loaded = through_file({"boxes": BATCHES["floats"]}, weights_only=True, map_location="meta")["boxes"]
    assert {loaded.device.type, loaded.mask.device.type, loaded.sample_sizes.device.type} == {"meta"}


@pytest.mark.processes
def test_a_fresh_process_can_read_the_file_once_the_package_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "batch.pt"
    torch.save(BATCHES["ragged elsewhere"], path)
    code = f"import torch, ragged; print(torch.load({str(path)!r}, weights_only=True).sample_sizes.tolist())"
    root = Path(ragged.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout == "[4, 1]\n", done.stderr


@pytest.mark.parametrize("name", BATCHES)
def test_a_pytree_of_three_tensors(name: str) -> None:
    batch = BATCHES[name]
    leaves, structure = pytree.tree_flatten(batch)
    assert [leaf is part for leaf, part in zip(leaves, (batch.tensor, batch.mask, batch.sample_sizes), strict=True)]
    assert structure == pytree.tree_structure(batch.clone())
    assert pytree.treespec_loads(pytree.treespec_dumps(structure)) == structure
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path([batch])[0]]
    assert paths == ["[0].tensor", "[0].mask", "[0].sample_sizes"]


def test_the_ragged_dimension_is_part_of_the_structure() -> None:
    square = torch.ones(2, 3, 3)
    one, other = (RaggedBatch(square, sample_sizes=[1, 3], non_uniform_dim=dim) for dim in (1, 2))
    assert pytree.tree_structure(one) != pytree.tree_structure(other)


def test_placeholders_may_take_the_place_of_tensors() -> None:
    names = pytree.tree_map_with_path(lambda path, _: pytree.keystr(path), {"x": BATCHES["floats"]})
    assert pytree.tree_leaves(names) == ["['x'].tensor", "['x'].mask", "['x'].sample_sizes"]
