"""Functions of tensors take ragged batches: what they give, what they refuse, and that none is forgotten."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from registry import TABLES
from registry.entries import Operation
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import losses
import matchers
from ragged import RaggedBatch
from ragged.interop.operands import takes_batches, takes_batches_of_pairs
from ragged.testing.arguments import is_batch

SIZES = torch.tensor([3, 0, 1])
# Public functions that compute no entry alone, nor pairs.
OTHERS = {
    "losses": {
        "detached": "takes terms",
        "flatten_levels": "takes maps",
        "hard_negative_mining": "compares the predictions of a sample",
        "image_size_of": "takes maps",
        "total": "takes terms",
        "query_criterion": "makes a criterion",
        "weighting_function": "makes numbers of numbers",
    },
    "matchers": {
        "anchors": "makes numbers of sizes",
        "batched_cost": "makes a cost",
        "batched_linear_sum_assignment": "gives an index of each prediction; a ragged cost says how many targets there are",
        "denoising_assignment": "makes an assignment",
        "denoising_attention_mask": "makes a mask of numbers",
        "denoising_indices": "makes an assignment",
        "detr_costs": "makes costs",
        "feature_sizes": "makes numbers of sizes",
        "grid_points": "makes numbers of sizes",
        "keypoint_costs": "makes costs",
        "level_sizes": "makes numbers of sizes",
        "match_by_key": "makes an assignment",
        "Min": "makes a matcher",
        "module_costs": "makes costs",
        "one_to_one_assignment": "makes an assignment; a ragged cost says how many targets there are",
        "plot_cost": "draws",
        "plot_match": "draws",
        "sample_assignment": "makes an assignment of another",
        "ssd_default_boxes": "makes numbers of sizes",
        "union_of_matches": "joins assignments",
    },
}
CODERS = [
    getattr(losses, name)
    for name in losses.__all__
    if inspect.isclass(getattr(losses, name)) and name.endswith("Coder") and name != "BoxCoder"
]


def functions_of(package: str) -> dict[str, Callable[..., Any]]:
    """The public functions but readers of targets, which make ragged batches."""
    module = importlib.import_module(package)
    found = {name: getattr(module, name) for name in module.__all__}
    return {name: each for name, each in found.items() if inspect.isfunction(each) and "targets" not in name.split("_")}


def batch(*shape: int, seed: int = 0, filler: float = math.nan) -> RaggedBatch:
    generator = torch.Generator().manual_seed(seed)
    made = RaggedBatch(torch.rand(3, 4, *shape, generator=generator), sample_sizes=SIZES)
    return made.with_padded_set_to(filler)


def boxes(seed: int = 0) -> RaggedBatch:
    corners = batch(4, seed=seed).tensor
    return RaggedBatch(torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:]], -1), sample_sizes=SIZES)


@pytest.mark.parametrize("package", ["losses", "matchers"])
def test_every_public_function_takes_batches_or_says_why_not(package: str) -> None:
    found = functions_of(package)
    refusing = {name for name, each in found.items() if not hasattr(each, "takes_batches")}
    assert refusing == OTHERS[package].keys()
    for name, each in found.items():
        taken = getattr(each, "takes_batches", {})
        assert taken.keys() <= set(inspect.signature(each).parameters), name


@pytest.mark.parametrize("coder", CODERS)
def test_every_coder_takes_batches(coder: type) -> None:
    for method in (coder.encode, coder.decode):  # type: ignore[attr-defined]
        assert method.takes_batches.keys() <= set(inspect.signature(method).parameters), coder


@pytest.mark.parametrize("package", ["losses", "matchers"])
def test_every_function_that_takes_batches_is_called_with_them_in_the_registry(package: str) -> None:
    """There all properties are checked: values of samples alone, gradients, NaN in filler, samples without entries."""
    for name, function in functions_of(package).items():
        if not hasattr(function, "takes_batches"):
            continue
        entry = TABLES[package][name]
        assert isinstance(entry, Operation), name
        leaves = pytree.tree_leaves(entry.arguments(), is_leaf=is_batch)
        assert any(map(is_batch, leaves)), name


CLASS_MODULES = [
    losses.BinaryCrossEntropy,
    losses.FocalLoss,
    losses.MatchabilityAwareLoss,
    losses.NegativeProbLoss,
    losses.QualityFocalLoss,
    losses.SigmoidFocalCost,
    losses.SigmoidFocalLoss,
    losses.VarifocalLoss,
]
BOX_MODULES = [losses.IoULoss, losses.GIoULoss, losses.DIoULoss, losses.CIoULoss, losses.L1Loss]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("module", [*CLASS_MODULES, *BOX_MODULES])
def test_modules_reduce_over_entries(module: Any, reduction: str) -> None:
    loss = module(reduction=reduction, loss_weight=2.0)
    first, second = boxes(), boxes(1)
    if module in CLASS_MODULES:
        second = RaggedBatch(torch.randint(4, (3, 4)), sample_sizes=SIZES).with_padded_set_to(-77)
    first.tensor.requires_grad_()
    found = loss(first, second)
    expected = loss(torch.cat(first.split()), torch.cat(second.split()))
    values = torch.cat(found.split()) if reduction == "none" else found
    torch.testing.assert_close(values, expected)
    (gradient,) = torch.autograd.grad(values.sum(), first.tensor)
    assert gradient.isfinite().all() and not gradient[~first.mask].any()


def test_the_mean_of_no_entry_is_that_of_torch() -> None:
    nothing = RaggedBatch(torch.rand(2, 3, 4), sample_sizes=[0, 0])
    assert losses.L1Loss(reduction="mean")(nothing, nothing).isnan()
    assert losses.L1Loss(reduction="sum")(nothing, nothing) == 0


def test_several_losses_take_batches() -> None:
    loss = losses.MultipleObjectiveLoss([nn.L1Loss(reduction="none"), losses.GIoULoss()], [5.0, 2.0])
    found = loss(boxes().to(torch.bfloat16), boxes(1).to(torch.bfloat16))
    assert found.dtype == torch.float32 and found.shape == (3, 4)


def test_a_tensor_broadcasts_to_the_padded_layout() -> None:
    found = losses.giou_loss(boxes(), torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True))
    assert isinstance(found, RaggedBatch) and found.shape == (3, 4)
    (expected,) = losses.giou_loss(boxes().split()[2], torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    torch.testing.assert_close(found.split()[2][0], expected)


def test_filler_reaches_no_shared_tensor() -> None:
    anchor = torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True)
    found = losses.ciou_loss(boxes(), anchor)
    found.with_padded_set_to(0).tensor.sum().backward()
    assert anchor.grad is not None and anchor.grad.isfinite().all()


def test_dimensions_before_the_ragged_one_and_after_it() -> None:
    generator = torch.Generator().manual_seed(0)
    data = RaggedBatch(torch.rand(3, 2, 4, 5, 4, generator=generator), sample_sizes=SIZES, non_uniform_dim=2)
    found = matchers.convert(data, "cxcywh", "xyxy")
    assert found.non_uniform_dim == 2
    assert matchers.area(found).shape == (3, 2, 4, 5)


def test_pairs_of_ragged_rows_and_columns() -> None:
    rows = boxes()
    columns = RaggedBatch(boxes(1).tensor.nan_to_num(0.5), sample_sizes=torch.tensor([2, 4, 0])).with_padded_set_to(
        math.inf
    )
    found = matchers.pairwise(matchers.giou, rows, columns)
    assert found.non_uniform_dim == 1 and found.sample_sizes is rows.sample_sizes
    first, second = rows.split(), columns.split()
    for sample in range(3):
        size, width = len(first[sample]), len(second[sample])
        expected = matchers.pairwise(matchers.giou, first[sample], second[sample])
        torch.testing.assert_close(found.split()[sample][:, :width], expected)
        assert not found.split()[sample][:, width:].any()
        assert found.split()[sample].shape == (size, 4)


def test_pairs_of_ragged_columns_alone() -> None:
    found = matchers.pairwise(matchers.iou, boxes(1).tensor.nan_to_num(0.5), boxes())
    assert found.non_uniform_dim == 2 and found.shape == (3, 4, 4)
    assert [sample.shape for sample in found.split()] == [(4, 3), (4, 0), (4, 1)]


def test_layers_that_only_predictions_have() -> None:
    found = matchers.l1_cost(boxes(), torch.rand(2, 3, 6, 4))
    assert found.batch_shape == (2, 3) and found.sample_sizes.tolist() == [[3, 0, 1], [3, 0, 1]]


def test_ragged_costs_go_into_the_solver() -> None:
    given = torch.rand(3, 6, 4)
    cost = matchers.l1_cost(boxes(), given) + matchers.giou_cost(boxes(), given)
    index = matchers.batched_linear_sum_assignment(cost)
    expected = matchers.batched_linear_sum_assignment(cost.with_padded_set_to(0).tensor, SIZES)
    assert torch.equal(index, expected)
    wrong = cost.create_with_sample_sizes_like_self(cost.tensor.mT, 2)
    with pytest.raises(ValueError, match=r"a ragged cost must have shape \(\*batch, G, P\), ragged along G"):
        matchers.batched_linear_sum_assignment(wrong)


def test_coders_decode_what_they_encode() -> None:
    coder, prior = losses.DeltaXYWHCoder(), torch.tensor([0.0, 0.0, 1.0, 1.0])
    there = coder.encode(prior, boxes())
    back = coder.decode(prior, there, canvas_size=(9.0, 9.0))
    torch.testing.assert_close(back.split()[0], boxes().split()[0])
    bins = losses.bbox2distance(boxes(), boxes(1), reg_max=8, reg_scale=4.0, up=0.5)
    assert all(isinstance(each, RaggedBatch) for each in bins) and bins.left.dtype == torch.int64


def test_keywords_and_none() -> None:
    labels = RaggedBatch(torch.zeros(3, 4, dtype=torch.int64), sample_sizes=SIZES)
    one = losses.quality_focal_loss(logits=boxes(), targets=labels, scores=None)
    other = losses.quality_focal_loss(boxes(), labels)
    assert torch.equal(one.with_padded_set_to(0).tensor, other.with_padded_set_to(0).tensor)
    with pytest.raises(TypeError, match="multiple values"):
        losses.l1_loss(boxes(), boxes(), pred=boxes())
    with pytest.raises(TypeError, match="positional"):
        losses.l1_loss(boxes(), boxes(), boxes())


OTHER_SIZES = RaggedBatch(torch.rand(3, 4, 4), sample_sizes=[3, 1, 1])
WIDER = boxes().with_max_sample_size(6)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: losses.l1_loss(boxes(), OTHER_SIZES), ValueError, "l1_loss: pred and target: sample sizes differ, 0 and 1 for sample 1"),
        (lambda: losses.giou_loss(boxes(), WIDER), ValueError, "giou_loss: pred and target are padded to 4 and 6 entries; use with_max_sample_size"),
        (lambda: losses.l1_loss(boxes(), batch()), ValueError, r"l1_loss: pred and target must have the same number of dimensions .* got shapes \(3, 4, 4\) and \(3, 4\)"),
        (lambda: losses.l1_loss(boxes(), torch.rand(3, 5, 4)), ValueError, r"l1_loss, target.*\(3, 5, 4\) does not broadcast to the batch of shape \(3, 4, 4\)"),
        (lambda: losses.l1_loss(boxes(), torch.rand(2, 3, 4, 4)), ValueError, "has more dimensions than the batch"),
        (lambda: losses.iou_loss(boxes(), boxes(), eps=batch()), TypeError, "iou_loss: eps cannot be a RaggedBatch; pred and target can"),
        (lambda: matchers.area(RaggedBatch(torch.rand(3, 4), sample_sizes=SIZES)), ValueError, r"area: boxes must be ragged along a dimension before its last 1, got shape \(3, 4\)"),
        (lambda: losses.sigmoid_focal_loss(boxes(), OTHER_SIZES), ValueError, "sigmoid_focal_loss: logits and targets: sample sizes differ"),
        (lambda: matchers.l1_cost(boxes(), WIDER.create_with_sample_sizes_like_self(torch.rand(3, 4, 6, 4), 2)), ValueError, r"l1_cost: boxes must be ragged along the first dimension after the batch, dimension 2"),
        (lambda: matchers.alignment_metric(torch.rand(3, 5, 2), RaggedBatch(torch.zeros(3, 4).long(), sample_sizes=SIZES), RaggedBatch(torch.rand(3, 4, 5), sample_sizes=[1, 0, 1])), ValueError, "alignment_metric: labels and overlap: sample sizes differ, 3 and 1 for sample 0"),
        (lambda: losses.DeltaXYWHCoder().encode(boxes(), OTHER_SIZES), ValueError, "DeltaXYWHCoder.encode: priors and boxes: sample sizes differ"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call: Callable[[], Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()


def test_a_result_of_another_layout_is_refused() -> None:
    @takes_batches(values=0)
    def summed(values: Tensor) -> Tensor:
        return values.sum(1)

    with pytest.raises(ValueError, match="summed: the result must keep batch shape and ragged dimension"):
        summed(batch())


def test_nothing_happens_to_tensors() -> None:
    """The very tensors arrive, and what comes back goes on as it is."""
    seen: list[Any] = []

    @takes_batches(first=0, second=0)
    def keep(first: Tensor, second: Tensor) -> Tensor:
        seen.extend((first, second))
        return first

    @takes_batches_of_pairs(rows={"first": 0}, columns={"second": 0})
    def keep_pairs(first: Tensor, second: Tensor) -> Tensor:
        seen.extend((first, second))
        return first

    one, other = torch.ones(2), torch.ones(3)
    assert keep(one, second=other) is one and keep_pairs(one, other) is one
    assert all(a is b for a, b in zip(seen, [one, other, one, other], strict=True))
    assert keep.__name__ == "keep" and list(inspect.signature(keep).parameters) == ["first", "second"]
