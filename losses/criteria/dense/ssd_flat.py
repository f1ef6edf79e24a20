"""The loss of SSD as super-gradients has it: default boxes in fractions of the image, the background first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses.coders.boxes import BoxCoder, SSDCoder, check_coder
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion, GlobalCount
from losses.core.looking_up import look_up
from losses.core.normalizer import Normalizer
from losses.core.terms import Losses, Term, Terms
from losses.functional.boxes import smooth_l1_loss
from losses.functional.hard_mining import HardMiningCrossEntropyLoss, check_class_maps
from losses.functional.numerics import check_floating, check_shape
from losses.heads.anchors import check_anchors
from losses.heads.default_boxes import SSDPredictions, assign_priors, positive_box_loss
from matchers.assignments.assignment import Assignment
from matchers.dense.max_iou import MaxIoU
from matchers.targets.targets import Targets
from ragged.values.checks import check_is_callable, check_not_negative, check_share


class SSDLoss(Criterion):
    """The loss of SSD (Liu et al., 2016, equation 1), divided by the positives of each image.

    With ``L_cls`` the ``HardMiningCrossEntropyLoss`` of an image, ``L_box`` the smooth L1 loss of its n positives'
    encoded boxes, the loss of the image is ``((2 - alpha) L_box + alpha L_cls) / max(n, 1)``, and the result the mean
    over all images, also those without objects. A default box is positive if its IoU with a target is above
    ``iou_thresh``, or if it is a target's best one.

    Predictions are ``(boxes, class scores)``, (B, 4, D) encoded by ``bbox_coder`` and (B, C + 1, D), logits with the
    background first; or, as super-gradients gives in validation, a tuple with this pair as its second entry. Targets
    are rows (N, 6) of image index, label from 0, and box; or any other layout. Boxes are cxcywh in fractions of the
    image, unless you pass ``Targets`` with another format.

    Args:
        dboxes: (D, 4), cxcywh in fractions of the image, as ``ssd_default_boxes`` returns them; or an object that
            gives them as ``dboxes(order="xywh")``, with ``scale_xy`` and ``scale_wh``.
        alpha: Weight of the classes, 0 to 2.
        iou_thresh: IoU from which a default box is positive.
        neg_pos_ratio: Negatives to a positive.
        bbox_coder: ``SSDCoder`` with the scales of ``dboxes``, or 0.1 and 0.2, unless given.
        matcher: ``MaxIoU`` with Default: ``iou_thresh``. A matcher of your own gets the decoded predictions too.
        negatives_without_positives: How many negatives are trained of an image without a positive.
        reduction: ``"mean"`` as above; ``"sample"``: (B,); ``"none"``: a RaggedBatch (B, D), weighted but not divided;
            ``"sum"``: the sum of ``"none"``, not divided.
        normalizer: How images are counted over the ranks.

    Raises:
        TypeError, ValueError: Shapes or parameters that do not match; a label outside ``0 … C - 1``.

    Differences to other implementations: super-gradients counts positives twice where there are fewer negatives than
    are asked for, its loss is infinite for a target without area, NaN if a background box is predicted as NaN, and
    which of two targets with the same best box it keeps is undefined. Here, a target with IoU 0 to every default box
    gets none.

    >>> dboxes = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.5, 1.0]])
    >>> target = torch.tensor([[0.0, 1.0, 0.25, 0.5, 0.5, 1.0]])
    >>> loss, components = SSDLoss(dboxes)((torch.zeros(1, 4, 2), torch.zeros(1, 3, 2)), target)
    >>> loss, components
    (tensor(2.1972), tensor([0.0000, 2.1972, 2.1972]))
    """

    CLASSES_OF_PREDICTIONS = True
    BOXES: ClassVar[Mapping[str, Any]] = {"box_format": "cxcywh", "normalized": True}
    dboxes: Tensor

    def __init__(
        self,
        dboxes: Any,
        alpha: float = 1.0,
        iou_thresh: float = 0.5,
        neg_pos_ratio: float = 3.0,
        *,
        bbox_coder: BoxCoder | None = None,
        matcher: Callable[..., Assignment] | None = None,
        negatives_without_positives: float = 0.0,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        check_share(iou_thresh, "iou_thresh")
        matcher = _max_iou(iou_thresh) if matcher is None else matcher
        super().__init__(None, matcher=matcher, reduction=reduction, normalizer=normalizer)
        check_not_negative(alpha, "alpha")
        if alpha > 2:
            raise ValueError(f"alpha must lie in [0, 2], got {alpha}: boxes have the weight 2 - alpha")
        if not isinstance(dboxes, Tensor):
            check_is_callable(dboxes, "dboxes", "a tensor, or what gives one for order='xywh'")
        boxes = dboxes if isinstance(dboxes, Tensor) else dboxes(order="xywh")
        check_anchors(boxes, "dboxes", "default boxes")
        self.register_buffer("dboxes", boxes.detach(), persistent=False)
        scales = {name: getattr(dboxes, name) for name in ("scale_xy", "scale_wh") if hasattr(dboxes, name)}
        self.bbox_coder = SSDCoder(**scales) if bbox_coder is None else bbox_coder
        self.con_loss = HardMiningCrossEntropyLoss(
            neg_pos_ratio, negatives_without_positives=negatives_without_positives
        )
        self.alpha, self.iou_thresh = alpha, iou_thresh
        check_coder(self.bbox_coder, "bbox_coder")

    @property
    def component_names(self) -> list[str]:
        """What the second result of a call holds, in this order."""
        return ["smooth_l1", "closs", "Loss"]

    def forward(
        self,
        predictions: Any,
        targets: Any,
        *,
        valid_label_mask: Tensor | None = None,
        global_count: GlobalCount = None,
    ) -> tuple[Any, Tensor]:
        """Assign, and compute the loss.

        Args:
            predictions, targets: See the class.
            valid_label_mask: (B, C), booleans, without the background; see ``Criterion``.
            global_count: Number of images of all ranks and micro-batches, see ``Normalizer``.

        Returns:
            The loss, and its components (3,) for logging: the means over the images of ``L_box`` and ``L_cls``, and of
            the loss, of this rank.
        """
        return super().forward(predictions, targets, valid_label_mask=valid_label_mask, global_count=global_count)

    def match(self, predictions: SSDPredictions, targets: Targets) -> Assignment:
        """Match default boxes."""
        return assign_priors(self.matcher, predictions, targets, self.bbox_coder, background=0, **self.BOXES)

    def read(self, predictions: Any) -> SSDPredictions:
        """The predictions with their default boxes. Nothing is copied."""
        if isinstance(predictions, SSDPredictions):
            return predictions
        if isinstance(predictions, Sequence) and len(predictions) == 2 and isinstance(predictions[1], Sequence):
            predictions = predictions[1]
        if not isinstance(predictions, Sequence) or len(predictions) != 2:
            got = f"{len(predictions)} entries" if isinstance(predictions, Sequence) else type(predictions).__name__
            raise TypeError(f"predictions must be (boxes (B, 4, D), class scores (B, C + 1, D)); got {got}")
        boxes, scores = predictions
        check_floating(boxes, "boxes")
        check_class_maps(scores, "class scores")
        check_shape(boxes, (len(scores), 4, scores.shape[-1]), "boxes", "(B, 4, D), with class scores (B, C + 1, D)")
        return SSDPredictions((scores.unsqueeze(1),), boxes.mT, self.dboxes)

    def read_targets(self, targets: Any, predictions: SSDPredictions) -> Targets:
        """The targets of these predictions; raw layouts hold cxcywh boxes in fractions of the image."""
        if isinstance(targets, Targets):
            return targets
        if isinstance(targets, Tensor) and targets.dim() == 2:
            images, device = predictions.deltas.shape[0], predictions.deltas.device
            return Targets.of(targets.to(device), batch_size=images, **self.BOXES)
        return Targets.of(targets, **self.BOXES)

    def look_up(
        self, predictions: SSDPredictions, targets: Targets | AssignedTargets, assignment: Assignment | None
    ) -> AssignedTargets:
        """The targets of the predictions; boxes are cxcywh, in fractions of the image."""
        return look_up(targets, assignment, num_classes=predictions.num_channels - 1, **self.BOXES)

    def terms(self, predictions: SSDPredictions, assigned: AssignedTargets) -> Terms:
        """``L_box`` and ``L_cls``, as two parts of one loss."""
        rows, positives = assigned.positives, assigned.num_positives()
        entropy = self.con_loss.per_prediction(
            predictions.scores_of(assigned.labels, 0), assigned.labels, assigned.weights
        )
        boxes = positive_box_loss(predictions, assigned, self.bbox_coder, smooth_l1_loss, decoded=False)
        count, divisor = {"num_images": torch.ones_like(positives)}, positives.clamp(min=self.normalizer.minimum)
        return {
            "loss": [
                Term(boxes, count, rows, 2 - self.alpha, per_image=divisor),
                Term(entropy, count, weight=self.alpha, per_image=divisor),
            ]
        }

    def finished(self, losses: Losses, predictions: SSDPredictions, terms: Any) -> tuple[Any, Tensor]:
        """The loss and its components."""
        return losses["loss"], self._components(*terms["loss"])

    @torch.no_grad()
    def _components(self, boxes: Term, entropy: Term) -> Tensor:
        """Means over the images of this rank: ``L_box`` and ``L_cls``, not divided, and the loss."""
        sums = [boxes.sums(), entropy.sums()]
        assert boxes.per_image is not None
        loss = torch.add(boxes.weight * sums[0], sums[1], alpha=entropy.weight) / boxes.per_image
        return torch.stack([*sums, loss], -1).sum(0) / max(len(loss), 1)


def _max_iou(above: float) -> MaxIoU:
    """Positive strictly above the threshold: from the next number on, in the precision of the overlaps."""
    limit = torch.full((), above, dtype=torch.float32, device="cpu")
    lowest = torch.nextafter(limit, torch.full_like(limit, torch.inf)).item()
    return MaxIoU(pos_iou_thr=lowest, neg_iou_thr=lowest)
