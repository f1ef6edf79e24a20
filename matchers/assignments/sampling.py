"""Training on a few predictions of each image only, drawn at random: positives and background in proportion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import IGNORED
from ragged.values.checks import check_positive, check_same_device, check_share
from ragged.values.ranking import smallest


@torch.no_grad()
def sample_assignment(
    assignment: Assignment,
    num_samples: int,
    positive_fraction: float = 0.5,
    *,
    generator: torch.Generator | None = None,
) -> Assignment:
    """A random subset of an assignment: ``num_samples`` predictions of each image; all others become ignored (Ren et
    al., Faster R-CNN, 2015).

    It draws at most ``floor(positive_fraction * num_samples)`` positives, then background for the rest, uniformly and
    without replacement. With too little background, the result has fewer samples. Ignored predictions stay ignored.

    Shapes do not depend on values, and nothing waits for the device. Random numbers are drawn on the device of the
    assignment, one for each prediction, so that a generator in the same state gives the same samples.

    Args:
        assignment: Of any matcher.
        num_samples: Number of predictions to keep in each image.
        positive_fraction: In [0, 1].
        generator: A generator on the device of the assignment. Default: torch's global one.

    Raises:
        TypeError, ValueError: A number is out of range, or something is of another kind or device.

    >>> drawn = torch.Generator().manual_seed(0)
    >>> assignment = Assignment.from_index(torch.tensor([[0, 1, 0, -1, -1, -1, -2]]), num_targets=torch.tensor([2]))
    >>> sample_assignment(assignment, 4, 0.25, generator=drawn).target_index
    tensor([[-2, -2,  0, -1, -1, -1, -2]])
    """
    if not isinstance(assignment, Assignment):
        raise TypeError(f"assignment must be an Assignment, got {type(assignment).__name__}")
    most_positive = _checked_positives(num_samples, positive_fraction)
    index = assignment.target_index
    _check_generator(generator, index.device)
    draw = torch.rand(index.shape, generator=generator, device=index.device)
    first, is_positive = _drawn(draw, assignment.is_positive, most_positive)
    second, is_background = _drawn(draw, assignment.is_background, num_samples)
    place = torch.arange(second.shape[-1], device=index.device)
    is_background &= place < num_samples - is_positive.sum(-1, keepdim=True)
    kept = torch.zeros_like(index, dtype=torch.bool).scatter(-1, first, is_positive)
    kept = kept.scatter(-1, second, is_background | kept.gather(-1, second))
    return replace(
        assignment,
        target_index=torch.where(kept, index, IGNORED),
        quality=torch.where(kept, assignment.quality, 0),
        max_pairs=min(assignment.max_pairs, most_positive),
    )


@dataclass(frozen=True, kw_only=True)
class RandomSampler:
    """``sample_assignment`` with fixed arguments, for ``sampler=`` of a criterion.

    Any matcher gives sampled assignments for any criterion as ``lambda *given: sampler(matcher(*given))``.

    Args:
        num_samples, positive_fraction, generator: See ``sample_assignment``.

    >>> assignment = Assignment.from_index(torch.tensor([[0, -1, -1]]), num_targets=torch.tensor([1]))
    >>> RandomSampler(num_samples=2)(assignment).is_ignored.sum()
    tensor(1)
    """

    num_samples: int
    positive_fraction: float = 0.5
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        _checked_positives(self.num_samples, self.positive_fraction)
        _check_generator(self.generator, None)

    def __call__(self, assignment: Assignment) -> Assignment:
        """Draw from an assignment."""
        return sample_assignment(assignment, self.num_samples, self.positive_fraction, generator=self.generator)


def _drawn(draw: Tensor, which: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Some of the predictions that ``which`` (…, P) is true for, in random order: places (…, K), and which are some."""
    found, place = smallest(draw.masked_fill(~which, torch.inf), count, nonnegative=True)
    return place, found < torch.inf


def _checked_positives(num_samples: int, positive_fraction: float) -> int:
    """The largest number of positives."""
    check_positive(num_samples, "num_samples")
    check_share(positive_fraction, "positive_fraction")
    return int(num_samples * positive_fraction)


def _check_generator(generator: torch.Generator | None, device: torch.device | None) -> None:
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if device is not None:
        check_same_device(generator.device, device, name="the generator", reference="the assignment")
