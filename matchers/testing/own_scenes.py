"""Scenes of targets that are no boxes: keypoints, 3D boxes, whatever a function makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch.utils import _pytree as pytree

from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from matchers.testing.scene import Scene
from ragged import RaggedBatch

MakeTargets = Callable[[list[int], torch.Generator], Targets]
"""``make_targets(sizes, generator)``: targets of images with so many objects each."""

SIZES = ([5, 0, 1, 14], [0, 0], [1])
"""Numbers of targets of the scenes: more than there are predictions, none, and one."""


def scenes_of(make_targets: MakeTargets, predict: Callable[[Targets, int], Predictions]) -> dict[str, Scene]:
    """Scenes of your own targets, for ``check_matcher``: plain ones, two layers, padding of NaN, ignored targets.

    Args:
        make_targets: ``make_targets(sizes, generator)`` returns ``Targets`` with these numbers of objects, drawn with
            the generator.
        predict: ``predict(targets, seed)`` gives ``Predictions`` for them, the same number for each image, some of them
            near the targets.

    Raises:
        ValueError: The targets have other sizes than asked for.
        TypeError: Something else than ``Targets`` or ``Predictions`` comes back.

    >>> def spans(sizes, generator):
    ...     images = [{"span": torch.rand(size, 2, generator=generator)} for size in sizes]
    ...     return Targets.of(images, fields=("span",))
    >>> def predict(targets, seed):
    ...     generator = torch.Generator().manual_seed(seed)
    ...     return Predictions(fields={"span": torch.rand(*targets.batch_shape, 9, 2, generator=generator)})
    >>> list(scenes_of(spans, predict))
    ['[5, 0, 1, 14] targets', '[0, 0] targets', '[1] targets', 'layers', 'padded', 'ignored']
    """
    found = {f"{sizes} targets": _scene(make_targets, predict, sizes, number) for number, sizes in enumerate(SIZES)}
    first = next(iter(found.values()))
    other = _checked_predictions(predict(first.targets, len(found)))
    both = pytree.tree_map(lambda *layers: torch.stack(layers), first.predictions, other)
    ignore = torch.rand(first.targets.mask.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    flags = RaggedBatch(ignore, sample_sizes=first.targets.num_targets)
    return found | {
        "layers": Scene(both, first.targets),
        "padded": first.padded(2, "nan"),
        "ignored": replace(first, targets=replace(first.targets, ignore=flags)),
    }


def made_targets(make_targets: MakeTargets, sizes: Sequence[int], generator: torch.Generator) -> Targets:
    """What ``make_targets`` gives, which must be ``Targets`` of these sizes."""
    targets = make_targets(list(sizes), generator)
    if not isinstance(targets, Targets):
        raise TypeError(f"make_targets must give Targets, got {type(targets).__name__}; Targets.of reads other layouts")
    found = targets.num_targets.tolist()
    if found != list(sizes):
        raise ValueError(f"make_targets({list(sizes)}, generator) must give so many targets, got {found}")
    return targets


def _scene(
    make_targets: MakeTargets, predict: Callable[[Targets, int], Predictions], sizes: list[int], seed: int
) -> Scene:
    targets = made_targets(make_targets, sizes, torch.Generator().manual_seed(seed))
    return Scene(_checked_predictions(predict(targets, seed)), targets)


def _checked_predictions(found: Predictions) -> Predictions:
    if isinstance(found, Predictions):
        return found
    raise TypeError(f"predict must give Predictions, got {type(found).__name__}; Predictions.of reads dicts")
