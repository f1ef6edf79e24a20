"""One run of a criterion, a matcher or an operation, as a list of all tensors that come out: to compare bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from cases.common import cast
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from losses import total
from losses.testing import CriterionCase, is_of_images, leaves_of
from matchers import Targets
from ragged import RaggedBatch


def run_criterion(case: CriterionCase, criterion: nn.Module, predictions: Any, targets: Targets) -> list[Tensor]:
    """The terms, and the gradients of all that a head gives if gradients are on."""
    predictions = cast(predictions, next(leaf for leaf in pytree.tree_leaves(predictions) if is_of_images(leaf)).dtype)
    losses = case.losses(criterion, predictions, targets)
    values = [value.detach() for value in losses.values()]
    if not torch.is_grad_enabled():
        return values
    return [*values, *torch.autograd.grad(total(losses).sum(), leaves_of(predictions))]


def run_matcher(matcher: Any, priors: Any, predictions: Any, targets: Targets) -> list[Tensor]:
    """What it gives."""
    return [leaf for leaf in pytree.tree_leaves(matcher(predictions, targets, priors)) if isinstance(leaf, Tensor)]


def run_operation(function: Callable[..., Any], arguments: Sequence[Any]) -> list[Tensor]:
    """The valid values of the results, and the gradients of all floating arguments that have one."""
    leaves, structure = pytree.tree_flatten(tuple(arguments))
    leaves = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    wanted = [leaf.requires_grad_() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    # Copies, for an operation may write into what it is given.
    leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    nodes = pytree.tree_leaves(
        function(*pytree.tree_unflatten(leaves, structure)), is_leaf=lambda node: isinstance(node, RaggedBatch)
    )
    values = [node.with_padded_set_to(0).tensor if isinstance(node, RaggedBatch) else node for node in nodes]
    values = [value for value in values if isinstance(value, Tensor)]
    # The result for an empty sample may be infinite.
    finite = [torch.where(value.isfinite(), value, 0).sum() for value in values if value.requires_grad]
    found = torch.autograd.grad(torch.stack(finite).sum(), wanted, allow_unused=True) if finite else ()
    return [value.detach() for value in values] + [each for each in found if each is not None]


def assert_same_bits(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Equal to the last bit, NaN included."""
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert torch.equal(_bits(one), _bits(other))


def _bits(values: Tensor) -> Tensor:
    return values.detach().contiguous().reshape(-1).view(torch.uint8)
