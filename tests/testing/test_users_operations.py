"""Operations as users write them, which are right: no property fails, on one batch and on drawn ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ragged
from ragged import RaggedBatch
from ragged.testing import batches_sharing_sizes, check_op, index_batches, ragged_batches

pytestmark = pytest.mark.hunts

RIGHT: dict[str, tuple[Callable[..., Any], Callable[..., Any], str, tuple[Tensor, ...]]] = {}


def L(b, t):
    return b.create_with_sample_sizes_like_self(t)


def z(b):
    return b.with_padded_set_to(0.0).tensor


def neg(b):
    return b.with_padded_set_to(float("-inf")).tensor


def right(reference, kind="f", shared=()):
    def kept(op):
        RIGHT[op.__name__] = (op, reference, kind, shared)
        return op

    return kept


@right(lambda s: s.sum(0) / max(len(s), 1))
def masked_mean(b):
    return z(b).sum(1) / b.sample_sizes.clamp(min=1)


@right(lambda s: s.softmax(0))
def soft(b):
    t = b.with_padded_set_to(torch.finfo(b.dtype).min).tensor
    return L(b, t.softmax(1))


@right(lambda s: s.softmax(0))
def soft_by_hand(b):
    t = b.tensor.masked_fill(~b.mask, -1e4)
    top = F.pad(t, (0, 1), value=-1e4).amax(1, keepdim=True)
    e = (t - top).exp() * b.mask
    return L(b, e / e.sum(1, keepdim=True).clamp(min=1e-12))


@right(lambda s: (s[:, None] - s[None]).square().sum(), "f2")
def sq_distance(b):
    t = z(b)
    d = (t[:, :, None] - t[:, None]).square().sum(-1)
    return L(b, d.masked_fill(~b.mask[:, None], 0)).tensor.masked_fill(~b.mask[:, :, None], 0).sum((1, 2))


@right(lambda s, p: torch.cdist(s, p), "f2", (torch.randn(6, 2, generator=torch.Generator().manual_seed(1)),))
def cdist_points(b, p):
    return L(b, torch.cdist(z(b), p.to(b.dtype).expand(len(b.tensor), -1, -1)))


@right(
    lambda s, p: (s[:, None] - p).norm(dim=-1).argmin(1),
    "f2",
    (torch.randn(6, 2, generator=torch.Generator().manual_seed(1)),),
)
def nearest(b, p):
    return L(b, (z(b)[:, :, None] - p.to(b.dtype)).norm(dim=-1).argmin(2))


@right(lambda s: s.cumsum(0))
def csum(b):
    return L(b, z(b).cumsum(1))


@right(lambda s: s.max() if len(s) else torch.tensor(-torch.inf, dtype=s.dtype))
def mx(b):
    return F.pad(neg(b), (0, 1), value=float("-inf")).amax(1)


@right(lambda s: s.topk(min(2, len(s)))[0])
def top2(b):
    t = F.pad(neg(b), (0, 2), value=float("-inf")).topk(2, 1)[0]
    return RaggedBatch(t, sample_sizes=b.sample_sizes.clamp(max=2))


@right(lambda s: F.one_hot(s, 9), "i")
def one_hot(b):
    return L(b, F.one_hot(b.with_padded_set_to(0).tensor, 9))


@right(lambda s: (s[:, None] == torch.arange(9)).to(torch.float32), "i")
def one_hot_cmp(b):
    return L(b, (b.tensor.unsqueeze(-1) == torch.arange(9, device=b.device)).float())


@right(lambda s: F.normalize(s, dim=-1), "f2")
def normalize(b):
    return b.apply(lambda t: F.normalize(t, dim=-1))


@right(lambda s: s / s.square().sum().sqrt().clamp(min=1e-6) if len(s) else s)
def unit_norm(b):
    t = z(b)
    return L(b, t / (t.square().sum(1, keepdim=True) + 0.0).clamp(min=1e-12).sqrt())


@right(lambda s: (s - s.mean()) / (s.var(unbiased=False) + 1e-5).sqrt() if len(s) else s)
def standardise(b):
    n = b.sample_sizes.clamp(min=1).unsqueeze(1)
    t = z(b)
    c = (t - t.sum(1, keepdim=True) / n) * b.mask
    c = torch.where(b.mask, c, 0)
    return L(b, c / ((c * c).sum(1, keepdim=True) / n + 1e-5).sqrt())


@right(lambda s: ((s @ s.mT) / 2**0.5).softmax(-1) @ s, "f2")
def attention(b):
    t = z(b)
    a = (t @ t.mT) / 2**0.5
    a = a.masked_fill(~b.mask[:, None], torch.finfo(a.dtype).min)
    return L(b, a.softmax(-1) @ t)


@right(lambda s: s.relu())
def relu(b):
    return torch.relu(b)


@right(lambda s: s.abs())
def absolute(b):
    return abs(b)


@right(lambda s: s.clamp(-1, 1))
def clamp(b):
    return b.apply(lambda t: t.clamp(-1, 1))


@right(lambda s: s.round())
def rounded(b):
    return b.apply(torch.round)


@right(lambda s: s.sort()[0])
def sorted_(b):
    return L(b, b.with_padded_set_to(float("inf")).tensor.sort(1)[0])


@right(
    lambda s: s.argsort(),
)
def argsort(b):
    return L(b, b.with_padded_set_to(float("inf")).tensor.argsort(dim=1, stable=True))


@right(lambda s: s.argmax() if len(s) else 0)
def argmax(b):
    return F.pad(neg(b), (1, 1), value=float("-inf"))[:, 1:].argmax(1)


@right(lambda s: s.sum(0), "i")
def int_sum(b):
    return b.with_padded_set_to(0).tensor.sum(1)


@right(lambda s: s.max() if len(s) else -1, "i")
def int_max(b):
    return F.pad(b.with_padded_set_to(-1).tensor, (0, 1), value=-1).amax(1)


@right(lambda s: (s == 3).sum(), "i")
def count_label(b):
    return ((b.tensor == 3) & b.mask).sum(1)


@right(lambda s: F.embedding(s, torch.arange(18.0).view(9, 2)), "i")
def embed(b):
    return L(b, torch.arange(18.0, device=b.device).view(9, 2)[b.with_padded_set_to(0).tensor])


@right(lambda s, i: s[i], "li")
def gather(b, i):
    return ragged.batched_indexing_access(b, i)


@right(lambda s, i: s[i], "li")
def gather_by_hand(b, i):
    return L(i, F.pad(z(b), (0, 1)).gather(1, i.with_padded_set_to(0).tensor))


@right(lambda s: s.logsumexp(0))
def lse(b):
    return F.pad(neg(b), (0, 1), value=float("-inf")).logsumexp(1)


@right(lambda s: F.log_softmax(s, 0))
def log_soft(b):
    return ragged.log_softmax_over_targets(b)


@right(lambda s: -(s.softmax(0).clamp(min=1e-8)).log())
def neglog(b):
    return -ragged.softmax_over_targets(b).apply(lambda t: t.clamp(min=1e-8).log())


@right(
    lambda s, w: F.layer_norm(s @ w.to(s.dtype), (3,)),
    "f2",
    (torch.randn(2, 3, generator=torch.Generator().manual_seed(1)),),
)
def linear_norm(b, w):
    return b.apply(lambda t: F.layer_norm(t @ w.to(t.dtype), (3,)))


@right(lambda d: (d["x"] * d["w"]).sum(0), "dict2")
def weighted(d):
    return (z(d["x"]) * z(d["w"])).sum(1)


@right(lambda s: s > 0)
def positive(b):
    return L(b, b.tensor > 0)


@right(lambda s: s.flip(0))
def reverse(b):
    n = b.sample_sizes.unsqueeze(1)
    k = torch.arange(b.max_sample_size, device=b.device)
    return L(b, b.tensor.gather(1, (n - 1 - k).clamp(min=0).expand(len(b.tensor), -1)))


@right(lambda s: s[-1] if len(s) else torch.zeros((), dtype=s.dtype))
def last(b):
    return torch.where(
        b.sample_sizes > 0, F.pad(z(b), (0, 1)).gather(1, (b.sample_sizes - 1).clamp(min=0).unsqueeze(1)).squeeze(1), 0
    )


@right(lambda s: s.diff() if len(s) else s)
def diff(b):
    t = z(b)
    return RaggedBatch(F.pad(t, (0, 1))[:, 1:] - t, sample_sizes=(b.sample_sizes - 1).clamp(min=0))


@right(
    lambda s: s.std(unbiased=False) if len(s) else s.sum(),
)
def std(b):
    n = b.sample_sizes.clamp(min=1).unsqueeze(1)
    t = z(b)
    c = torch.where(b.mask, t - t.sum(1, keepdim=True) / n, 0)
    v = (c * c).sum(1) / n.squeeze(1)
    return torch.where(v == 0, 0, torch.where(v == 0, 1, v).sqrt())


@right(
    lambda s: (
        (s.sigmoid() - 0.5) ** 2 * F.binary_cross_entropy_with_logits(s, torch.ones_like(s), reduction="none")
    ).sum()
)
def focal(b):
    x = z(b)
    loss = (x.sigmoid() - 0.5) ** 2 * F.binary_cross_entropy_with_logits(x, torch.ones_like(x), reduction="none")
    return torch.where(b.mask, loss, 0).sum(1)


@right(lambda s: torch.stack([s.amin(0), s.amax(0)]) if len(s) else s.new_zeros(2, 2), "f2")
def extent(b):
    t = F.pad(b.with_padded_set_to(float("inf")).tensor, (0, 0, 0, 1), value=float("inf")).amin(1)
    u = F.pad(b.with_padded_set_to(float("-inf")).tensor, (0, 0, 0, 1), value=float("-inf")).amax(1)
    e = (b.sample_sizes == 0)[:, None]
    return torch.stack([t.masked_fill(e, 0), u.masked_fill(e, 0)], 1)


@st.composite
def arguments(draw: st.DrawFn, name: str, kind: str) -> tuple[Any, ...]:
    options: dict[str, Any] = {"batch_shape": (3,), "ragged_axis": 0, "data_shape": (2,) if kind == "f2" else ()}
    if kind == "i":
        return (draw(ragged_batches(dtypes=[torch.int64], **options)).apply(torch.abs),)
    if kind == "dict2":
        one, other = draw(batches_sharing_sizes(2, dtypes=[torch.float32], **options))
        return ({"x": one, "w": other},)
    if kind == "li":
        batch = draw(ragged_batches(dtypes=[torch.float32], **options))
        return batch, draw(index_batches(batch))
    return (draw(ragged_batches(**options)),)


@pytest.mark.parametrize("name", RIGHT)
@examples(6)
@given(data=st.data())
def test_right_operations(name: str, data: st.DataObject) -> None:
    op, reference, kind, shared = RIGHT[name]
    given_arguments = data.draw(arguments(name, kind))
    check_op(op, *given_arguments, shared=shared, reference=reference, without=["compilation"])


def test_there_are_enough_of_them() -> None:
    assert len(RIGHT) >= 25
