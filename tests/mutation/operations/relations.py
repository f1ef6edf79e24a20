"""What an operation does to changed arguments, whatever it computes: relations that need no reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ragged import RaggedBatch

Op = Callable[..., Any]


def every_index_is_a_flag(op: Op, flags: RaggedBatch) -> bool:
    """Indices of a mask point to what is true in it, and are as many."""
    found = op(flags)
    place = torch.where(found.mask, found.tensor, 0)
    inside = (place >= 0) & (place < flags.max_sample_size)
    hits = flags.with_padded_set_to(False).tensor.gather(1, place.clamp(0, flags.max_sample_size - 1))
    ascends = (place.diff(dim=1) > 0) | ~found.mask[:, 1:]
    return bool((inside & hits | ~found.mask).all() and ascends.all())


def others_are_left_alone(
    op: Op, source: RaggedBatch, here: RaggedBatch, there: RaggedBatch, data: RaggedBatch
) -> bool:
    """Where nothing is mapped to, a target keeps what it has."""
    written = torch.zeros(data.mask.shape, dtype=torch.bool)
    written.scatter_(1, there.with_padded_set_to(data.max_sample_size - 1).tensor, True)
    same = (op(source, here, there, data).tensor == data.tensor).all(-1)
    return bool((same | written | ~data.mask).all())


def no_positive_is_mined(op: Op, loss: Tensor, positive: Tensor) -> bool:
    """What is mined is negative."""
    return not bool((op(loss, positive) & positive).any())


def losses_of_positives_do_not_count(op: Op, loss: Tensor, positive: Tensor) -> bool:
    """Whatever the positives cost, the same negatives are mined."""
    return bool((op(loss, positive) == op(torch.where(positive, -9.0, loss), positive)).all())


def twice_as_many_are_mined(op: Op, loss: Tensor, positive: Tensor) -> bool:
    """Of each entry twice, and as many more negatives, twice as many are mined."""
    more = torch.zeros_like(positive)
    rows = torch.cat([positive, more, more, more], 1), torch.cat([loss, loss - 50, loss - 60, loss - 70], 1)
    once = op(rows[1], rows[0]).sum(1)
    return bool((op(rows[1].repeat(1, 2), rows[0].repeat(1, 2)).sum(1) == 2 * once).all())


def certainty_costs_nothing(op: Op, logits: Any, labels: Any) -> bool:
    """Logits that are certain of the labels have no loss."""
    given = labels.with_padded_set_to(0).tensor if isinstance(labels, RaggedBatch) else labels.clamp(min=0)
    if isinstance(logits, RaggedBatch):
        certain: Any = logits.create_with_sample_sizes_like_self(100.0 * one_hot(given, logits.shape[-1]))
    else:
        certain = 100.0 * one_hot(given, logits.shape[1]).movedim(-1, 1)
    return bool((torch.as_tensor(op(certain, labels)).abs() < 1e-3).all())


def weight_0_is_not_there(op: Op, logits: Tensor, labels: Tensor, weights: Tensor) -> bool:
    """The negatives that are the hardest do not count with weight 0, as if they were ignored."""
    harder = logits.clone()
    harder[:, 0, 1] -= 30
    gone, light = labels.clone(), weights.clone()
    negative = labels[:, 1] == -1
    gone[negative, 1], light[negative, 1] = -2, 0
    return bool(torch.allclose(op(harder, gone, weights), op(harder, labels, light)))


def nothing_is_0(op: Op, data: RaggedBatch) -> bool:
    """Where no sample has an entry, the result is 0."""
    return bool((op(RaggedBatch(data.tensor, sample_sizes=torch.zeros_like(data.sample_sizes))) == 0).all())


def no_mass_does_not_count(op: Op, values: Tensor, mass: Tensor) -> bool:
    """What has no mass can be anything."""
    return bool(torch.allclose(op(values, mass), op(values.masked_fill(mass == 0, 1), mass)))


def counts_add_up(op: Op, index: Tensor, values: RaggedBatch) -> bool:
    """As many as there are positives."""
    return bool((op(index, values).with_padded_set_to(0).tensor.sum(1) == (index >= 0).sum(1)).all())


def inside_of_a_larger_box(op: Op, first: RaggedBatch, second: RaggedBatch) -> bool:
    """All of a box is in one that holds it."""
    del second
    larger = first + torch.tensor([-1.0, -1.0, 1.0, 1.0])
    return bool(torch.allclose(op(first, larger).with_padded_set_to(1).tensor, torch.ones(())))


def far_apart_is_0(op: Op, first: RaggedBatch, second: RaggedBatch) -> bool:
    """Boxes far away in x and y share nothing."""
    return bool((op(first, second + 1000).with_padded_set_to(0).tensor == 0).all())


def constant_is_kept(op: Op, data: RaggedBatch) -> bool:
    """The average of equal numbers is that number."""
    found = op(data.apply(torch.ones_like))[data.sample_sizes > 0]
    return bool(torch.allclose(found, torch.ones_like(found)))


def is_differentiated(op: Op, data: RaggedBatch) -> bool:
    """A result of what needs a gradient needs one."""
    return bool(op(data.apply(lambda tensor: tensor.requires_grad_())).requires_grad)


def cancelling_is_not_nothing(op: Op, data: RaggedBatch, weights: RaggedBatch) -> bool:
    """The average grows beyond all bounds where weights come to cancel, so that it is not 0 where they do."""
    return bool(((op(data, weights) != 0) | (op(data, weights + 1e-4).abs() < 10)).all())


def ignored_weights_do_not_count(op: Op, weights: RaggedBatch, ignore: RaggedBatch) -> bool:
    """Other weights of ignored targets change nothing."""
    other = weights.create_with_sample_sizes_like_self(torch.where(ignore.tensor, 9.0, weights.tensor))
    return bool(torch.allclose(op(weights, ignore), op(other, ignore)))
