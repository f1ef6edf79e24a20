"""What the containers of ``losses`` compute: normalisers, positives, assigned targets, and levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import losses
from losses import AssignedTargets, Normalizer, Positives
from matchers import Targets
from ragged import RaggedBatch
from registry.entries import CLASSES, PREDICTIONS, Elsewhere, Operation, corners, data, integers, normal, uniform
from registry.of_assignments import assigned
from registry.of_matcher_objects import targets


def drawn_index() -> Tensor:
    """A target for each prediction, where its sample has that many."""
    return integers(7, 3, PREDICTIONS, low=-2)


def found(index: Tensor, count: int) -> Tensor:
    """Which predictions have a target, of one sample."""
    return (index >= 0) & (index < count)


def of_positives(function: Callable[[Positives, RaggedBatch], Any], reference: Any = None) -> Operation:
    """Of targets with values (2,), and of which one each prediction has."""
    return Operation(
        lambda values, index: function(Positives.of(assigned(values, index)), values),
        lambda: (data(2), drawn_index()),
        reference=reference,
    )


def of_predictions(values: RaggedBatch, index: Tensor, own: Tensor) -> Tensor:
    positives = Positives.of(assigned(values, index))
    return positives.per_prediction(positives.of_predictions(own).square().sum(-1))


def of_priors(values: RaggedBatch, index: Tensor, priors: Tensor) -> Tensor:
    positives = Positives.of(assigned(values, index))
    return positives.per_prediction(positives.of_priors(priors).sum(-1))


def ones(positives: Positives, values: RaggedBatch) -> Tensor:
    return torch.ones(len(positives), device=values.device)


def looked_up(values: Tensor, index: Tensor) -> Tensor:
    return torch.stack([values[t].sum() if 0 <= t < len(values) else values.sum() * 0 for t in index.tolist()])


def columns(given: AssignedTargets) -> dict[str, Tensor]:
    """What holds something for each prediction, rows among it."""
    per_prediction = given.positives.per_prediction
    assert given.weights is not None
    return {
        "labels": given.labels,
        "quality": given.quality,
        "weights": given.weights,
        "boxes": per_prediction(given.boxes.sum(-1)),
        "is positive": given.is_positive,
        "is ignored": given.is_ignored,
        "number": given.num_positives(),
        "counted": given.counted(given.quality + 1),
        "counted rows": per_prediction(given.counted_rows(given.boxes[:, 0])),
        "labels of rows": per_prediction(given.labels_of_rows()),
        "quality of rows": per_prediction(given.quality_of_rows()),
    }


def assigned_targets(own: Targets, index: Tensor) -> dict[str, Tensor]:
    return columns(AssignedTargets.of(own, assigned(own.labels, index), num_classes=CLASSES))


def of_dense(labels: Tensor, boxes: Tensor, quality: Tensor, weights: Tensor) -> dict[str, Tensor]:
    quality = quality.detach()
    return columns(AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES, quality=quality, weights=weights))


def flat_levels(maps: list[Tensor]) -> Tensor:
    return losses.flatten_levels(maps, channels=2, num_per_cell=3, name="maps")


def flat_sample(maps: list[Tensor]) -> Tensor:
    return torch.cat([each.reshape(3, 2, -1).permute(2, 0, 1).reshape(-1, 2) for each in maps])


def last_layer(logits: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
    """A layer and an auxiliary one, read, and put into the order of images."""
    layer = {"pred_logits": logits, "pred_boxes": boxes}
    outputs = losses.DecoderOutputs.of({**layer, "aux_outputs": [layer]}, num_classes=CLASSES)
    (group,) = outputs.groups
    return group.logits.movedim(0, -1), group.boxes.movedim(0, -1)


def layer_of_its_own(logits: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
    group = losses.DecoderLayers(("",), logits.unsqueeze(0), boxes.unsqueeze(0), ({},), False)
    outputs = losses.DecoderOutputs((group,))
    return losses.DecoderOutputs.of(outputs, num_classes=CLASSES).groups[0].logits[0], boxes


def head() -> tuple[Tensor, ...]:
    return normal(3, PREDICTIONS, CLASSES), corners(3, PREDICTIONS)


LEVELS = "tests/losses/test_levels.py"
DROP_IN = "tests/losses/test_drop_in.py"

PACKAGE = "losses"
ENTRIES: dict[str, Operation | Elsewhere] = {
    "Normalizer": Operation(
        lambda counts: Normalizer()(counts), lambda: (uniform(3) * 4,), reference=lambda count: count.clamp(min=1)
    ),
    "Normalizer.total": Operation(
        lambda counts: Normalizer().total(counts) * 2, lambda: (uniform(3) * 4,), reference=lambda count: count * 2
    ),
    "Positives": of_positives(
        lambda p, values: p.per_prediction(ones(p, values)), lambda values, index: found(index, len(values)).float()
    ),
    "Positives.of_predictions": Operation(
        of_predictions,
        lambda: (data(2), drawn_index(), uniform(3, PREDICTIONS, 4)),
        reference=lambda values, index, own: own.square().sum(-1) * found(index, len(values)),
    ),
    "Positives.of_priors": Operation(
        of_priors,
        lambda: (data(2), drawn_index(), normal(3, PREDICTIONS, 4)),
        reference=lambda values, index, own: own.sum(-1) * found(index, len(values)),
    ),
    "Positives.of_priors[shared]": Operation(
        of_priors,
        lambda: (data(2), drawn_index()),
        shared=(normal(PREDICTIONS, 4),),
        reference=lambda values, index, own: own.sum(-1) * found(index, len(values)),
    ),
    "Positives.of_targets": of_positives(
        lambda p, values: p.per_prediction(p.of_targets(values.tensor).sum(-1)), looked_up
    ),
    "Positives.per_sample": of_positives(
        lambda p, values: p.per_sample(p.of_targets(values.tensor).sum(-1)),
        lambda values, index: looked_up(values, index).sum(),
    ),
    "Positives.masked": of_positives(
        lambda p, values: p.per_prediction(p.masked(ones(p, values))),
        lambda values, index: found(index, len(values)).float(),
    ),
    "AssignedTargets": Operation(assigned_targets, lambda: (targets(), drawn_index())),
    "AssignedTargets.from_dense": Operation(
        of_dense,
        lambda: (
            integers(CLASSES + 1, 3, PREDICTIONS, low=-2),
            corners(3, PREDICTIONS),
            uniform(3, PREDICTIONS),
            uniform(3, PREDICTIONS, seed=1),
        ),
        constants=(1, 2),
    ),
    "flatten_levels": Operation(
        flat_levels, lambda: ([uniform(3, 6, 2, 4), uniform(3, 6, 1, 2, seed=1)],), reference=flat_sample
    ),
    "Criterion": Elsewhere("tests/losses/test_read_once.py", "is abstract: what it promises, all criteria do"),
    "DensePredictions": Elsewhere(LEVELS, "is a container, and checks what it holds"),
    "image_size_of": Elsewhere(LEVELS, "makes numbers from sizes of maps"),
    "SetCriterion": Elsewhere(DROP_IN, "is a criterion that is called otherwise"),
    "TorchvisionLoss": Elsewhere(DROP_IN, "is a criterion that is called otherwise"),
    "TransformersLoss": Elsewhere(DROP_IN, "is a criterion that is called otherwise"),
    "UltralyticsLoss": Elsewhere(DROP_IN, "is a criterion that is called otherwise"),
    "DecoderLayers": Operation(layer_of_its_own, head, reference=lambda logits, boxes: (logits, boxes)),
    "DecoderOutputs": Operation(
        last_layer, head, reference=lambda *layer: tuple(torch.stack([each, each], -1) for each in layer)
    ),
}
