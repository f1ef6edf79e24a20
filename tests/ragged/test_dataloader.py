"""Collating, the DataLoader with workers, saving and copying."""

from __future__ import annotations

import io
import pickle
import warnings
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, default_collate

from ragged import RaggedBatch, collate, combine_data


class Sample(NamedTuple):
    image: Tensor
    target: dict[str, Any]


class Scenes(Dataset[Sample]):
    """Sample n has n objects."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, n: int) -> Sample:
        target = {"boxes": torch.full((n, 4), float(n)), "labels": torch.arange(n), "name": f"scene {n}", "id": n}
        return Sample(torch.full((1, 2, 2), float(n)), target)


class Batches(Dataset[RaggedBatch]):
    """Sample n is itself a batch."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, n: int) -> RaggedBatch:
        return combine_data([torch.ones(n), torch.ones(2 * n)])


def check_scenes(batch: Sample) -> None:
    assert isinstance(batch, Sample)
    assert batch.image[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    boxes, labels = batch.target["boxes"], batch.target["labels"]
    assert boxes.sample_sizes.tolist() == [0, 1, 2, 3]
    assert labels.sample_sizes is boxes.sample_sizes or labels.sample_sizes.equal(boxes.sample_sizes)
    assert [label.tolist() for label in labels.split()] == [[], [0], [0, 1], [0, 1, 2]]
    assert batch.target["name"] == [f"scene {n}" for n in range(4)]
    assert batch.target["id"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader(workers: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pin_memory without an accelerator
        loader = DataLoader(
            Scenes(), batch_size=4, num_workers=workers, pin_memory=True, collate_fn=partial(collate, stack={"image"})
        )
        (batch,) = list(loader)
    check_scenes(batch)


@pytest.mark.processes
def test_loader_with_spawned_workers() -> None:
    loader = DataLoader(
        Scenes(),
        batch_size=4,
        num_workers=1,
        multiprocessing_context="spawn",
        collate_fn=partial(collate, stack=("image",)),
    )
    check_scenes(next(iter(loader)))


def test_default_collate_stacks_batches() -> None:
    batch = next(iter(DataLoader(Batches(), batch_size=2)))
    assert batch.sample_sizes.tolist() == [[0, 0], [1, 2]]
    assert default_collate([{"a": Batches()[1]}])["a"].batch_shape == (1, 2)
    assert collate([Batches()[0], Batches()[1]]).batch_shape == (2, 2)


def test_collate_shares_sizes_and_keeps_structure() -> None:
    samples = [[{"a": torch.ones(n), "b": np.ones((n, 2))}, (torch.tensor(n), 1.5, True)] for n in (2, 1)]
    ragged, scalars = collate(samples)
    assert isinstance(ragged["b"], RaggedBatch) and ragged["b"].mask is ragged["a"].mask
    assert isinstance(scalars, tuple)
    assert [part.tolist() for part in scalars] == [[2, 1], [1.5, 1.5], [True, True]]


class Boxes(dict):  # type: ignore[type-arg]
    """A mapping of a class of its own."""


def test_collate_takes_what_datasets_yield() -> None:
    samples = [
        Boxes(a=np.float32(n), b=np.arange(n), c=None, d=["x"] * 2, e=torch.tensor(n > 1), f={}, g=b"raw")
        for n in (1, 2)
    ]
    batch = collate(samples)
    assert batch["a"].tolist() == [1, 2] and batch["e"].tolist() == [False, True]
    assert [part.tolist() for part in batch["b"].split()] == [[0], [0, 1]]
    assert (batch["c"], batch["d"], batch["f"], batch["g"]) == ([None, None], [["x", "x"]] * 2, {}, [b"raw"] * 2)
    assert collate([1, 2.5]).tolist() == [1, 2.5]
    assert collate(["a", "b"]) == ["a", "b"]


def test_sizes_are_shared_only_where_they_are_equal() -> None:
    batch = collate([{"a": torch.ones(n), "b": torch.ones(2 * n, 3), "c": torch.ones(n, 1)} for n in (1, 2)])
    assert batch["c"].sample_sizes is batch["a"].sample_sizes is not batch["b"].sample_sizes
    assert batch["b"].sample_sizes.tolist() == [2, 4]


def test_samples_without_entries_of_any_shape() -> None:
    batch = collate([{"boxes": torch.empty(0)}, {"boxes": torch.ones(2, 4)}, {"boxes": torch.empty(1, 0)}])
    assert batch["boxes"].shape == (3, 2, 4) and batch["boxes"].sample_sizes.tolist() == [0, 2, 0]


def test_gradients_pass_through_collating() -> None:
    samples = [torch.ones(n, requires_grad=True) for n in (1, 3)]
    (collate(samples) * 2).with_padded_set_to(0).tensor.sum().backward()
    assert [sample.grad.tolist() for sample in samples if sample.grad is not None] == [[2], [2, 2, 2]]


@pytest.mark.parametrize("workers", [0, 2])
def test_datasets_of_batches(workers: int) -> None:
    loader = DataLoader(
        Batches(), batch_size=2, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    (batch,) = list(loader)
    assert batch.batch_shape == (2, 2)
    assert [[sample.tolist() for sample in samples] for samples in batch.split()] == [[[], []], [[1], [1, 1]]]
    unbatched = list(DataLoader(Batches(), batch_size=None, num_workers=workers))
    assert [each.sample_sizes.tolist() for each in unbatched] == [[0, 0], [1, 2]]


def test_equal_sizes_are_ragged_too() -> None:
    assert isinstance(collate([torch.ones(2), torch.ones(2)]), RaggedBatch)


def test_stacked_positions_are_those_of_the_sample() -> None:
    samples = [(torch.ones(1, 2), {"pair": (torch.ones(n), torch.ones(n))}) for n in (1, 2)]
    image, target = collate(samples, stack=[0])
    assert isinstance(image, Tensor) and isinstance(target["pair"][0], RaggedBatch)


@pytest.mark.parametrize(
    ("error", "words", "samples", "stack"),
    [
        (ValueError, "at least one sample", [], ()),
        (ValueError, r"at sample\['x'\]: samples must have the shape .*; tensors to be stacked instead are named in stack=", [{"x": torch.ones(1, 2)}, {"x": torch.ones(1, 3)}], ()),
        (ValueError, r"at sample\['x'\]\[1\]: stack expects each tensor to be equal size", [{"x": (1, torch.ones(2))}, {"x": (1, torch.ones(3))}], "x"),
        (ValueError, r"samples must have the same keys at sample\[0\], got \['a'\] in sample 0 and \['b'\] in sample 1", [[{"a": 1}], [{"b": 1}]], ()),
        (ValueError, r"samples must have the same length at sample, got 1 in sample 0 and 2 in sample 1", [(1,), (1, 2)], ()),
        (TypeError, r"samples must have one type at sample\['a'\], got \['Tensor', 'list'\]", [{"a": torch.ones(1)}, {"a": [1]}], ()),
        (ValueError, r"stack must name parts of the samples, got \['imgae'\]", [{"image": torch.ones(1)}], ["imgae"]),
    ],
)  # fmt: skip
def test_errors_name_the_place(error: type[Exception], words: str, samples: Any, stack: Any) -> None:
    with pytest.raises(error, match=words):
        collate(samples, stack=stack)


def test_saving_and_pickling() -> None:
    batch = combine_data([[1.0, 2.0], [3.0]])
    file = io.BytesIO()
    torch.save({"targets": batch, "cost": batch.unsqueeze_data_dim(1)}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert loaded["targets"].equal(batch)
    assert loaded["cost"].non_uniform_dim == 2
    assert pickle.loads(pickle.dumps(batch)).equal(batch)


def test_is_a_pytree_of_its_tensors() -> None:
    batch = combine_data([[1.0, 2.0], [3.0]]).unsqueeze_data_dim(1)
    leaves, structure = pytree.tree_flatten(batch)
    assert [leaf is part for leaf, part in zip(leaves, (batch.tensor, batch.mask, batch.sample_sizes), strict=True)]
    assert pytree.tree_unflatten(leaves, structure).equal(batch)
    paths, _ = pytree.tree_flatten_with_path({"x": batch})
    assert [pytree.keystr(path) for path, _ in paths] == ["['x'].tensor", "['x'].mask", "['x'].sample_sizes"]
    assert pytree.tree_map(torch.zeros_like, batch).non_uniform_dim == 2
