"""Dense predictions as the references take them: one image, one prediction at a time."""

from __future__ import annotations

from reference.atss_loss import DenseImage

from losses import DensePredictions
from matchers import Assignment, Targets


def dense_images(read: DensePredictions, targets: Targets, assignment: Assignment) -> list[DenseImage]:
    """Every image in float64, with a graph to what was predicted."""
    return [
        DenseImage(
            logits=read.logits[i].double(),
            deltas=read.deltas[i].double(),
            priors=read.priors.double(),
            assigned=assignment.target_index[i].tolist(),
            gt=sample["boxes"].double(),
            labels=sample["labels"].tolist(),
            weights=sample["weights"].tolist() if "weights" in sample else [1.0] * len(sample["labels"]),
            centerness=None if read.confidence is None else read.confidence[i].double(),
            quality=assignment.quality[i].tolist(),
        )
        for i, sample in enumerate(targets.to_dicts())
    ]
