"""What is asked of the losses that criteria are configured with."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from ragged.checks import check_is_callable, check_weights


def check_loss(loss: Any, name: str) -> None:
    """Raise unless ``loss`` can be called, does not reduce what it gives, and has weights that are some."""
    check_is_callable(loss, name, "a loss module or function")
    reduction = getattr(loss, "reduction", "none")
    if reduction != "none":
        raise ValueError(f"{name} must have reduction='none', got {reduction!r}: criteria sum and divide themselves")
    for each in loss.modules() if isinstance(loss, nn.Module) else ():
        _check_tensors(each, name)


def check_class_loss(loss: Any, name: str) -> None:
    """Raise unless ``loss`` is one, and can be called as criteria with a sigmoid for each class do."""
    check_loss(loss, name)
    if not isinstance(loss, nn.BCEWithLogitsLoss) and not _takes_scores(loss):
        kind = type(loss).__name__ if isinstance(loss, nn.Module) else getattr(loss, "__name__", repr(loss))
        raise TypeError(
            f"{name} is called as {name}(logits, labels, scores=scores), with a sigmoid for each class, but "
            f"{kind} takes no scores; see losses.modules, or use DetectionLoss for a softmax"
        )


def _takes_scores(loss: Any) -> bool:
    try:
        parameters = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters.values()
    except (TypeError, ValueError):  # a builtin: nothing is known of it
        return True
    return any(each.name == "scores" or each.kind is each.VAR_KEYWORD for each in parameters)


def _check_tensors(module: nn.Module, name: str) -> None:
    for attribute in ("weight", "pos_weight"):
        value = getattr(module, attribute, None)
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.is_floating_point():
            check_weights(value, f"{attribute} of {name}")
    for own, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
            raise TypeError(
                f"{name} is computed in float32 at least, but its {own} is {tensor.dtype}: make it with float32 values"
            )
