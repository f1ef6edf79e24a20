"""Made-up predictions and targets for the tests of the example."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import ragged
from matchers import Predictions, Targets

Case = tuple[Predictions, Targets, list[dict[str, torch.Tensor]]]
CANVAS = torch.tensor([96.0, 96.0])


def random_boxes(*shape: int, generator: torch.Generator) -> torch.Tensor:
    corner = 60 * torch.rand(*shape, 2, generator=generator)
    side = 5 + 30 * torch.rand(*shape, 2, generator=generator)
    return torch.cat([corner, corner + side], dim=-1)


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """Return a function from target counts to predictions, ragged targets, and the same targets as a list."""

    def make(sizes: tuple[int, ...], num_predictions: int = 9, num_classes: int = 5, seed: int = 0) -> Case:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(len(sizes), num_predictions, num_classes, generator=generator).requires_grad_()
        boxes = random_boxes(len(sizes), num_predictions, generator=generator).requires_grad_()
        samples = [
            {
                "boxes": random_boxes(size, generator=generator),
                "labels": torch.randint(num_classes, (size,), generator=generator),
            }
            for size in sizes
        ]
        targets = {name: ragged.combine_data([sample[name] for sample in samples]) for name in ("boxes", "labels")}
        return Predictions(logits, boxes), Targets(**targets, canvas_size=CANVAS), samples

    return make


@pytest.fixture
def poison() -> Callable[[Targets], Targets]:
    """Return a function that fills the filler of targets with NaN boxes and with labels that do not exist."""
    return lambda targets: Targets(
        targets.boxes.with_padded_set_to(float("nan")),
        targets.labels.with_padded_set_to(12345),
        canvas_size=targets.canvas_size,
    )
