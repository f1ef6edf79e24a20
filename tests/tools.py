"""What tests of Lightning, Fabric and Accelerate have in common: the page, batches of all types, and a detector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from losses import RTMDetCriterion, total
from matchers import Assignment, Targets
from ragged import combine_data

PAGE = Path(__file__).parent.parent / "docs" / "integrations.md"
QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


def run_page(upto: str) -> dict[str, Any]:
    """The names that the code of the page leaves behind, up to the end of a section."""
    text, found, _ = re.split(rf"(?<=\n## {upto}\n)(.*?)(?=\n## )", PAGE.read_text(), maxsplit=1, flags=re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks_of(text + found):
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def blocks_of(text: str) -> list[str]:
    """All code of a text, what needs the tools included."""
    return re.findall(r"```python(?: integrations)?\n(.*?)```", text, flags=re.DOTALL)


def everything() -> dict[str, Any]:
    boxes = combine_data([torch.rand(2, 2, dtype=torch.float32).repeat(1, 2), torch.rand(0, 4)])
    labels = combine_data([[1, 2], []], other_with_same_sample_sizes=boxes).long()
    keypoints = combine_data(
        [torch.full((2, 3, 3), 1001.0, dtype=torch.float32), torch.zeros(0, 3, 3)], other_with_same_sample_sizes=boxes
    )
    assignment = Assignment.from_index(torch.tensor([[0, -1], [-1, -1]]), num_targets=boxes.sample_sizes)
    return {
        "image": torch.zeros(2, 3),
        "boxes": boxes,
        "targets": [
            Targets(
                boxes,
                labels,
                fields={"keypoints": keypoints},
                canvas_size=torch.tensor([4.0, 4.0], dtype=torch.float32),
            )
        ],
        "matches": (assignment, assignment.plan()),
        "name": "two images",
    }


class Head(torch.nn.Module):
    """A detector whose gradients say what its loss was divided by."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3 + 4, kernel_size=8, stride=8)
        self.criterion = RTMDetCriterion(num_classes=3, strides=(8,))

    def maps(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
        scores, distances = self.layer(images).split([3, 4], dim=1)
        return [[scores], [distances.exp()]]

    def forward(self, batch: dict[str, Any], of_all: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        return total(self.criterion(self.maps(batch["images"]), batch["truth"], global_count=of_all))

    @torch.no_grad()
    def counts(self, batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        found = []
        for batch in batches:
            maps = self.maps(batch["images"])
            found.append(self.criterion.counts(maps, batch["truth"], self.criterion.assign(maps, batch["truth"])))
        return {name: torch.stack([each[name] for each in found]).sum(0) for name in found[0]}


def image(n: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, generator=generator) * 24
    boxes = torch.cat([corners, corners + 24 + torch.rand(n, 2, generator=generator) * 16], dim=-1)
    return {"images": torch.rand(3, 64, 64, generator=generator), "boxes": boxes, "labels": torch.arange(n) % 3}


def collated(samples: list[dict[str, Any]]) -> dict[str, Any]:
    truth = [{"boxes": sample["boxes"], "labels": sample["labels"]} for sample in samples]
    return {"images": torch.stack([sample["images"] for sample in samples]), "truth": truth}


IMAGES = [image(n, seed) for seed, n in enumerate((3, 0, 1, 2, 1, 5, 0, 1))]
