"""What a matcher gives: shapes, ranges and types, no gradient, the same each time, nothing ignored, layers apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.assignments.assignment import Assignment, Plan
from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.testing.scene import Scene
from matchers.testing.under_test import UnderTest, parts_of, place
from ragged.testing import PropertyViolation


def result(matcher: UnderTest, scene: Scene) -> None:
    """Shapes, ranges, dtypes, device, and no gradient; what is given is left alone."""
    # No leaves of a graph: who writes into what it is given is told so by us, and not by torch.
    predictions = pytree.tree_map(_with_gradient, scene.predictions)
    targets = pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, scene.targets)
    given = tensors_by_name(predictions, targets)
    before = {name: leaf.detach().clone() for name, leaf in given.items()}
    found = matcher(predictions, targets, *matcher.priors)
    parts_of(found)
    if isinstance(found, Assignment):
        _check_assignment(found, scene)
    else:
        _check_plan(found, scene)
    leaves = leaves_of(found)
    expect(not any(leaf.requires_grad for leaf in leaves), "requires a gradient: matching is not differentiated")
    devices = {leaf.device for leaf in leaves}
    expect(devices == {scene.predictions.device}, f"is on {devices}, expected {scene.predictions.device}")
    for name, leaf in given.items():
        same = torch.equal(leaf.detach().nan_to_num(7), before[name].nan_to_num(7))
        expect(same, f"is right, but the matcher changed the predictions or the targets that it was given: {name}")


def _check_assignment(found: Assignment, scene: Scene) -> None:
    shape = (*scene.predictions.batch_shape, scene.predictions.num_predictions)
    index, quality, own = found.target_index, found.quality, scene.targets
    expect(index.shape == shape, f"has target_index of shape {tuple(index.shape)}, expected {shape}")
    expect(quality.shape == shape, f"has quality of shape {tuple(quality.shape)}, expected {shape}")
    expect(quality.dtype == torch.float32, f"has quality of {quality.dtype}, expected torch.float32")
    count = own.num_targets.expand(shape[:-1])
    expect_everywhere(found.num_targets == count, found.num_targets, "num_targets", "the number of targets", count)
    expect(
        found.max_num_targets == own.max_num_targets,
        f"has max_num_targets {found.max_num_targets}, expected {own.max_num_targets}",
    )
    within = (index >= IGNORED) & (index < count.unsqueeze(-1))
    expect_everywhere(within, index, "target_index", "a target of the image, -1 or -2")
    nothing = (count == 0).unsqueeze(-1) & (index != BACKGROUND)
    expect_everywhere(
        ~nothing, index, "target_index", "-1: an image without targets has nothing to ignore, it is all background"
    )
    expect_everywhere(quality.isfinite(), quality, "quality that is not finite:", "a finite number")
    expect_everywhere((quality >= 0) & (quality <= 1), quality, "quality", "0 to 1")
    expect_everywhere((quality == 0) | (index >= 0), quality, "quality", "0, for there is no target")
    expect_everywhere(found.num_invalid >= 0, found.num_invalid, "num_invalid", "0 or more")
    most = int(found.num_positives.max()) if found.num_positives.numel() else 0
    expect(found.max_pairs >= most, f"has max_pairs {found.max_pairs}, but an image has {most} positive predictions")


def _check_plan(found: Plan, scene: Scene) -> None:
    shape = (*scene.predictions.batch_shape, scene.predictions.num_predictions)
    width = (*shape, scene.targets.max_num_targets)
    expect(found.weights.shape == width, f"has weights of shape {tuple(found.weights.shape)}, expected {width}")
    expect(
        found.background.shape == shape, f"has background of shape {tuple(found.background.shape)}, expected {shape}"
    )
    count = scene.targets.num_targets.expand(shape[:-1])
    expect_everywhere(found.num_targets == count, found.num_targets, "num_targets", "the number of targets", count)
    entries = found.weights.with_padded_set_to(0).tensor
    for name, mass in (("weights", entries), ("background", found.background)):
        expect_everywhere((mass >= 0) & mass.isfinite(), mass, name, "a weight that is not negative, infinite or NaN")
    bare = (count == 0).unsqueeze(-1) & (found.background <= 0)
    expect_everywhere(~bare, found.background, "background", "above 0: an image without targets is all background")


def repeatable(matcher: UnderTest, scene: Scene) -> None:
    """Twice the same, bit by bit, whatever was matched in between."""
    first, second = (_results(matcher, scene) for _ in range(2))
    expect_equal(first, second, "is another when the matcher is called again")
    if len(scene.targets.batch_shape) == 1 and scene.targets.batch_shape[0]:
        matcher.parts(scene.take(range(scene.targets.batch_shape[0])[::-1]))
    expect_equal(first, _results(matcher, scene), "is another when the matcher is called again, after other images")


def expect_equal(first: list[Tensor], second: list[Tensor], problem: str) -> None:
    """Raise unless all tensors are equal."""
    expect(all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), problem)


def ignored(matcher: UnderTest, scene: Scene) -> None:
    """No prediction is matched with an ignored target, nor with filler."""
    found = matcher(scene.predictions, scene.targets, *matcher.priors)
    plan = found.plan() if isinstance(found, Assignment) else found
    dead = ~scene.targets.matchable.unsqueeze(-2)
    matched = (plan.weights.tensor != 0) & dead & plan.weights.aligned_mask
    if matched.any():
        at = tuple(matched.nonzero()[0].tolist())
        expect(
            False, f"matches an ignored target: the weight of {place(at[-3:])} is {plan.weights.tensor[at].item():.6g}"
        )


def layers(matcher: UnderTest, scene: Scene) -> None:
    """Two layers of predictions in one call give what each gives in a call of its own."""
    if len(scene.predictions.batch_shape) != len(scene.targets.batch_shape):
        return
    other = scene.take(list(range(scene.predictions.batch_shape[-1]))[::-1]).predictions
    stacked = pytree.tree_map(lambda a, b: torch.stack([a, b]), scene.predictions, other)
    both = _results(matcher, Scene(stacked, scene.targets))
    for number, predictions in enumerate((scene.predictions, other)):
        alone = _results(matcher, Scene(predictions, scene.targets))
        for one, whole in zip(alone, both, strict=True):
            part = whole[number] if whole.dim() > one.dim() else whole
            same = part.shape == one.shape and torch.allclose(
                part, one, rtol=matcher.rtol, atol=matcher.atol, equal_nan=True
            )
            expect(same, f"of layer {number} is another beside a second layer")


def expect(ok: bool, problem: str) -> None:
    """Raise, saying what is wrong with the result, unless all is well."""
    if not ok:
        raise PropertyViolation(f"the result {problem}")


def expect_everywhere(ok: Tensor, values: Tensor, name: str, expected: str, by: Tensor | None = None) -> None:
    """Raise, naming the first image and prediction, unless all is well."""
    if not ok.all():
        at = tuple((~ok).nonzero()[0].tolist())
        wanted = expected if by is None else f"{expected}, {by[at].item()}"
        expect(False, f"has a {name} {values[at].item():.6g} of {place(at[-3:])}, expected {wanted}")


def leaves_of(tree: Any) -> list[Tensor]:
    """All tensors."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _results(matcher: UnderTest, scene: Scene) -> list[Tensor]:
    return leaves_of(matcher(scene.predictions, scene.targets, *matcher.priors))


def tensors_by_name(predictions: Any, targets: Any) -> dict[str, Tensor]:
    """All tensors of the arguments of a call, by where they stand."""
    return {
        f"{what}{pytree.keystr(path)}": leaf
        for what, tree in (("predictions", predictions), ("targets", targets))
        for path, leaf in pytree.tree_flatten_with_path(tree)[0]
        if isinstance(leaf, Tensor)
    }


def _with_gradient(leaf: Tensor) -> Tensor:
    return leaf.detach().clone().requires_grad_(leaf.is_floating_point()).clone()
