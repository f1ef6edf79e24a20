"""RaggedBatch: a padded tensor that knows how many entries of each sample are real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ragged.batch import advice, conversion, dims, display, elementwise, notebook, per_entry
from ragged.batch.core import BatchCore
from ragged.batch.layout import check_same_layout
from ragged.values.checks import check_count, check_dim, check_flag, check_is_tensor, checked_sizes
from ragged.values.filler import fill


@dataclass(frozen=True, eq=False, init=False, repr=False)
class RaggedBatch(BatchCore, conversion.DtypeShorthands, advice.Advice):
    """A batch whose samples differ in size along one dimension.

    The samples are padded to one size: valid entries first, filler after them. ``sample_sizes`` counts the valid
    entries, and determines the mask. Filler can hold any value: no function of this package lets it change a
    result or receive a gradient.

    Elementwise torch functions and Python arithmetic work on the batch and keep its sizes. So do functions along data
    dimensions: reductions, ``torch.cat`` and ``torch.stack`` along them, slices ``batch[..., :2]``, and layers
    (``linear``, ``layer_norm``, ``rms_norm``, ``embedding``, ``one_hot``, ``dropout``, and modules that call them).
    Functions that would mix filler into a result raise a ``TypeError`` that names the function to use instead.

    Args:
        tensor: Padded data of shape ``(*batch, …, max_size, …)``, with any number of batch dimensions.
        mask: Boolean tensor of shape ``(*batch, max_size)``, true for valid entries, which must come first.
        sample_sizes: Number of valid entries of each sample, an integer tensor (or nested list) of shape ``(*batch,)``.
            At least one of ``mask`` and ``sample_sizes`` is needed; given both, they must agree.
        non_uniform_dim: The ragged dimension of ``tensor``; by default the first one after the batch dimensions.

    Attributes:
        tensor: The padded data.
        mask: ``(*batch, max_size)``, bool.
        sample_sizes: ``(*batch,)``, int64.
        ragged_axis: Position of the ragged dimension among the dimensions that follow the batch dimensions.

    Raises:
        ValueError: Neither mask nor sizes are given, they disagree, a size is out of range, the mask has a valid entry
            after filler, or shapes or devices differ; the message names the sample.
        TypeError: Sizes are not integers, or the mask is not boolean.
        IndexError: ``non_uniform_dim`` is not a dimension after the batch dimensions.

    >>> boxes = RaggedBatch(torch.arange(12.0).view(2, 3, 2), sample_sizes=torch.tensor([3, 1]))
    >>> boxes.mask
    tensor([[ True,  True,  True],
            [ True, False, False]])
    >>> [sample.shape[0] for sample in (boxes * 2).split()]
    [3, 1]
    """

    # --- other ways to build one ---------------------------------------------------------------------------------

    @classmethod
    def from_full_tensor(
        cls, tensor: Tensor, *, num_batch_dims: int = 1, non_uniform_dim: int | None = None
    ) -> RaggedBatch:
        """Wrap samples that all have the same size: every entry is valid.

        >>> RaggedBatch.from_full_tensor(torch.zeros(2, 3, 4)).sample_sizes
        tensor([3, 3])
        """
        check_is_tensor(tensor, "tensor")
        check_count(num_batch_dims, "num_batch_dims")
        dim = num_batch_dims if non_uniform_dim is None else non_uniform_dim
        dim = check_dim(dim, tensor.dim(), lowest=num_batch_dims, name="non_uniform_dim")
        batch_shape, max_size = tensor.shape[:num_batch_dims], tensor.shape[dim]
        sizes = torch.full(batch_shape, max_size, dtype=torch.int64, device=tensor.device)
        mask = torch.ones((*batch_shape, max_size), dtype=torch.bool, device=tensor.device)
        return cls._unchecked(tensor, mask, sizes, dim - num_batch_dims)

    @classmethod
    def from_oversize_tensor(
        cls,
        tensor: Tensor,
        mask: Tensor | None = None,
        sample_sizes: Tensor | Sequence[Any] | None = None,
        non_uniform_dim: int | None = None,
        *,
        max_size: int | None = None,
    ) -> RaggedBatch:
        """Wrap a tensor that has more padding than needed, and cut it to the largest sample.

        Args:
            tensor, mask, sample_sizes, non_uniform_dim: As in the constructor.
            max_size: The size to cut to. Without it the largest size is read, which synchronises on an accelerator.

        >>> RaggedBatch.from_oversize_tensor(torch.zeros(2, 100, 4), sample_sizes=[3, 1]).shape
        torch.Size([2, 3, 4])
        """
        batch = cls(tensor, mask, sample_sizes, non_uniform_dim)
        return batch.with_max_sample_size(batch.largest_sample_size() if max_size is None else max_size)

    @classmethod
    def empty(
        cls,
        batch_shape: int | Sequence[int],
        data_shape: Sequence[int] = (),
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> RaggedBatch:
        """A batch in which every sample has no entry: a tensor of shape ``(*batch_shape, 0, *data_shape)``.

        >>> RaggedBatch.empty(2, (4,)).shape
        torch.Size([2, 0, 4])
        """
        batch_shape = checked_sizes(batch_shape, "batch_shape")
        data_shape = checked_sizes(data_shape, "data_shape")
        tensor = torch.empty((*batch_shape, 0, *data_shape), dtype=dtype, device=device)
        return cls.from_full_tensor(tensor, num_batch_dims=len(batch_shape))

    def get_existence_weights(self, dtype: torch.dtype = torch.float32, *, in_data_shape: bool = False) -> RaggedBatch:
        """The mask as weights: 1 for valid entries, 0 for filler.

        Args:
            dtype: Dtype of the weights.
            in_data_shape: True: weights in the shape of ``tensor``. False: ``(*batch, max_size)``.

        >>> RaggedBatch(torch.zeros(2, 3, 4), sample_sizes=[3, 1]).get_existence_weights().tensor
        tensor([[1., 1., 1.],
                [1., 0., 0.]])
        """
        check_flag(in_data_shape, "in_data_shape")
        if in_data_shape:
            return self._with(self.aligned_mask.expand(self.shape).to(dtype, copy=True))
        return self._unchecked(self.mask.to(dtype), self.mask, self.sample_sizes, 0)

    # --- other data, same samples ----------------------------------------------------------------------------------

    apply = per_entry.apply

    def set_tensor(self, tensor: Tensor) -> None:
        """Replace the data of this object. The new tensor must have the same batch shape and ragged dimension.

        Batches that share its mask and sizes do not change. Direct assignment to a field must keep the shape and kind
        of dtype of the data, and the values of mask and sizes: conversions to another dtype or device do.

        Raises:
            ValueError: ``tensor`` has another batch shape, size along the ragged dimension, or device.
        """
        checked = self.create_with_sample_sizes_like_self(tensor)
        object.__setattr__(self, "tensor", checked.tensor)

    def set_padded_to(self, value: complex | bool) -> None:
        """Set the filler of this object to ``value``; does not write to the previous tensor."""
        self.set_tensor(self.with_padded_set_to(value).tensor)

    def with_padded_set_to(self, value: complex | bool) -> RaggedBatch:
        """The same batch with filler ``value``; the old filler gets no gradient.

        >>> RaggedBatch(torch.ones(2, 2), sample_sizes=[2, 1]).with_padded_set_to(0).tensor
        tensor([[1., 1.],
                [1., 0.]])
        """
        return self._with(fill(self.tensor, ~self.aligned_mask, value))

    def with_max_sample_size(self, max_size: int) -> RaggedBatch:
        """The same samples with another amount of padding: cut or extended with zeros to ``max_size``.

        Raises:
            ValueError: A sample is larger than ``max_size``.
        """
        return dims.resize(self, max_size)

    def get_non_uniform_dimension_transposed_to(self, dim: int) -> RaggedBatch:
        """Exchange the ragged dimension with dimension ``dim``, which must not be a batch dimension.

        Raises:
            IndexError: ``dim`` is a batch dimension or out of range.
        """
        dim = check_dim(dim, self.dim(), lowest=self.num_batch_dims)
        tensor = self.tensor.transpose(self.non_uniform_dim, dim)
        return self._unchecked(tensor, self.mask, self.sample_sizes, dim - self.num_batch_dims)

    def unsqueeze_data_dim(self, dim: int) -> RaggedBatch:
        """Insert a dimension of size 1 at ``dim``, after the batch dimensions; the ragged dimension moves along.

        Raises:
            IndexError: ``dim`` is a batch dimension or out of range.
        """
        dim = check_dim(dim, self.dim() + 1, lowest=self.num_batch_dims)
        axis = self.ragged_axis + (dim <= self.non_uniform_dim)
        return self._unchecked(self.tensor.unsqueeze(dim), self.mask, self.sample_sizes, axis)

    split = dims.split
    repeat_samples = dims.repeat_samples
    unsqueeze_batch_dim = dims.unsqueeze_batch_dim
    squeeze_batch_dim = dims.squeeze_batch_dim
    reshape_batch_dims = dims.reshape_batch_dims
    flatten_batch_dims = dims.flatten_batch_dims
    broadcast_batch_dims_to_shape = dims.broadcast_batch_dims_to_shape
    broadcast_batch_dims = staticmethod(dims.broadcast_batch_dims)

    # --- dtype, device, gradient -----------------------------------------------------------------------------------

    to_device = conversion.to_device
    to_dtype = conversion.to_dtype
    cpu = conversion.cpu
    cuda = conversion.cuda
    pin_memory = conversion.pin_memory
    detach = conversion.detach
    clone = conversion.clone
    retain_grad = conversion.retain_grad

    # --- Python's own protocols ------------------------------------------------------------------------------------

    __getitem__ = dims.item_at

    def __setitem__(self, item: Any, value: Any) -> None:
        """``tensor[item] = value``; writes into the shared data.

        You can assign a RaggedBatch if ``batch[item]`` has the same samples: ``batch[...] = other``, or
        ``batch[..., :2] = other`` along data dimensions.
        """
        if isinstance(value, RaggedBatch):
            into = self[item]
            if not isinstance(into, RaggedBatch):
                raise TypeError(
                    "a RaggedBatch can only be assigned to whole samples of the same sizes (batch[...] = other, "
                    "batch[..., :2] = other), got an index into samples; use ragged.batched_indexing_write, or assign "
                    "its .tensor"
                )
            check_same_layout(into, value, what="batch[...] = other")
            value = value.tensor
        self.tensor[item] = value

    def __bool__(self) -> bool:
        raise TypeError(
            "the truth value of a RaggedBatch is ambiguous; use any_over_targets, all_over_targets or equal"
        )

    # Without this, ``for x in batch`` would walk over padded rows through __getitem__; samples come from split().
    __iter__: ClassVar[None] = None

    __repr__ = display.represent
    _repr_html_ = notebook.as_html
    __hash__ = object.__hash__
    # numpy's operators would otherwise build object arrays instead of leaving the operation to this class.
    __array_ufunc__: ClassVar[None] = None
    __torch_function__: ClassVar[Callable[..., Any]] = classmethod(elementwise.torch_function)  # type: ignore[assignment]

    equal = elementwise.equal
    allclose = elementwise.allclose

    __add__, __radd__ = elementwise.operators(torch.add)
    __sub__, __rsub__ = elementwise.operators(torch.sub)
    __mul__, __rmul__ = elementwise.operators(torch.mul)
    __truediv__, __rtruediv__ = elementwise.operators(torch.true_divide)
    __floordiv__, __rfloordiv__ = elementwise.operators(torch.floor_divide)
    __mod__, __rmod__ = elementwise.operators(torch.remainder)
    __pow__, __rpow__ = elementwise.operators(torch.pow)
    __ipow__ = __pow__  # a compiled graph does not fall back to ``**`` by itself
    __and__, __rand__ = elementwise.operators(torch.bitwise_and)
    __or__, __ror__ = elementwise.operators(torch.bitwise_or)
    __xor__, __rxor__ = elementwise.operators(torch.bitwise_xor)
    __lt__, __gt__ = elementwise.operators(torch.lt)[0], elementwise.operators(torch.gt)[0]
    __le__, __ge__ = elementwise.operators(torch.le)[0], elementwise.operators(torch.ge)[0]
    __eq__, __ne__ = elementwise.operators(torch.eq)[0], elementwise.operators(torch.ne)[0]
    __neg__ = elementwise.unary_operator(torch.neg)
    __pos__ = elementwise.unary_operator(torch.positive)
    __abs__ = elementwise.unary_operator(torch.abs)
    __invert__ = elementwise.unary_operator(torch.bitwise_not)


def check_is_batch(value: Any, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a RaggedBatch."""
    if not isinstance(value, RaggedBatch):
        advice = "; wrap it with RaggedBatch(…) or RaggedBatch.from_full_tensor" if isinstance(value, Tensor) else ""
        raise TypeError(f"{name} must be a RaggedBatch, got {type(value).__name__}{advice}")


def check_is_data(value: Any, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a RaggedBatch or a tensor."""
    if not isinstance(value, (RaggedBatch, Tensor)):
        raise TypeError(f"{name} must be a RaggedBatch or a tensor, got {type(value).__name__}")
    if isinstance(value, Tensor):
        check_is_tensor(value, name)
