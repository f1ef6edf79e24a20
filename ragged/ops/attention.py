"""Masks of attention over ragged tokens, in the forms that torch's attentions take.

A softmax over no key at all is NaN. Both masks therefore leave the first slot of a sample without entries open. It is
filler: give the attention tokens whose filler is a number, ``keys.with_padded_set_to(0).tensor``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch, check_is_batch


def key_padding_mask(keys: RaggedBatch) -> Tensor:
    """The ``key_padding_mask`` for ``torch.nn.MultiheadAttention`` and transformer layers: true for keys to ignore.

    Use it instead of ``~keys.mask``, which gives NaN for a sample without entries. Such a sample attends to its first
    filler slot: set filler to a finite number before, and zero the sample's output after.

    Args:
        keys: Tokens, ragged along any dimension. torch takes one batch dimension: see ``flatten_batch_dims``.

    Returns:
        Bool ``(*batch, max_size)``, true for filler, except the first slot of a sample without entries.

    Raises:
        TypeError: ``keys`` is not a RaggedBatch.

    >>> tokens = RaggedBatch(torch.rand(2, 3, 4), sample_sizes=[2, 0])
    >>> key_padding_mask(tokens)
    tensor([[False, False,  True],
            [False,  True,  True]])
    >>> attention = torch.nn.MultiheadAttention(4, num_heads=2, batch_first=True)
    >>> values = tokens.with_padded_set_to(0).tensor
    >>> output, _ = attention(torch.rand(2, 5, 4), values, values, key_padding_mask=key_padding_mask(tokens))
    >>> output.isfinite().all()
    tensor(True)
    """
    return ~_open_keys(keys)


def attention_mask(keys: RaggedBatch) -> Tensor:
    """The ``attn_mask`` for ``scaled_dot_product_attention``: true for keys to attend to.

    If filler of the values is 0, a sample without entries has output 0 and gradient 0.

    Args:
        keys: Tokens, ragged along any dimension, with any number of batch dimensions.

    Returns:
        Bool ``(*batch, 1, 1, max_size)``, for queries ``(*batch, heads, L, E)`` and keys ``(*batch, heads, max_size,
        E)``: true for entries, and for the first slot of a sample without any. Without a dimension of heads, take
        ``.squeeze(-3)``.

    Raises:
        TypeError: ``keys`` is not a RaggedBatch.

    >>> attention_mask(RaggedBatch(torch.rand(2, 3, 4), sample_sizes=[2, 0])).squeeze()
    tensor([[ True,  True, False],
            [ True, False, False]])
    """
    return _open_keys(keys).unsqueeze(-2).unsqueeze(-2)


def _open_keys(keys: RaggedBatch) -> Tensor:
    check_is_batch(keys, "keys")
    first = torch.arange(keys.max_sample_size, device=keys.device) == 0
    return keys.mask | first
