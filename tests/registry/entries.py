"""What the registry says of a public name: an operation with arguments to check it on, or where else it is tested."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged import RaggedBatch
from ragged.testing import UncheckedWarning, assert_matches_per_sample, check_op

# Several tests read the same arguments, and an operation may write into what it is given.
Arguments = Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class Operation:
    """A callable that ``check_op`` checks.

    Args:
        function: Called as ``function(*arguments(), *shared)``.
        arguments: Makes what holds something for each sample.
        shared: What all samples share.
        constants: Positions of arguments that have no gradient.
        reference: The same for one sample.
        is_loop: Whether the reference computes with plain numbers, so that it has no gradient.
        without: Properties that the callable does not promise, with the reason. Each of them has to fail.
    """

    function: Callable[..., Any]
    arguments: Arguments
    shared: tuple[Any, ...] = ()
    constants: tuple[int, ...] = ()
    reference: Callable[..., Any] | None = None
    is_loop: bool = False
    without: Mapping[str, str] = field(default_factory=dict)

    def check(self, *, skip: Collection[str] = ()) -> tuple[str, ...]:
        """Check all properties but those and ``skip``; returns their names."""
        without = {*self.without, *skip}
        with warnings.catch_warnings():  # many results are decisions, which have no gradient
            warnings.simplefilter("ignore", UncheckedWarning)
            return self._check(without)

    def _check(self, without: Collection[str]) -> tuple[str, ...]:
        options: dict[str, Any] = {"shared": self.shared, "constants": self.constants, "without": without}
        checked = check_op(self.function, *self.arguments(), **options)
        if self.reference is None:
            return checked
        # Alone: what replaces NaN and Inf by documented numbers has a reference that does not.
        gradients = not self.is_loop and "gradients" not in without
        arguments = self.arguments()
        assert_matches_per_sample(self.function, self.reference, *arguments, shared=self.shared, gradients=gradients)
        return (*checked, "reference")

    def properties(self) -> set[str]:
        """What is checked in a thorough run."""
        return {*self.check(skip=["compilation"]), *({"compilation"} - self.without.keys())}


@dataclass(frozen=True)
class Elsewhere:
    """A name that is no operation on batches, or one that the kit cannot call: where it is tested, and why there."""

    file: str
    why: str


SIZES = (4, 0, 1)
NESTED_SIZES = ((4, 0, 1), (2, 3, 1))
SLOTS = 5
CLASSES, PREDICTIONS = 4, 6

READS_SIZES = "reads sizes on the host, as its docstring says"
SYNCHRONISES = {"synchronisation": READS_SIZES}
NO_SAMPLE = {"empty": "needs a sample: an empty list does not say the shape or the dtype of its tensors"}
GIVEN_SIZE = {"sizes": "is given the size of its result"}
ON_THE_HOST = {**SYNCHRONISES, "compilation": READS_SIZES}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Numbers from 0.1 to 1.1: no ties, none near 0."""
    return torch.rand(shape, generator=generator(seed)) + 0.1


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def integers(high: int, *shape: int, seed: int = 0, low: int = 0) -> Tensor:
    return torch.randint(low, high, shape, generator=generator(seed))


def wrapped(tensor: Tensor, sizes: Any = SIZES, *, axis: int = 0) -> RaggedBatch:
    """A batch with these sizes; the tensor has a slot more than the largest."""
    count = torch.tensor(sizes)
    return RaggedBatch(tensor, sample_sizes=count, non_uniform_dim=count.dim() + axis)


def data(*shape: int, seed: int = 0, sizes: Any = SIZES) -> RaggedBatch:
    """Floating entries of a shape."""
    batch_shape = torch.tensor(sizes).shape
    return wrapped(uniform(*batch_shape, SLOTS, *shape, seed=seed), sizes)


def scores(*shape: int, seed: int = 0) -> RaggedBatch:
    """Logits."""
    return wrapped(normal(len(SIZES), SLOTS, *shape, seed=seed))


def labels(classes: int, *, seed: int = 0, low: int = 0) -> RaggedBatch:
    """Numbers of classes."""
    return wrapped(integers(classes, len(SIZES), SLOTS, seed=seed, low=low))


def corners(*shape: int, seed: int = 0) -> Tensor:
    """xyxy boxes on a canvas of 10 by 10, large enough that most of them overlap."""
    drawn = torch.rand(*shape, 4, generator=generator(seed)) * 3 + 0.5
    return torch.cat([drawn[..., :2], drawn[..., :2] + drawn[..., 2:] + 1], -1)


def boxes(seed: int = 0) -> RaggedBatch:
    """Ragged xyxy boxes."""
    return wrapped(corners(len(SIZES), SLOTS, seed=seed))


def rows(function: Callable[..., Any], *, fill: float | int = 0) -> Callable[..., Any]:
    """A function of dense rows as it is called on ragged data: harmless filler, and results wrapped again."""

    def on_ragged(*arguments: Any) -> Any:
        first = next(each for each in arguments if isinstance(each, RaggedBatch))
        dense = [each.with_padded_set_to(fill).tensor if isinstance(each, RaggedBatch) else each for each in arguments]
        return pytree.tree_map(first.create_with_sample_sizes_like_self, function(*dense))

    return on_ragged


def per_row(function: Callable[..., Any], *width: int) -> Callable[..., Tensor]:
    """A reference for rows of numbers, called with lists of floats for each of them; it has no gradient."""

    def on_sample(*samples: Tensor) -> Tensor:
        found = [function(*(each[row].tolist() for each in samples)) for row in range(samples[0].shape[0])]
        return torch.tensor(found, dtype=torch.float64).reshape(-1, *width)

    return on_sample
