"""A criterion, and scenes to call it with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from losses.core.terms import total
from losses.testing.roles import BOXES, LOGITS, are_queries, is_of_images
from matchers import Targets, convert
from matchers.testing import CANVAS, MakeTargets, make_boxes
from matchers.testing.changes.rows import with_weights
from matchers.testing.own_scenes import made_targets
from matchers.testing.scene import with_batches
from ragged import RaggedBatch
from ragged.testing import PropertyViolation, refilled

Outcome = tuple[dict[str, Any], list[Tensor]]
Reference = Callable[[Any, Targets], dict[str, Any]]

SIZES = (3, 0, 1, 6)
"""Numbers of objects of the images of a scene; among them none and one."""


@dataclass(frozen=True)
class CriterionCase:
    """A criterion and its test inputs. Dimension 0 of every tensor with at least two dimensions is the image.

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
        logits, boxes_keys: Keys of predictions that are class logits (B, …, C), and boxes (B, …, 4) in format and unit
            of the targets. If there are no other keys, predictions are queries, and their order does not matter.
        divides_by: ``"batch"``: sums over the batch are divided by counts of the batch; ``"image"``: the loss is the
            mean over images; None: it does not matter.
        reference: ``reference(predictions, targets)`` gives the terms in another way, such as plain loops.
        without: Properties that the criterion or its predictions do not have, by name, and why.
        fixed: Fixed predictions and targets for every property, instead of random ones.
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
    logits: tuple[str, ...] = LOGITS
    boxes_keys: tuple[str, ...] = BOXES
    divides_by: str | None = None
    reference: Reference | None = None
    without: Mapping[str, str] = field(default_factory=dict, hash=False)
    fixed: tuple[Any, Targets] | None = field(default=None, hash=False)
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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

    def scene(self, sizes: Sequence[int] = SIZES, seed: int = 0) -> tuple[Any, Targets]:
        """Predictions and targets, of which some have weights and some are ignored; or those that are fixed."""
        if self.fixed is not None:
            return self.fixed
        key = (tuple(sizes), seed)
        if key not in self._known:
            self._known[key] = self.predictions(sizes, seed), with_weights(self.targets(sizes, seed), seed)
        return self._known[key]

    def outcome(self, sizes: Sequence[int] = SIZES) -> Outcome:
        """Terms and gradients of ``scene``, computed once for all properties that compare something with them."""
        key = ("outcome", tuple(sizes))
        if key not in self._known:
            self._known[key] = self.value_and_gradients(self.make(), *self.scene(sizes))
        return self._known[key]

    def is_of_queries(self) -> bool:
        """Whether predictions are class logits and boxes, and nothing else, so that their order says nothing."""
        return are_queries(self.logits, self.boxes_keys, self.scene()[0])

    def options(self) -> list[dict[str, Any]]:
        """Arguments of ``make``, one for each reduction."""
        return [{"reduction": each} for each in self.reductions] or [{}]

    def losses(self, criterion: nn.Module, predictions: Any, targets: Any, **options: Any) -> dict[str, Any]:
        """What the criterion gives, by name."""
        return self.named(criterion(predictions, targets, **options))

    def named(self, result: Any) -> dict[str, Any]:
        """The terms by name, of what a call of the criterion gives."""
        terms = result if self.as_terms is None else self.as_terms(result)
        return checked_terms(terms, has_as_terms=self.as_terms is not None)

    def cast(self, predictions: Any, dtype: torch.dtype) -> Any:
        """As ``cast``, with the constants of this criterion."""
        return cast(predictions, dtype, self.constants)

    def value_and_gradients(self, criterion: nn.Module, predictions: Any, targets: Any) -> Outcome:
        """The terms, and the gradients of their sum for ``leaves_of(predictions)``; None where there is no path."""
        dtype = next(leaf.dtype for leaf in pytree.tree_leaves(predictions) if is_of_images(leaf))
        predictions = self.cast(predictions, dtype)
        losses = self.losses(criterion, predictions, targets)
        loss = total({name: _entries(value).sum() for name, value in losses.items()})
        if not loss.requires_grad:
            raise PropertyViolation(f"no term has a gradient: {', '.join(map(str, losses))} depend on no prediction")
        gradients = torch.autograd.grad(loss, leaves_of(predictions), allow_unused=True)
        return {name: _entries(value).detach() for name, value in losses.items()}, list(gradients)


def checked_terms(terms: Any, *, has_as_terms: bool = False) -> dict[str, Any]:
    """A dict of terms; or a violation that says what came instead, and what to do."""
    what = "as_terms" if has_as_terms else "the criterion"
    if not isinstance(terms, Mapping):
        advice = "" if has_as_terms else "; as_terms=lambda result: {…} makes one of it"
        raise PropertyViolation(f"{what} returns a {type(terms).__name__}, expected a dict of terms by name{advice}")
    if not terms:
        raise PropertyViolation(f"{what} returns a dict without terms")
    for name, value in terms.items():
        if not isinstance(value, (Tensor, RaggedBatch)):
            raise PropertyViolation(f"the term {name} is a {type(value).__name__}, expected a tensor")
    return dict(terms)


def _entries(values: Tensor | RaggedBatch) -> Tensor:
    return values.with_padded_set_to(0).tensor if isinstance(values, RaggedBatch) else values


def cast(predictions: Any, dtype: torch.dtype, constants: Collection[str] = ()) -> Any:
    """Floating tensors in another dtype; tensors with a gradient become leaves that require one."""

    def change(path: tuple[Any, ...], leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        leaf = leaf.detach().to(dtype).clone()
        constant = any(getattr(key, "key", None) in constants for key in path)
        return leaf if constant or not is_of_images(leaf) else leaf.requires_grad_()

    return pytree.tree_map_with_path(change, predictions)


def leaves_of(predictions: Any) -> list[Tensor]:
    """The tensors that a head would get a gradient for."""
    return [leaf for leaf in pytree.tree_leaves(predictions) if isinstance(leaf, Tensor) and leaf.requires_grad]


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
