"""Targets on their way to a device: what is copied, what is checked again, and what the host remembers of them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from matchers import Targets, targets_from_coco
from ragged import combine_data

SIZES = (2, 0, 3)


def made(**options: Any) -> Targets:
    boxes = [torch.rand(size, 4).cumsum(-1) for size in SIZES]
    labels = [torch.arange(size) for size in SIZES]
    flags = {"weights": [torch.rand(size) for size in SIZES], "ignore": [torch.zeros(size).bool() for size in SIZES]}
    return Targets.of((boxes, labels), canvas_size=(64, 48), **flags, **options)


class Copies(TorchDispatchMode):
    """Of each copy to another device, whether the host waits for it; and all operations that are no copies."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[bool] = []
        self.others: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default:
            if result.numel():
                self.waits.append(not kwargs.get("non_blocking", False))
        elif func is not torch.ops.aten.new_empty.default:
            self.others.append(str(func))
        return result


@pytest.mark.parametrize("arguments", [(), (torch.float32,)], ids=["device", "device and dtype"])
@pytest.mark.parametrize("by_position", [True, False])
def test_each_tensor_is_copied_once_and_nothing_waits(arguments: tuple[Any, ...], by_position: bool) -> None:
    fields = {"keypoints": [torch.rand(size, 2) for size in SIZES]}
    targets = made(fields=fields)
    with Copies() as copies:
        if by_position:
            moved = targets.to("meta", *(arguments or (None,)), True)
        else:
            moved = targets.to("meta", *arguments, non_blocking=True)
    assert copies.waits == [False] * 8  # boxes, labels, weights, ignore, keypoints, mask, sizes, canvas
    assert copies.others == []  # nothing is checked again
    assert {leaf.device.type for leaf in pytree.tree_leaves(moved)} == {"meta"}
    assert all(batch.mask is moved.mask and batch.sample_sizes is moved.num_targets for batch in moved.parts.values())
    assert (moved.box_format, moved.normalized, moved.known_sizes) == ("xyxy", False, SIZES)


def test_copies_wait_unless_they_are_asked_not_to() -> None:
    targets = made()
    with Copies() as copies:
        targets.to("meta")
    assert copies.waits == [True] * 7


def test_a_batch_takes_the_flag_by_position() -> None:
    batch = combine_data([torch.rand(2), torch.rand(1)])
    for arguments in (("meta", None, True), ("meta", torch.float64, True), ("meta", torch.float64, True, False)):
        with Copies() as copies:
            batch.to(*arguments)
        assert copies.waits == [False] * 3


def test_numbers_in_another_precision_are_checked_again() -> None:
    boxes = [torch.tensor([[0.0, 0.0, 1e5, 1.0]])]
    targets = Targets.of((boxes, [torch.tensor([0])]))
    assert targets.to(torch.float64).boxes.dtype == torch.float64
    with pytest.raises(ValueError, match=r"box .* of sample 0 is not finite"):
        targets.to(torch.float16)


def test_pinned_parts_share_mask_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    def pin(tensor: Tensor) -> Tensor:
        """As torch does it: with the same strides."""
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    targets = made()
    assert targets.canvas_size is not None and 0 in targets.canvas_size.stride()  # which cannot be written to
    pinned = targets.pin_memory()
    assert pinned.mask is not targets.mask
    assert all(
        batch.mask is pinned.mask and batch.sample_sizes is pinned.num_targets for batch in pinned.parts.values()
    )
    leaves = zip(pytree.tree_leaves(pinned), pytree.tree_leaves(targets), strict=True)
    assert all(torch.equal(own, other) for own, other in leaves)
    expanded = combine_data([torch.rand(2), torch.rand(1)]).unsqueeze_batch_dim(0).broadcast_batch_dims_to_shape((3, 2))
    assert torch.equal(expanded.pin_memory().mask, expanded.mask)


def test_annotations_are_read_on_the_host_and_sent() -> None:
    annotation = {"bbox": [1.0, 2.0, 3.0, 4.0], "category_id": 2, "iscrowd": 0}
    targets = targets_from_coco([[annotation, annotation], []], canvas_size=(64, 64))
    with Copies() as copies:
        moved = targets.to("meta", non_blocking=True)
    assert not any(copies.waits) and copies.others == [] and moved.known_sizes == (2, 0)


# --- what the host remembers -----------------------------------------------------------------------------------------


def test_sizes_that_were_written_to_are_forgotten() -> None:
    moved = made().to("meta")
    assert moved.known_sizes == moved.with_max_num_targets(8).known_sizes == SIZES
    moved.num_targets.copy_(torch.zeros_like(moved.num_targets))
    assert moved.known_sizes is None


def test_sizes_are_not_saved() -> None:
    moved = made().to("meta")
    for other in (copy.copy(moved), copy.deepcopy(moved), pickle.loads(pickle.dumps(moved))):
        assert other.known_sizes is None and other.num_targets.shape == moved.num_targets.shape
    assert pickle.loads(pickle.dumps(made())).known_sizes == SIZES


def test_sizes_without_a_version_are_not_remembered() -> None:
    with torch.inference_mode():
        assert made().to("meta").known_sizes is None
