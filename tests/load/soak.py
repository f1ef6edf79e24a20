"""Thousands of training steps with every criterion in turn: neither memory nor the number of live tensors may grow.

python -m tests.load.soak --steps 2000
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))  # where the cases are, if this is not run by pytest

from cases import EVERY_CRITERION
from cases.common import cast
from heads import Head
from torch import Tensor, nn

from losses import total
from losses.testing import CriterionCase
from matchers import Targets
from matchers.testing import CANVAS
from ragged import combine_data

# Once more than each criterion needs until its optimizer has all its state.
WARM_UP = 2 * len(EVERY_CRITERION)
MORE_OBJECTS = 500
MORE_MEBIBYTES = 16.0


@dataclass(frozen=True)
class Sighting:
    """What is alive after a number of steps."""

    step: int
    tensors: int
    objects: int
    mebibytes: float

    def __str__(self) -> str:
        return f"{self.step:8d} {self.tensors:8d} {self.objects:9d} {self.mebibytes:9.1f}"


@dataclass(frozen=True)
class Trainee:
    """A head with its criterion."""

    case: CriterionCase
    criterion: nn.Module
    head: nn.Module
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, case: CriterionCase) -> Trainee:
        head = Head(case.predictions([1]))
        return cls(case, case.make(), head, torch.optim.SGD(head.parameters(), lr=1e-4, momentum=0.9))

    def step(self, sizes: list[int], seed: int) -> Tensor:
        """Train on images with so many objects."""
        predictions = cast(self.case.predictions(sizes, seed), torch.float32)
        loss = total(self.case.losses(self.criterion, self.head(predictions), self.targets(sizes, seed)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def targets(self, sizes: list[int], seed: int) -> Targets:
        """Read from padded data, from dicts, or from lists."""
        given = self.case.targets(sizes, seed)
        layout = {"box_format": self.case.box_format, "normalized": self.case.normalized}
        samples = given.to_dicts()
        boxes, labels = ([sample[name] for sample in samples] for name in ("boxes", "labels"))
        if seed % 3 == 0:
            padded = combine_data(boxes)
            given = Targets(padded, combine_data(labels, other_with_same_sample_sizes=padded), **layout)
        elif seed % 3 == 1:
            given = Targets.of(samples, **layout)
        else:
            given = Targets.of((boxes, labels), **layout)
        return Targets(given.boxes, given.labels, canvas_size=torch.tensor([CANVAS, CANVAS]), **layout)


def soak(
    steps: int, *, every: int, seed: int = 0, after_step: Callable[[Tensor], Any] | None = None
) -> Iterator[Sighting]:
    """Train, and look after the warm-up and then after each ``every`` steps."""
    generator = random.Random(seed)
    trainees = [Trainee.of(case) for case in EVERY_CRITERION.values()]
    for step in range(steps + 1):
        if step == WARM_UP or (step > WARM_UP and step % every == 0):
            yield look(step)
        sizes = [generator.choice([0, 1, 2, 6]) for _ in range(generator.randint(1, 6))]
        loss = trainees[step % len(trainees)].step(sizes, step)
        if not loss.isfinite():
            raise RuntimeError(f"the loss of step {step} is {loss.item()}")
        if after_step is not None:
            after_step(loss)
        del loss


def look(step: int) -> Sighting:
    gc.collect()
    objects = gc.get_objects()
    # By type: to ask an object for its class may run its code.
    tensors = sum(issubclass(type(each), Tensor) for each in objects)
    return Sighting(step, tensors, len(objects), resident_mebibytes())


def resident_mebibytes() -> float:
    """Of this process; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    (line,) = [each for each in status.read_text().splitlines() if each.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def growth(first: Sighting, last: Sighting) -> list[str]:
    """What grew by more than it may."""
    found = []
    if last.tensors > first.tensors:
        found.append(f"live tensors grew from {first.tensors} to {last.tensors}")
    if last.objects > first.objects + MORE_OBJECTS:
        found.append(f"live objects grew from {first.objects} to {last.objects}")
    if last.mebibytes > first.mebibytes + MORE_MEBIBYTES:
        found.append(f"resident memory grew from {first.mebibytes:.1f} to {last.mebibytes:.1f} MiB")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=200)
    options = parser.parse_args(arguments)
    if options.steps < WARM_UP + options.every:
        parser.error(f"--steps must be {WARM_UP} of warm-up and {options.every} more at least")
    print(f"{'step':>8} {'tensors':>8} {'objects':>9} {'RSS (MiB)':>9}")
    seen = []
    for sighting in soak(options.steps, every=options.every):
        print(sighting, flush=True)
        seen.append(sighting)
    # The allocator has its own warm-up: sizes are random, and the largest come late.
    found = growth(seen[1], seen[-1])
    print("; ".join(found) if found else "nothing grew")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
