"""How much matchers by cost keep where costs of all pairs are one tensor, as on an accelerator, whatever their budget."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import matchers
from matchers import Predictions, Targets
from ragged import RaggedBatch

pytestmark = pytest.mark.hunts

IMAGES, PREDICTIONS, TARGETS = 4, 2000, 400
# Times the bytes of the costs, at the peak of a call.
KEPT = {
    "Hungarian": 2.5,
    "ClosestTarget": 3.0,
    "ClosestPrediction": 4.0,
    "SoftMin": 4.5,
    "BalancedSinkhorn": 6.1,
    "UnbalancedSinkhorn": 6.1,
}


class Peak(TorchDispatchMode):
    """The most bytes of storages that tensors made here have had at once."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: Counter[int] = Counter()
        self.sizes: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                self.tensors[key] += 1
                self.sizes[key] = storage.nbytes()
                weakref.finalize(tensor, self._forget, key)
        self.most = max(self.most, sum(self.sizes.values()))
        return result

    def _forget(self, key: int) -> None:
        self.tensors[key] -= 1
        if not self.tensors[key]:
            del self.tensors[key], self.sizes[key]


@pytest.mark.parametrize("name", KEPT)
def test_costs_and_a_few_copies_are_kept(name: str) -> None:
    sizes = torch.empty(IMAGES, dtype=torch.int64, device="meta")
    boxes, labels = torch.empty(IMAGES, TARGETS, 4), torch.empty(IMAGES, TARGETS, dtype=torch.int64)
    targets = Targets(
        *(RaggedBatch(each.to("meta"), sample_sizes=sizes) for each in (boxes, labels)), canvas_size=(64, 64)
    )
    shape = (IMAGES, PREDICTIONS)
    predictions = Predictions(torch.empty(*shape, 8, device="meta"), torch.empty(*shape, 4, device="meta"))
    matcher = getattr(matchers, name)(max_pairwise_bytes=1 << 20)
    with Peak() as peak:
        matcher(predictions, targets)
    assert peak.most <= KEPT[name] * 4 * IMAGES * PREDICTIONS * TARGETS


def test_peak() -> None:
    with Peak() as peak:
        kept = torch.zeros(100)
        for _ in range(3):
            (torch.zeros(50) + 1).view(5, 10).add_(1)
        kept.view(10, 10)
    assert peak.most == 4 * (100 + 50 + 50)
