"""A criterion as the loss of a detector of torchvision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from losses.core.criterion import Criterion
from losses.criteria.dense.fcos import FCOSCriterion
from losses.criteria.dense.retinanet import RetinaNetCriterion
from losses.criteria.dense.ssd import SSDCriterion
from losses.drop_in.checks import check_mean
from ragged.values.checks import check_is_tensor


class TorchvisionLoss:
    """A criterion as the ``compute_loss`` of RetinaNet, FCOS or SSD of torchvision.

    It takes the arguments of that method, and returns the terms, weighted, by the names of the criterion::

        model.compute_loss = TorchvisionLoss(RetinaNetCriterion(num_classes=91))

    It is not an ``nn.Module``, because the model's method would hide a module of that name. The criterion holds no
    tensors: the model provides the anchors.

    Args:
        criterion: ``RetinaNetCriterion(num_classes)``, ``FCOSCriterion(num_classes)``, or for SSD
            ``SSDCriterion(num_classes, bg_class_position="first", matcher=MaxIoU())``, whose number of classes counts
            the background, as that of the model does.

    Raises:
        TypeError: ``criterion`` is none of these.
        ValueError: The criterion has another reduction than ``"mean"`` or ``"sum"``.

    >>> compute_loss = TorchvisionLoss(RetinaNetCriterion(3))
    >>> anchors = [torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]])]
    >>> head_outputs = {"cls_logits": torch.zeros(1, 2, 3), "bbox_regression": torch.ones(1, 2, 4)}
    >>> targets = [{"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([1])}]
    >>> compute_loss(targets, head_outputs, anchors)
    {'loss_cls': tensor(0.6931), 'loss_bbox': tensor(4.)}
    """

    def __init__(self, criterion: RetinaNetCriterion | FCOSCriterion | SSDCriterion) -> None:
        kinds = (RetinaNetCriterion, FCOSCriterion, SSDCriterion)
        check_mean(criterion, kinds, "a RetinaNetCriterion, an FCOSCriterion or an SSDCriterion")
        self.criterion: Criterion = criterion

    def __call__(
        self,
        targets: Sequence[Mapping[str, Tensor]],
        head_outputs: Mapping[str, Tensor],
        anchors: Sequence[Tensor],
        matched: Any = None,
    ) -> dict[str, Tensor]:
        """The terms of a batch.

        Args:
            targets: Of each image ``"boxes"``For each image ``"boxes"`` (n, 4), xyxy in pixels, and ``"labels"`` (n,),
                int64, and ``"labels"``.
            head_outputs: ``"cls_logits"``, ``"bbox_regression"``, and of FCOS ``"bbox_ctrness"``.
            anchors: Of each image (P, 4); torchvision makes the same for all images of a batch.
            matched: Not read. SSD passes matched anchors here, FCOS the number of anchors of each level.

        Raises:
            TypeError, ValueError: The outputs are no dict, anchors no list of tensors, or the images have different
                anchors.
        """
        if not isinstance(head_outputs, Mapping):
            raise TypeError(f"head_outputs must be a dict, got {type(head_outputs).__name__}")
        if not isinstance(anchors, Sequence) or not anchors:
            got = "nothing in it" if isinstance(anchors, Sequence) else type(anchors).__name__
            raise TypeError(f"anchors must be a list with those of each image, got {got}")
        for index, each in enumerate(anchors):
            check_is_tensor(each, f"anchors of image {index}")
        shapes = [tuple(each.shape) for each in anchors]
        if len(set(shapes)) > 1:
            raise ValueError(f"anchors of all images must be the same, got shapes {shapes}")
        terms: dict[str, Tensor] = self.criterion({**head_outputs, "anchors": anchors[0]}, targets)
        return terms
