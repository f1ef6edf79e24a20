"""What is asked of the losses that criteria are configured with."""

from __future__ import annotations

from typing import Any

from losses.modules.adapters import traits_of
from matchers.costs.checks import check_module
from ragged.values.checks import check_is_callable


def check_loss(loss: Any, name: str) -> None:
    """Raise unless ``loss`` can be called, does not reduce what it gives, and has weights that are some."""
    check_is_callable(loss, name, "a loss module or function")
    reduction = getattr(loss, "reduction", "none")
    if reduction != "none":
        raise ValueError(f"{name} must have reduction='none', got {reduction!r}: criteria sum and divide themselves")
    check_module(loss, name)


def check_class_loss(loss: Any, name: str) -> None:
    """Raise unless ``loss`` is one, and can be called as criteria with a sigmoid for each class do."""
    check_loss(loss, name)
    if not traits_of(loss).takes_scores():
        kind = getattr(loss, "__name__", type(loss).__name__)
        raise TypeError(
            f"{name} is called as {name}(logits, labels, scores=scores), with a sigmoid for each class, but "
            f"{kind} takes no scores; see losses.modules, or use DetectionLoss for a softmax"
        )
