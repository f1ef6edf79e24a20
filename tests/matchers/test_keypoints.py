"""OKS and the costs of keypoints: COCO's own evaluation, what is not visible, extremes, and matchers that use them."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from reference import keypoints as reference
from torch import Tensor

from matchers import (
    COCO_SIGMAS,
    Hungarian,
    Predictions,
    Targets,
    batched_cost,
    keypoint_costs,
    keypoint_l1_cost,
    oks,
    oks_cost,
    pairwise_oks,
)
from ragged import combine_data


def people(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Keypoints (…, 17, 3) in pixels, about half of them visible, and areas (…)."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(*shape, 17, 2, generator=generator, dtype=torch.float64) * 100
    visible = torch.randint(3, (*shape, 17, 1), generator=generator).clamp(min=0)
    area = torch.rand(shape, generator=generator, dtype=torch.float64) * 5000 + 500
    return torch.cat([places, visible], -1), area


def near(gt: Tensor, *shape: int, seed: int = 1) -> Tensor:
    """Predictions (…, P, 17, 2): those of targets, a few pixels off."""
    generator = torch.Generator().manual_seed(seed)
    own = gt[..., :2].expand(*shape, 17, 2)
    return own + torch.randn(own.shape, generator=generator, dtype=torch.float64) * 8


def table(found: Tensor, gt: Tensor, area: Tensor) -> Tensor:
    rows = [[reference.oks(p, g, a) for p in found.tolist()] for g, a in zip(gt.tolist(), area.tolist(), strict=True)]
    return torch.tensor(rows, dtype=torch.float64)


def test_sigmas_are_those_of_coco() -> None:
    assert tuple(reference.SIGMAS) == COCO_SIGMAS


def test_agrees_with_the_evaluation_of_coco() -> None:
    """``computeOks`` of pycocotools, whose rows are detections."""
    evaluation = pytest.importorskip("pycocotools.cocoeval", reason="needs the extra 'example'")
    gt, area = people(4)
    gt[..., 2].clamp_(max=2)
    gt[:, 0, 2] = 2  # of an object without any, COCO compares the box
    found = near(gt.unsqueeze(1), 4, 5)[0]
    coco = evaluation.COCOeval(iouType="keypoints")
    coco.params.maxDets = [20]
    coco._gts[1, 1] = [
        {"keypoints": g.flatten().tolist(), "bbox": [0, 0, 1, 1], "area": a}
        for g, a in zip(gt, area.tolist(), strict=True)
    ]
    detections = torch.cat([found, torch.ones_like(found[..., :1])], -1)
    coco._dts[1, 1] = [{"keypoints": d.flatten().tolist(), "score": -i} for i, d in enumerate(detections)]
    expected = torch.from_numpy(coco.computeOks(1, 1)).mT
    torch.testing.assert_close(pairwise_oks(gt, area, found), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 0)])
def test_pairs_agree_with_plain_floats(shape: tuple[int, int]) -> None:
    targets, predictions = shape
    gt, area = people(3, targets)
    found = near(people(3, 1)[0], 3, predictions)
    expected = torch.stack([table(*each).reshape(targets, predictions) for each in zip(found, gt, area, strict=True)])
    torch.testing.assert_close(pairwise_oks(gt, area, found), expected)
    torch.testing.assert_close(oks_cost(gt.float(), area.float(), found.float()), 1 - expected.float())
    assert pairwise_oks(gt, area, found).shape == keypoint_l1_cost(gt, found).shape == (3, *shape)


def test_what_is_not_visible_may_be_anything() -> None:
    gt, area = people(5)
    gt[0, :, 2] = 0
    found = near(gt, 5)
    hidden = gt[..., 2] == 0
    broken = gt.clone()
    broken[hidden] = torch.tensor([math.nan, math.inf, 0.0], dtype=torch.float64)
    assert oks(found, broken, area).equal(oks(found, gt, area))
    assert keypoint_l1_cost(broken, found).equal(keypoint_l1_cost(gt, found))
    assert oks(found, gt, area)[0] == keypoint_l1_cost(gt, found)[0, 0] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite_and_have_finite_gradients(dtype: torch.dtype) -> None:
    gt, _ = people(6)
    area = torch.tensor([0.0, 1e-30, 1e30, 1.0, 0.0, 1e-3])
    found = near(gt, 6)
    found[0], found[4] = gt[0, :, :2], 1e15
    inputs = [each.to(dtype).requires_grad_() for each in (found, gt, area)]
    values = oks(*inputs)
    assert values.isfinite().all() and (values >= 0).all() and (values <= 1 + 1e-6).all()
    torch.testing.assert_close(values[[0, 2]], torch.ones(2, dtype=dtype))  # there, and large enough
    assert all(each.isfinite().all() for each in torch.autograd.grad(values.sum(), inputs))


def test_gradients() -> None:
    gt, area = people(3)
    found = near(gt, 3)
    gt[..., 2] = torch.where(gt[..., 2] > 0, 2, -2)  # far from the step, for finite differences
    inputs = [(each / scale).requires_grad_() for each, scale in ((found, 10), (gt, 10), (area, 100))]
    assert torch.autograd.gradcheck(oks, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    gt, area = people(3)
    half = [each.to(dtype) for each in (near(gt, 3), gt, area)]
    assert oks(*half).equal(oks(*(each.float() for each in half)))


def test_a_keypoint_that_is_predicted_as_nan_makes_a_nan() -> None:
    gt, area = people(2)
    found = near(gt, 2)
    found[0, 3] = math.nan
    assert oks(found, gt, area).isnan().tolist() == [True, False]


def test_costs_have_no_gradient() -> None:
    gt, area = people(2, 2)
    found = near(people(2, 1)[0], 2, 4).requires_grad_()
    assert not oks_cost(gt, area, found).requires_grad and not keypoint_l1_cost(gt, found).requires_grad


# --- matchers ------------------------------------------------------------------------------------------------------


def scene(sizes: tuple[int, ...] = (3, 0, 2)) -> tuple[Targets, Predictions]:
    gt, area = people(len(sizes), max(sizes))
    truth = [
        {"keypoints": own[:size].float(), "area": its[:size].float()}
        for own, its, size in zip(gt, area, sizes, strict=True)
    ]
    found = near(gt.flip(1).repeat(1, 2, 1, 1), len(sizes), 2 * max(sizes)).float()
    return Targets.of(truth, fields=("keypoints", "area")), Predictions(fields={"keypoints": found})


def whole_images(gt: Any, predicted: Any) -> Tensor:
    similarity = oks_cost(gt["keypoints"], gt["area"], predicted["keypoints"])
    return 4 * similarity + 10 * keypoint_l1_cost(gt["keypoints"], predicted["keypoints"])


def test_terms_of_pairs_are_the_costs_of_images() -> None:
    targets, predictions = scene()
    matcher, other = Hungarian(keypoint_costs()), Hungarian(batched_cost(whole_images))
    match = matcher(predictions, targets)
    assert match.num_positives.tolist() == [3, 0, 2]
    assert match.target_index.equal(other(predictions, targets).target_index)
    costs = matcher.costs(predictions, targets)
    found = predictions.fields["keypoints"]
    gt, area = targets.fields["keypoints"], targets.fields["area"]
    for size, sample in zip((3, 0, 2), range(3), strict=True):
        own = 4 * oks_cost(gt, area, found).tensor, 10 * keypoint_l1_cost(gt, found).tensor
        for name, expected in zip(("oks", "keypoints"), own, strict=True):
            torch.testing.assert_close(costs[name][sample, :size], expected[sample, :size])


def test_the_term_of_a_weight_of_0_is_left_out() -> None:
    assert list(keypoint_costs()) == ["oks", "keypoints"]
    assert list(keypoint_costs(l1_weight=0)) == ["oks"]
    targets, predictions = scene()
    without_area = Targets(fields={"keypoints": targets.fields["keypoints"]})
    assert Hungarian(keypoint_costs(oks_weight=0))(predictions, without_area).num_positives.tolist() == [3, 0, 2]


def test_fields_of_other_names_and_other_keypoints() -> None:
    truth = [{"joints": torch.rand(2, 5, 3), "size": torch.ones(2)}, {"joints": torch.rand(0, 5, 3), "size": []}]
    targets = Targets.of(truth, fields=("joints", "size"))
    predictions = Predictions(fields={"joints": torch.rand(2, 4, 5, 2)})
    costs = keypoint_costs(sigmas=[0.2] * 5, keypoints="joints", area="size")
    match = pickle.loads(pickle.dumps(Hungarian(costs)))(predictions, targets)
    assert match.num_positives.tolist() == [2, 0]
    assert match.target_index.equal(Hungarian(costs)(predictions, targets).target_index)


def test_ragged_pairs_have_the_sizes_of_the_targets() -> None:
    gt, area = people(2, 3)
    samples = [each[:size] for each, size in zip(gt, (3, 1), strict=True)]
    own = combine_data(samples).with_padded_set_to(math.nan)
    areas = combine_data([area[0], area[1, :1]], other_with_same_sample_sizes=own)
    found = near(people(2, 1)[0], 2, 4)
    cost = oks_cost(own, areas, found)
    assert cost.sample_sizes.tolist() == [3, 1]
    torch.testing.assert_close(cost.split()[1], oks_cost(gt[1, :1], area[1, :1], found[1]))
