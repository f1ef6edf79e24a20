"""A criterion, and scenes to call it with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from losses.core.terms import total
from matchers import Targets, convert
from matchers.testing import CANVAS, MakeTargets, make_boxes
from matchers.testing.own_scenes import made_targets
from matchers.testing.scene import with_batches
from ragged import RaggedBatch
from ragged.testing import refilled

Outcome = tuple[dict[str, Any], list[Tensor]]


@dataclass(frozen=True)
class CriterionCase:
    """A criterion and what it is called with; images are in dimension 0 of every tensor that has two at least.

    Args:
        make: ``make(reduction=…, normalizer=…)`` gives the criterion; by default "mean".
        predict: ``predict(boxes, seed)`` gives predictions for images with these target boxes (n, 4), xyxy in pixels,
            as a pytree of tensors; some predicted boxes should lie near the targets, or hardly anything is positive.
            With ``make_targets`` it is ``predict(targets, seed)``.
        num_classes: Labels of targets are below it.
        box_format, normalized: Of the targets that the criterion expects.
        as_terms: Makes a dict of terms of what the criterion returns, if it returns something else.
        reductions: Values of ``reduction`` that ``make`` takes; none if it takes no such argument.
        constants: Keys of predictions that get no gradient: those of a teacher, for example.
        make_targets: ``make_targets(sizes, generator)`` gives ``Targets`` of images with so many objects each, for a
            criterion of other targets than boxes and labels; the random numbers are the generator's.
    """

    make: Callable[..., nn.Module]
    predict: Callable[[Any, int], Any]
    num_classes: int = 5
    box_format: str = "xyxy"
    normalized: bool = False
    as_terms: Callable[[Any], dict[str, Any]] | None = None
    reductions: tuple[str, ...] = ("mean", "sample", "sum", "none")
    constants: tuple[str, ...] = ()
    make_targets: MakeTargets | None = None

    def boxes(self, sizes: Sequence[int], seed: int = 0) -> list[Tensor]:
        """Target boxes of each image, xyxy in pixels."""
        generator = torch.Generator().manual_seed(seed)
        return [make_boxes(size, generator) for size in sizes]

    def predictions(self, sizes: Sequence[int], seed: int = 0) -> Any:
        """Predictions for the images of ``targets``."""
        known = self.boxes(sizes, seed) if self.make_targets is None else self.targets(sizes, seed)
        return self.predict(known, seed)

    def targets(self, sizes: Sequence[int], seed: int = 0, **layout: Any) -> Targets:
        """Targets of images with so many objects."""
        generator = torch.Generator().manual_seed(seed + 1)
        if self.make_targets is not None:
            return made_targets(self.make_targets, sizes, generator)
        boxes = [convert(each, "xyxy", self.box_format) for each in self.boxes(sizes, seed)]
        boxes = [each / CANVAS for each in boxes] if self.normalized else boxes
        labels = [torch.randint(self.num_classes, (size,), generator=generator) for size in sizes]
        fields: dict[str, Any] = {"box_format": self.box_format, "normalized": self.normalized}
        return Targets.of((boxes, labels), **({"canvas_size": (CANVAS, CANVAS)} | fields | layout))

    def options(self) -> list[dict[str, Any]]:
        """Arguments of ``make``, one for each reduction."""
        return [{"reduction": each} for each in self.reductions] or [{}]

    def losses(self, criterion: nn.Module, predictions: Any, targets: Any, **options: Any) -> dict[str, Any]:
        """What the criterion gives, by name."""
        result = criterion(predictions, targets, **options)
        return result if self.as_terms is None else self.as_terms(result)

    def cast(self, predictions: Any, dtype: torch.dtype) -> Any:
        """As ``cast``, with the constants of this criterion."""
        return cast(predictions, dtype, self.constants)

    def value_and_gradients(self, criterion: nn.Module, predictions: Any, targets: Any) -> Outcome:
        """The terms, and the gradients of their sum for ``leaves_of(predictions)``; None where there is no path."""
        dtype = next(leaf.dtype for leaf in pytree.tree_leaves(predictions) if is_of_images(leaf))
        predictions = self.cast(predictions, dtype)
        losses = self.losses(criterion, predictions, targets)
        loss = total({name: _entries(value).sum() for name, value in losses.items()})
        gradients = torch.autograd.grad(loss, leaves_of(predictions), allow_unused=True)
        return {name: _entries(value).detach() for name, value in losses.items()}, list(gradients)


def _entries(values: Tensor | RaggedBatch) -> Tensor:
    return values.with_padded_set_to(0).tensor if isinstance(values, RaggedBatch) else values


def cast(predictions: Any, dtype: torch.dtype, constants: Collection[str] = ()) -> Any:
    """Floating tensors in another dtype; those that a head gets a gradient for are leaves that need one."""

    def change(path: tuple[Any, ...], leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        leaf = leaf.detach().to(dtype).clone()
        constant = any(getattr(key, "key", None) in constants for key in path)
        return leaf if constant or not is_of_images(leaf) else leaf.requires_grad_()

    return pytree.tree_map_with_path(change, predictions)


def is_of_images(leaf: Any) -> bool:
    """Whether a leaf of predictions has a dimension of images."""
    return isinstance(leaf, Tensor) and leaf.dim() >= 2


def leaves_of(predictions: Any) -> list[Tensor]:
    """The tensors that a head would get a gradient for."""
    return [leaf for leaf in pytree.tree_leaves(predictions) if isinstance(leaf, Tensor) and leaf.requires_grad]


def take(predictions: Any, images: Sequence[int]) -> Any:
    """Predictions of some of the images, in that order."""
    where = torch.tensor(list(images), dtype=torch.int64)
    return pytree.tree_map(lambda leaf: leaf[where] if is_of_images(leaf) else leaf, predictions)


def take_targets(targets: Targets, images: Sequence[int]) -> Targets:
    """Targets of some of the images, in that order, padded as before."""
    where = torch.tensor(list(images), dtype=torch.int64)
    canvas = None if targets.canvas_size is None else targets.canvas_size[where]

    def rows(batch: RaggedBatch) -> RaggedBatch:
        return RaggedBatch(batch.tensor[where], sample_sizes=batch.sample_sizes[where])

    return with_batches(targets, rows, canvas_size=canvas)


def padded(targets: Targets, slack: int, filler: str) -> Targets:
    """The same targets in more padding, with other filler."""
    width = targets.max_num_targets + slack
    return with_batches(targets, lambda batch: refilled(batch.with_max_sample_size(width), filler))
