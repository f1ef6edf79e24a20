"""What both plots share: results, targets and units, and the image that a match is drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment, Plan
from matchers.targets.targets import Targets
from matchers.targets.values import text_of
from ragged.values.checks import check_has_values

SMALLEST_WEIGHT = 0.1
"""A pair of a plan is drawn from this part of the heaviest weight on."""


def import_pyplot() -> Any:
    """``matplotlib.pyplot``, or an ``ImportError`` that says how to get it."""
    try:
        import matplotlib.pyplot
    except ImportError as error:
        raise ImportError('plots need matplotlib; install it with: pip install "ragged-batch[plot]"') from error
    return matplotlib.pyplot


def check_result(result: Any) -> None:
    """Raise unless this is what a matcher returns, with values to show."""
    if not isinstance(result, (Assignment, Plan)):
        raise TypeError(f"result must be an Assignment or a Plan, got {type(result).__name__}")
    check_has_values(result.num_targets, "a picture")


def own_position(at: tuple[int, ...], targets: Targets) -> tuple[int, ...]:
    """The position in the batch dimensions of the targets, which may lack leading ones of the predictions."""
    return at[len(at) - len(targets.batch_shape) :]


def strengths_of(result: Assignment | Plan, at: tuple[int, ...]) -> Tensor:
    """The weights (P, n) of one image, as parts of the heaviest; zeros and ones for an assignment."""
    count = int(result.num_targets[at])
    if isinstance(result, Assignment):
        return (result.target_index[at].cpu().unsqueeze(-1) == torch.arange(count)).float()
    weights = result.weights.tensor[at][:, :count].detach().float().cpu()
    return weights / weights.max().clamp(min=1e-12) if weights.numel() else weights


@dataclass(frozen=True)
class Unit:
    """How to bring coordinates into the unit of the picture: (height, width) of what is shown, and of the canvas."""

    normalized: bool
    canvas: Tensor | None
    shown: Tensor | None

    @classmethod
    def of(cls, targets: Targets, at: tuple[int, ...], picture: Sequence[int] | None) -> Unit:
        """That of the targets of one image, or of the picture (height, width) if there is one."""
        canvas = None if targets.canvas_size is None else targets.canvas_size[own_position(at, targets)].cpu()
        return cls(targets.normalized, canvas, canvas if picture is None else torch.tensor(picture).float())

    def scaled(self, values: Tensor, normalized: bool) -> Tensor:
        """Boxes (n, 4) or points (n, 2) in this unit."""
        values = values.detach().float().cpu()
        if self.shown is None:
            if normalized != self.normalized:
                raise ValueError("pixels and fractions of the image go together only with an image or a canvas_size")
            return values
        size = torch.ones(2) if normalized else self.shown if self.canvas is None else self.canvas
        return values * (self.shown / size).flip(0).repeat(values.shape[-1] // 2)


def picture_of(image: Any) -> Tensor:
    """(H, W) or (H, W, 3), in [0, 1]."""
    try:
        picture = torch.as_tensor(image).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"image must be a tensor or an array: {error}") from None
    check_has_values(picture, "a picture")
    picture = picture.cpu()
    if picture.dim() == 3 and picture.shape[-1] not in (1, 3):
        picture = picture.movedim(0, -1)
    if picture.dim() == 3 and picture.shape[-1] == 1:
        picture = picture.squeeze(-1)
    if picture.dim() not in (2, 3) or (picture.dim() == 3 and picture.shape[-1] != 3):
        raise ValueError(
            f"image must have shape (H, W), (H, W, 3) or (3, H, W), got {tuple(torch.as_tensor(image).shape)}"
        )
    if picture.dtype == torch.uint8:
        return picture / 255
    picture = picture.float().nan_to_num(0, 0, 0)
    low, high = (float(edge) for edge in picture.aminmax()) if picture.numel() else (0.0, 1.0)
    return picture if low >= 0 and high <= 1 else (picture - low) / max(high - low, 1e-12)


def name_of_target(target: int, labels: Tensor | None, class_names: Sequence[str] | None) -> str:
    """``0 (class 2)``, ``0 (cat)``, or ``0`` where targets have no labels ``(n,)`` or ``(n, C)``."""
    if labels is None:
        return str(target)

    def name(label: int) -> str:
        if class_names is None:
            return f"class {label}"
        if not 0 <= label < len(class_names):
            raise ValueError(f"class_names has {len(class_names)} names, and none for the label {label}")
        return str(class_names[label])

    return f"{target} ({text_of(labels[target], name)})"
