"""Cross entropy with hard negative mining, over maps of very many predictions.

Class scores are not copied, because they are most of the memory of an SSD. The background loss of every prediction
runs without a gradient; only positives and the hardest negatives are computed again.

Scores are tensors (B, A, C, n), one for each level: logits of A predictions in each of n cells, where C counts the
background. Of all levels these are P predictions, those of a cell next to each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from losses.functional.mining import hard_negative_mining
from losses.functional.numerics import check_floating, check_integer, check_labels, check_shape, check_with
from matchers.assignments.parts import BACKGROUND, IGNORED
from ragged.values.checks import check_not_negative, check_values
from ragged.values.precision import wide
from ragged.values.readable import values_are_readable

# Scores of so many at once stay in the cache, and in memory that is used again.
_BLOCK = 1 << 20


class HardMiningCrossEntropyLoss(nn.Module):
    """Cross entropy of all positives, and of the hardest negatives in proportion to them.

    Args:
        neg_pos_ratio: Negatives to a positive, in each image.
        negatives_without_positives: How many negatives are trained of an image without a positive.

    Raises:
        ValueError: A parameter is negative.

    Differences to other implementations: super-gradients counts positives twice where an image has fewer negatives
    than are asked for.

    >>> HardMiningCrossEntropyLoss(1.0)(torch.zeros(1, 2, 3), torch.tensor([[1, 0, 0]]))
    tensor([1.3863])
    """

    def __init__(self, neg_pos_ratio: float, *, negatives_without_positives: float = 0.0) -> None:
        super().__init__()
        check_not_negative(neg_pos_ratio, "neg_pos_ratio")
        check_not_negative(negatives_without_positives, "negatives_without_positives")
        self.neg_pos_ratio, self.negatives_without_positives = neg_pos_ratio, negatives_without_positives

    def forward(self, pred_labels: Tensor, target_labels: Tensor) -> Tensor:
        """The sum of the loss over each image, (B,).

        Args:
            pred_labels: (B, C + 1, D), logits, the background first.
            target_labels: (B, D), integers: 0 for background, classes from 1; -1 is ignored.

        Returns:
            (B,).

        Raises:
            TypeError, ValueError: Shapes or dtypes do not fit, or a label is out of range.
        """
        check_class_maps(pred_labels, "pred_labels")
        check_integer(target_labels, "target_labels")
        batch, _, count = pred_labels.shape
        check_shape(target_labels, (batch, count), "target_labels", "the predictions without their classes")
        check_with(target_labels, pred_labels, "target_labels")
        labels = target_labels.long() - 1
        check_values(
            labels >= IGNORED,
            lambda at: f"target_labels must be -1 at least, got {int(target_labels[at])} at {at}",
            summary="HardMiningCrossEntropyLoss: a label is below -1",
        )
        return self.per_prediction((pred_labels.unsqueeze(1),), labels, None).sum(-1)

    def per_prediction(self, scores: Sequence[Tensor], labels: Tensor, weights: Tensor | None) -> Tensor:
        """(B, D); see ``mined_cross_entropy``."""
        ratio, least = self.neg_pos_ratio, self.negatives_without_positives
        return mined_cross_entropy(
            scores, labels, weights, background=0, ratio=ratio, negatives_without_positives=least
        )


def mined_cross_entropy(
    scores: Sequence[Tensor],
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    background: int,
    ratio: float,
    negatives_without_positives: float,
) -> Tensor:
    """Cross entropy of the positives and of the hardest negatives, each once.

    Args:
        scores: See the module.
        labels: (B, P): a class from 0, not counting the background, or ``BACKGROUND``, or ``IGNORED``.
        weights: (B, P); 1 unless given.
        background: Its channel.
        ratio, negatives_without_positives: See ``hard_negative_mining``.

    Returns:
        (B, P), weighted, 0 for what is not trained.
    """
    check_labels(labels, scores[0].shape[2] - 1, None, lowest=None)
    positive: Tensor = labels >= 0
    mass, hardness = positive, _background_loss(scores, background)
    if weights is not None:
        mass, hardness = weights.masked_fill(~positive, 0), hardness * weights
    hard = hard_negative_mining(
        hardness,
        mass,
        ratio=ratio,
        negative=labels == BACKGROUND,
        negatives_without_positives=negatives_without_positives,
    )
    channels = (labels + 1).clamp(min=0) if background == 0 else torch.where(positive, labels, background)
    values = _trained_loss(scores, channels, positive | hard)
    return values if weights is None else values * weights


def check_class_maps(logits: Tensor, name: str) -> None:
    """Raise unless these are logits (B, C + 1, D)."""
    check_floating(logits, name)
    if logits.dim() != 3 or logits.shape[1] < 2:
        raise ValueError(f"{name} must have shape (B, C + 1, D) with C ≥ 1, got {tuple(logits.shape)}")


# --- over levels (B, A, C, n) --------------------------------------------------------------------------------------


@torch.no_grad()
def _background_loss(scores: Sequence[Tensor], background: int) -> Tensor:
    """(B, P), the cross entropy that each prediction has as background."""
    found = []
    for level in scores:
        memory, dim = _as_in_memory(level)
        blocks = (memory,)
        if values_are_readable(memory) and memory.numel() > _BLOCK:
            blocks = memory.split(max(_BLOCK * memory.shape[0] // memory.numel(), 1))
        # Negated, it is a copy, which does not keep the block alive.
        losses = [-wide(block).log_softmax(dim).select(dim, background) for block in blocks]
        found.append(losses[0] if len(losses) == 1 else torch.cat(losses))
    return torch.cat([level.mT.flatten(1) for level in found], 1)


def _trained_loss(scores: Sequence[Tensor], channels: Tensor, trained: Tensor) -> Tensor:
    """(B, P), the cross entropy where ``trained``, 0 elsewhere."""
    sizes = [level.shape[1] * level.shape[3] for level in scores]
    packed = values_are_readable(trained)
    read, flags = (_packed, trained) if packed else (_static, ~trained)
    found = []
    for level, channel, own in zip(scores, channels.split(sizes, 1), flags.split(sizes, 1), strict=True):
        memory, dim = _as_in_memory(level)
        shape = (level.shape[3], level.shape[1])
        log_p = read(memory, dim, channel.unflatten(1, shape).mT, own.unflatten(1, shape).mT)
        found.append(log_p.mT.flatten(1))
    log_p = torch.cat(found, 1)
    return -log_p if packed else -log_p.masked_fill(flags, 0)


def _packed(memory: Tensor, dim: int, channel: Tensor, trained: Tensor) -> Tensor:
    """(B, A, n), reading only what is trained: where that can be counted, a few times faster than ``_static``."""
    image, anchor, cell = trained.nonzero(as_tuple=True)
    logits = memory[image, anchor, :, cell] if dim == 2 else memory[image, anchor, cell]
    log_p = wide(logits).log_softmax(-1).gather(-1, channel[image, anchor, cell].unsqueeze(-1)).squeeze(-1)
    return log_p.new_zeros(trained.shape).index_put((image, anchor, cell), log_p)


def _static(memory: Tensor, dim: int, channel: Tensor, untrained: Tensor) -> Tensor:
    """(B, A, n), in a static shape; of what is not trained anything."""
    # What is not trained may be NaN, which would be the gradient of the others, too.
    log_p = wide(memory.masked_fill(untrained.unsqueeze(dim), 0)).log_softmax(dim)
    return log_p.gather(dim, channel.unsqueeze(dim)).squeeze(dim)


def _as_in_memory(level: Tensor) -> tuple[Tensor, int]:
    """Scores (B, A, C, n) or (B, A, n, C), whichever is contiguous, so is their gradient; and the dimension of C."""
    return (level, 2) if level.is_contiguous() else (level.mT, 3)
