"""The fields and properties of a RaggedBatch, on which its methods are built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ragged.values.checks import check_dim, check_flag, check_is_tensor, check_same_device
from ragged.values.sizes import check_matching_sizes, largest_size, sizes_from_mask, validated_sizes

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False, init=False, repr=False)
class BatchCore:
    """Tensor, mask, sizes and ragged dimension of a ``RaggedBatch``, which says what they are."""

    tensor: Tensor
    mask: Tensor
    sample_sizes: Tensor
    ragged_axis: int

    def __init__(
        self,
        tensor: Tensor,
        mask: Tensor | None = None,
        sample_sizes: Tensor | Sequence[Any] | None = None,
        non_uniform_dim: int | None = None,
    ) -> None:
        check_is_tensor(tensor, "tensor")
        if sample_sizes is not None:
            sizes = validated_sizes(sample_sizes, tensor.device)
        elif mask is not None:
            sizes = sizes_from_mask(mask)
        else:
            raise ValueError(
                "RaggedBatch needs mask or sample_sizes, got neither; for equal sizes use from_full_tensor"
            )
        check_same_device(sizes.device, tensor.device, name="mask or sample_sizes", reference="tensor")
        num_batch_dims = sizes.dim()
        dim = num_batch_dims if non_uniform_dim is None else non_uniform_dim
        dim = check_dim(dim, tensor.dim(), lowest=num_batch_dims, name="non_uniform_dim")
        if tensor.shape[:num_batch_dims] != sizes.shape:
            raise ValueError(
                f"tensor of shape {tuple(tensor.shape)} must begin with the batch shape {tuple(sizes.shape)} "
                "of mask or sample_sizes"
            )
        made_mask = check_matching_sizes(sizes, mask, tensor.shape[dim])
        self._set(tensor, made_mask, sizes, dim - num_batch_dims)

    def _set(self, tensor: Tensor, mask: Tensor, sample_sizes: Tensor, ragged_axis: int) -> None:
        object.__setattr__(self, "tensor", tensor)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "sample_sizes", sample_sizes)
        object.__setattr__(self, "ragged_axis", ragged_axis)

    @classmethod
    def _unchecked(cls, tensor: Tensor, mask: Tensor, sample_sizes: Tensor, ragged_axis: int) -> Self:
        """Build from parts that are known to fit: no check, no new mask."""
        batch = cls.__new__(cls)
        batch._set(tensor, mask, sample_sizes, ragged_axis)
        return batch

    def _with(self, tensor: Tensor) -> Self:
        return self._unchecked(tensor, self.mask, self.sample_sizes, self.ragged_axis)

    # --- what it is ------------------------------------------------------------------------------------------------

    @property
    def num_batch_dims(self) -> int:
        """Number of batch dimensions."""
        return self.sample_sizes.dim()

    @property
    def non_uniform_dim(self) -> int:
        """The ragged dimension of ``tensor``."""
        return self.sample_sizes.dim() + self.ragged_axis

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch dimensions."""
        return self.sample_sizes.shape

    @property
    def max_sample_size(self) -> int:
        """Size of the ragged dimension of ``tensor``: no sample is larger."""
        return self.mask.shape[-1]

    @property
    def total_num_entries(self) -> int:
        """Number of valid entries in the whole batch; reading it synchronises on an accelerator."""
        return int(self.sample_sizes.sum())

    @property
    def total_num_samples_in_batch(self) -> int:
        """Number of samples: the product of the batch shape."""
        return math.prod(self.batch_shape)

    @property
    def shape(self) -> torch.Size:
        """Shape of ``tensor``, padding included."""
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of ``tensor``."""
        return self.tensor.dtype

    @property
    def device(self) -> torch.device:
        """Device of ``tensor``, mask and sizes."""
        return self.tensor.device

    @property
    def requires_grad(self) -> bool:
        """Whether ``tensor`` requires a gradient; can be set, as that of a tensor."""
        return self.tensor.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def retains_grad(self) -> bool:
        """Whether ``tensor`` keeps its gradient although it is not a leaf."""
        return self.tensor.retains_grad

    @property
    def aligned_mask(self) -> Tensor:
        """The mask as a view that broadcasts against ``tensor``."""
        after = self.tensor.dim() - self.mask.dim() - self.ragged_axis
        if not after and not self.ragged_axis:
            return self.mask
        return self.mask.view(*self.batch_shape, *(1,) * self.ragged_axis, self.max_sample_size, *(1,) * after)

    def size(self, dim: int | None = None) -> torch.Size | int:
        """Shape of ``tensor``, or its size in one dimension."""
        return self.tensor.shape if dim is None else self.tensor.shape[check_dim(dim, self.dim())]

    def dim(self) -> int:
        """Number of dimensions of ``tensor``."""
        return self.tensor.dim()

    def largest_sample_size(self) -> int:
        """Size of the largest sample (0 without samples). Read on the host: synchronises on an accelerator."""
        return largest_size(self.sample_sizes)

    # --- other data, same samples ----------------------------------------------------------------------------------

    def create_with_sample_sizes_like_self(
        self, tensor: Tensor, non_uniform_dim: int | None = None, device: torch.device | str | int | None = None
    ) -> Self:
        """Wrap other data of the same objects; mask and sizes are shared, not copied.

        Args:
            tensor: Padded data with the batch shape of this batch, its ``max_sample_size`` along the ragged dimension.
            non_uniform_dim: The ragged dimension of ``tensor``; by default that of this batch.
            device: Where to move the result; by default ``tensor`` must be, and stays, on the device of this batch.

        Raises:
            ValueError: ``tensor`` has another batch shape, ``max_sample_size`` or device.
            IndexError: ``non_uniform_dim`` is not a dimension after the batch dimensions.

        >>> boxes = RaggedBatch(torch.zeros(2, 3, 4), sample_sizes=[3, 1])
        >>> cost = boxes.create_with_sample_sizes_like_self(torch.zeros(2, 100, 3), non_uniform_dim=2)
        >>> [sample.shape for sample in cost.split()]
        [torch.Size([100, 3]), torch.Size([100, 1])]
        """
        check_is_tensor(tensor, "tensor")
        nb = self.num_batch_dims
        dim = self.non_uniform_dim if non_uniform_dim is None else non_uniform_dim
        if tensor.dim() > nb:
            dim = check_dim(dim, tensor.dim(), lowest=nb, name="non_uniform_dim")
        if tensor.dim() <= nb or tensor.shape[:nb] != self.batch_shape or tensor.shape[dim] != self.max_sample_size:
            raise ValueError(
                f"tensor must have batch shape {tuple(self.batch_shape)} and size {self.max_sample_size} in dimension "
                f"{dim}, got shape {tuple(tensor.shape)}"
            )
        if device is None:
            check_same_device(tensor.device, self.device, name="tensor", reference="this batch")
        result = self._unchecked(tensor, self.mask, self.sample_sizes, dim - nb)
        return result if device is None else result.to(device=torch.device(device))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """``torch.Tensor.to`` for the data; mask and sizes follow to its device and keep their dtype."""
        tensor = self.tensor.to(*args, **kwargs)
        if tensor.device == self.mask.device:
            return self._with(tensor)
        non_blocking = asks_not_to_wait(*args, **kwargs)
        mask = self.mask.to(tensor.device, non_blocking=non_blocking)
        sample_sizes = self.sample_sizes.to(tensor.device, non_blocking=non_blocking)
        return self._unchecked(tensor, mask, sample_sizes, self.ragged_axis)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set in place whether ``tensor`` requires a gradient; returns the batch itself."""
        check_flag(requires_grad, "requires_grad")
        if requires_grad and not (self.tensor.is_floating_point() or self.tensor.is_complex()):
            raise TypeError(f"only floating point data can require a gradient, got {self.dtype}")
        self.tensor.requires_grad_(bool(requires_grad))
        return self


def asks_not_to_wait(*args: Any, **kwargs: Any) -> bool:
    """Whether arguments of ``torch.Tensor.to`` say ``non_blocking``, which is the first flag that has no name."""
    return bool(kwargs.get("non_blocking", next((each for each in args if isinstance(each, bool)), False)))


AnyBatch = TypeVar("AnyBatch", bound=BatchCore)
