"""Images do not see each other, nor padding, whatever the numbers of objects."""

from __future__ import annotations

import torch

from losses.testing.case import SIZES, CriterionCase, padded, take_targets
from losses.testing.properties.comparing import expect, expect_same
from losses.testing.roles import named, take
from matchers.testing.changes.rows import with_targets_as_filler
from ragged import RaggedBatch

MORE_SIZES = ([0], [0, 0, 0], [1], [1, 0], [40, 1])


def images_alone(case: CriterionCase) -> None:
    """With ``reduction="sample"`` each image has the loss that it has alone."""
    predictions, targets = case.scene()
    count = len(targets.num_targets)
    by_image = case.losses(case.make(reduction="sample"), predictions, targets)
    for name, values in by_image.items():
        expect(values.shape == (count,), f"{name} has shape {tuple(values.shape)}, expected one for each image")
    for image in range(count):
        alone = case.losses(case.make(), take(predictions, [image]), take_targets(targets, [image]))
        own = {name: values[image] for name, values in by_image.items()}
        expect_same((own, []), (alone, []), f"image {image} in a batch, then alone")


def unreduced_values(case: CriterionCase) -> None:
    """With ``reduction="none"`` there is a value for each prediction; they add up to ``reduction="sum"``."""
    predictions, targets = case.scene()
    count = len(targets.num_targets)
    sums = case.losses(case.make(reduction="sum"), predictions, targets)
    for name, values in case.losses(case.make(reduction="none"), predictions, targets).items():
        expect(isinstance(values, RaggedBatch), f"{name} is a {type(values).__name__}, expected a RaggedBatch")
        expect(tuple(values.batch_shape) == (count,) and values.dim() == 2, f"{name} is no value per prediction")
        expect_same(
            ({name: values.tensor.sum()}, []), ({name: sums[name]}, []), "unreduced values added up, then the sum"
        )


def one_image(case: CriterionCase) -> None:
    """For a single image ``"sample"`` and ``"mean"`` are the same, gradients too."""
    predictions, targets = case.scene([4])
    if len(targets.num_targets) != 1:
        return
    mean = case.value_and_gradients(case.make(), predictions, targets)
    values, gradients = case.value_and_gradients(case.make(reduction="sample"), predictions, targets)
    expect_same(
        ({name: value.squeeze(0) for name, value in values.items()}, gradients), mean, "by sample, then the mean"
    )


def order(case: CriterionCase) -> None:
    """The order of the images changes nothing but the order of gradients."""
    predictions, targets = case.scene()
    count = len(targets.num_targets)
    moved = [*range(count // 2, count), *range(count // 2)]
    values, gradients = case.outcome()
    found = case.value_and_gradients(case.make(), take(predictions, moved), take_targets(targets, moved))
    back = [None if each is None else each[torch.tensor(moved)] for each in gradients]
    expect_same(found, (values, back), f"images in the order {moved}, then as they were")


def padding(case: CriterionCase) -> None:
    """Neither the amount of padding of the targets nor what is in it changes a value or a gradient."""
    predictions, targets = case.scene()
    expected = case.outcome()
    for filler in ("nan", "inf", "lowest", "garbage"):
        found = case.value_and_gradients(case.make(), predictions, padded(targets, 3, filler))
        expect_same(found, expected, f'targets padded by 3 slots of "{filler}", then as they were')


def plausible_filler(case: CriterionCase) -> None:
    """Padding that looks like targets, and that predictions lie on, changes nothing either."""
    predictions, targets = case.scene()
    boxes = [leaf for leaf in named(case.boxes_keys, predictions) if leaf.dim() == 3 and leaf.shape[-1] == 4]
    for filled, what in with_targets_as_filler(targets, boxes[0] if boxes else None):
        found = case.value_and_gradients(case.make(), predictions, filled)
        expect_same(found, case.outcome(), f"filler of the targets that holds {what}, then as it was")


def sums(case: CriterionCase) -> None:
    """With ``reduction="sum"`` a batch has the sum of its images."""
    predictions, targets = case.scene()
    count = len(targets.num_targets)
    whole = case.losses(case.make(reduction="sum"), predictions, targets)
    alone = [
        case.losses(case.make(reduction="sum"), take(predictions, [image]), take_targets(targets, [image]))
        for image in range(count)
    ]
    added = {name: torch.stack([each[name] for each in alone]).sum(0) for name in whole}
    expect_same((whole, []), (added, []), "the sum over a batch, then sums of images added up", 1e-4, 1e-5)


def any_number_of_objects(case: CriterionCase) -> None:
    """Whatever the numbers of objects, the same terms come out, finite, and every prediction has a finite gradient."""
    names = case.losses(case.make(), *case.scene()).keys()
    for sizes in (SIZES, *MORE_SIZES) if case.fixed is None else (SIZES,):
        predictions, targets = case.scene(sizes)
        for options in case.options():
            values, gradients = case.value_and_gradients(case.make(**options), predictions, targets)
            where = f"with {targets.num_targets.tolist()} objects"
            expect(values.keys() == names, f"has terms {list(values)} {where}, expected {list(names)}")
            for name, value in values.items():
                expect(bool(value.isfinite().all()), f"{name} is {value} {where}")
            for place, gradient in enumerate(gradients):
                expect(gradient is not None, f"prediction {place} is not in the graph {where}: its gradient is None")
                expect(bool(gradient.isfinite().all()), f"prediction {place} has a gradient not finite {where}")
