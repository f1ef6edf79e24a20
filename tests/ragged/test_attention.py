"""Masks of attention: a sample's tokens are attended as if it were alone, and nothing is NaN where it has none."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ragged import RaggedBatch, apply_mask_to_tensor, attention_mask, key_padding_mask
from ragged.testing import assert_no_host_sync

SIZES = st.lists(st.integers(0, 4), min_size=1, max_size=3)
FILLERS = st.sampled_from([math.nan, math.inf, 0.0, -77.0])
HEADS, WIDTH = 2, 4


def tokens_of(sizes: list[int], filler: float, slack: int) -> RaggedBatch:
    width = max(sizes) + slack
    tensor = torch.randn(len(sizes), width, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return RaggedBatch(tensor, sample_sizes=sizes).with_padded_set_to(filler)


def queries_of(count: int) -> Tensor:
    return torch.randn(count, 3, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)
    for parameter in module.parameters():  # biases are 0 otherwise, and hide what is computed of filler
        nn.init.normal_(parameter)
    return module.double()


def gradients(total: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True))


@given(SIZES, FILLERS, st.integers(0, 2), st.booleans(), st.booleans())
def test_attention_module_gives_what_it_gives_of_each_sample_alone(
    sizes: list[int], filler: float, slack: int, needs_weights: bool, masks_queries: bool
) -> None:
    """Cross-attention, values and gradients of queries, tokens and parameters; 0 for samples without tokens."""
    tokens = tokens_of(sizes, filler, slack)
    tokens = tokens.with_max_sample_size(max(tokens.max_sample_size, 1)).requires_grad_()
    module, queries = attention(), queries_of(len(sizes)).requires_grad_()
    options: dict[str, Any] = {"need_weights": needs_weights}
    if masks_queries:
        options["attn_mask"] = torch.zeros(3, tokens.max_sample_size, dtype=torch.bool)
    keys = tokens.with_padded_set_to(0).tensor
    made, _ = module(queries, keys, keys, key_padding_mask=key_padding_mask(tokens), **options)
    made = apply_mask_to_tensor(made, tokens.sample_sizes > 0)
    inputs = [queries, tokens.tensor, *module.parameters()]
    found = gradients((made * made.cos()).sum(), inputs)

    total = torch.zeros(())
    for number, size in enumerate(sizes):
        if size == 0:
            assert not made[number].any()
            continue
        sample = tokens.tensor[number, :size].unsqueeze(0)
        alone, _ = module(queries[number].unsqueeze(0), sample, sample)
        torch.testing.assert_close(made[number], alone[0], rtol=1e-4, atol=1e-5)
        total = total + (alone * alone.cos()).sum()
    expected = gradients(total, inputs) if any(sizes) else [torch.zeros_like(each) for each in inputs]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@given(SIZES, FILLERS, st.integers(0, 2))
def test_products_give_what_plain_matrices_give_of_each_sample(sizes: list[int], filler: float, slack: int) -> None:
    tokens, queries = tokens_of(sizes, filler, slack).requires_grad_(), queries_of(len(sizes)).requires_grad_()

    def heads(tensor: Tensor) -> Tensor:
        return tensor.unflatten(-1, (HEADS, -1)).transpose(-2, -3)

    keys = heads(tokens.with_padded_set_to(0).tensor)
    mask = attention_mask(tokens)
    assert mask.shape == (len(sizes), 1, 1, tokens.max_sample_size)
    made = scaled_dot_product_attention(heads(queries), keys, keys, attn_mask=mask)
    inputs = [queries, tokens.tensor]
    found = gradients((made * made.cos()).sum(), inputs)
    total = torch.zeros(())
    for number, size in enumerate(sizes):
        query, sample = heads(queries[number]), heads(tokens.tensor[number, :size])
        scores = query @ sample.mT / math.sqrt(WIDTH / HEADS)
        alone = scores.softmax(-1) @ sample if size else torch.zeros_like(query)
        torch.testing.assert_close(made[number], alone, rtol=1e-4, atol=1e-5)
        total = total + (alone * alone.cos()).sum()
    expected = gradients(total, inputs) if any(sizes) else [torch.zeros_like(each) for each in inputs]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [[2, 0, 3], [0, 0]])
@pytest.mark.parametrize("training", [True, False])
def test_transformer_layers_over_ragged_tokens(sizes: list[int], training: bool) -> None:
    """Self-attention by torch's encoder, cross-attention by its decoder; without gradients, they have ways of their own."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(WIDTH, HEADS, 8, 0.0, batch_first=True).train(training).double()
    decoder = nn.TransformerDecoderLayer(WIDTH, HEADS, 8, 0.0, batch_first=True).train(training).double()
    tokens, queries = tokens_of(sizes, math.nan, 1), queries_of(len(sizes))
    ignored = key_padding_mask(tokens)
    with torch.set_grad_enabled(training):
        encoded = encoder(tokens.with_padded_set_to(0).tensor, src_key_padding_mask=ignored)
        memory = tokens.create_with_sample_sizes_like_self(encoded)
        made = decoder(queries, memory.with_padded_set_to(0).tensor, memory_key_padding_mask=ignored)
        assert made.isfinite().all()
        for number, size in enumerate(sizes):
            if size:
                sample = encoder(tokens.split()[number].unsqueeze(0))
                torch.testing.assert_close(memory.split()[number], sample[0], rtol=1e-4, atol=1e-5)
                alone = decoder(queries[number].unsqueeze(0), sample)
                torch.testing.assert_close(made[number], alone[0], rtol=1e-4, atol=1e-5)
    if training:
        made.sum().backward()
        assert all(each.grad.isfinite().all() for each in decoder.parameters() if each.grad is not None)


def test_without_this_mask_torch_gives_nan() -> None:
    """Else there is no need for it."""
    tokens = tokens_of([2, 0], 0.0, 0)
    made, _ = attention()(queries_of(2), tokens.tensor, tokens.tensor, key_padding_mask=~tokens.mask)
    assert made[1].isnan().all()


def test_masks_of_any_layout() -> None:
    sizes = torch.tensor([[2, 0], [1, 3]])
    tokens = RaggedBatch(torch.rand(2, 2, 5, 4), sample_sizes=sizes, non_uniform_dim=3)
    ignored = key_padding_mask(tokens)
    expected = [[[False, False, True, True], [False, True, True, True]], [[False] + [True] * 3, [False] * 3 + [True]]]
    assert ignored.tolist() == expected
    assert torch.equal(attention_mask(tokens), ~ignored[:, :, None, None])
    assert torch.equal(ignored.flatten(0, 1), key_padding_mask(tokens.flatten_batch_dims()))
    assert key_padding_mask(RaggedBatch.empty(2, (4,))).shape == (2, 0)
    one = RaggedBatch(torch.rand(3), sample_sizes=torch.tensor(0))
    assert key_padding_mask(one).tolist() == [False, True, True]


@pytest.mark.graphs
def test_masks_wait_for_no_device_and_compile() -> None:
    def masks(tokens: RaggedBatch) -> tuple[Tensor, Tensor]:
        return key_padding_mask(tokens), attention_mask(tokens)

    tokens = tokens_of([2, 0], 0.0, 1)
    assert_no_host_sync(masks, tokens)
    compiled = torch.compile(masks, fullgraph=True, backend="eager")
    for found, wanted in zip(compiled(tokens), masks(tokens), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: key_padding_mask(t.tensor), TypeError, "keys must be a RaggedBatch, got Tensor; wrap it with"),
        (lambda t: attention_mask(None), TypeError, "keys must be a RaggedBatch, got NoneType"),
        (lambda t: attention()(t, t, t), AttributeError, r"pass .*key_padding_mask=ragged.* to nn.MultiheadAttention"),
        (lambda t: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)(t), AttributeError, "nn.MultiheadAttention and transformer layers"),
        (
            lambda t: scaled_dot_product_attention(t, t, t),
            TypeError,
            r"needs tensors, got a batch; pass keys.with_padded_set_to\(0\).tensor, and attn_mask=ragged.attention_mask\(keys\)",
        ),
    ],
)  # fmt: skip
def test_batches_are_no_arguments_of_attention(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(tokens_of([2, 0], 0.0, 1))
