"""A criterion as the loss function of a model of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from losses.core.terms import total
from losses.criteria.query.detr import DetrCriterion
from losses.drop_in.checks import check_mean
from losses.drop_in.from_config import criterion_of
from ragged.values.checks import check_is_tensor

Outputs = dict[str, Any]

_ARGUMENTS = {
    "logits": "outputs_class",
    "pred_boxes": "outputs_coord",
    "pred_corners": "predicted_corners",
    "ref_points": "initial_reference_points",
}


class TransformersLoss:
    """A criterion of queries as the ``loss_function`` of a detector of transformers.

    It takes the arguments of the model's loss, and returns ``(loss, loss_dict, auxiliary_outputs)``::

        model.loss_function = TransformersLoss.from_config(model.config)

    The model then trains, and is trained by a ``Trainer``, as before. ``loss_dict`` has the terms of the criterion,
    weighted, by its names. If the model returns more than ``config.num_queries`` queries, the criterion's
    ``num_groups`` applies; otherwise there is one group.

    It is no ``nn.Module``: …is a property; assigning a module would register it as a submodule and keep the old loss.

    Args:
        criterion: ``DetrCriterion``, or one derived from it; ``from_config`` makes the one that fits a model. Its
            reduction is ``"mean"`` or ``"sum"``.

    Raises:
        TypeError: The criterion is none of queries.
        ValueError: The criterion has another reduction.

    Differences to other implementations: in evaluation, LW-DETR and RF-DETR of transformers split the queries of the
    one group that is left into as many groups as in training; here there is one. With D-FINE and DEIMv2, transformers
    compares the boxes of each layer with the distributions of the next, so that the last layer but one and the last
    distributions have no loss; here each layer has its own.

    >>> from types import SimpleNamespace
    >>> own = {"model_type": "detr", "num_labels": 3, "eos_coefficient": 0.1, "auxiliary_loss": False}
    >>> costs = {"class_cost": 1, "bbox_cost": 5, "giou_cost": 2}
    >>> config = SimpleNamespace(**own, **costs, bbox_loss_coefficient=5, giou_loss_coefficient=2)
    >>> loss_function = TransformersLoss.from_config(config)
    >>> labels = [{"class_labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.25]])}]
    >>> boxes = torch.full((1, 5, 4), 0.5)
    >>> loss, loss_dict, _ = loss_function(torch.zeros(1, 5, 4), labels, "cpu", boxes, config)
    >>> loss_dict
    {'loss_cls': tensor(1.3863), 'loss_bbox': tensor(1.2500), 'loss_giou': tensor(1.)}
    """

    def __init__(self, criterion: DetrCriterion) -> None:
        check_mean(criterion, DetrCriterion, "of queries, as query_criterion makes them")
        self.criterion = criterion

    @classmethod
    def from_config(cls, config: Any, **changes: Any) -> TransformersLoss:
        """The loss of a model, with the costs, weights and sizes of its configuration.

        Args:
            config: Of one of the models ``detr``, ``table-transformer``, ``yolos``, ``conditional_detr``, ``dab-detr``,
                ``deformable_detr``, ``lw_detr``, ``rf_detr``, ``rt_detr``, ``rt_detr_v2``, ``d_fine`` and ``deimv2``.
            changes: Other arguments of the criterion, such as ``normalizer=``.

        Raises:
            ValueError: ``model_type`` or a value of ``config`` is not supported.
        """
        return cls(criterion_of(config, **changes))

    def __call__(
        self,
        logits: Tensor,
        labels: Sequence[Mapping[str, Tensor]],
        device: Any,
        pred_boxes: Tensor,
        config: Any,
        outputs_class: Tensor | None = None,
        outputs_coord: Tensor | None = None,
        enc_outputs_class: Tensor | None = None,
        enc_outputs_coord: Tensor | None = None,
        *,
        enc_topk_logits: Tensor | None = None,
        enc_topk_bboxes: Tensor | None = None,
        denoising_meta_values: Mapping[str, Any] | None = None,
        predicted_corners: Tensor | None = None,
        initial_reference_points: Tensor | None = None,
        **others: Any,
    ) -> tuple[Tensor, dict[str, Tensor], list[Outputs] | None]:
        """The loss of a batch.

        Args:
            logits, pred_boxes: Of the last layer, (B, Q, C) and (B, Q, 4), denoising queries first.
            labels: Of each image ``"class_labels"`` (n,) and ``"boxes"`` (n, 4), cxcywh in fractions of the image.
            device: Not read.
            config: Says by ``auxiliary_loss`` whether there is a loss of other layers than the last, and of groups by
                ``num_queries`` how many queries a group has.
            outputs_class, outputs_coord: Of all layers, (L, B, Q, …); of models that give ``enc_topk_logits``,
                (B, L, Q, …).
            enc_outputs_class, enc_outputs_coord, enc_topk_logits, enc_topk_bboxes: Outputs of the encoder, under
            either name. denoising_meta_values: How denoising queries are laid out.
            predicted_corners, initial_reference_points: Distributions of boxes (B, L, Q, …) and where they start.
            others: Other arguments of the model; tensors are an error.

        Raises:
            KeyError: A tensor that is not read, such as masks.
            TypeError, ValueError: Arguments in another order, or shapes that do not fit.
        """
        _check_arguments(config, others)
        fine = self.criterion.DISTRIBUTIONS
        last: Outputs = {"logits": logits, "pred_boxes": pred_boxes.clamp(0, 1) if fine else pred_boxes}
        meta = denoising_meta_values
        outputs: Outputs = last if meta is None else _split(last, meta, 1)[1]
        if enc_outputs_class is not None:
            outputs["enc_outputs"] = {"logits": enc_outputs_class, "pred_boxes": enc_outputs_coord}
        auxiliary: list[Outputs] | None = None
        if config.auxiliary_loss and outputs_class is not None and outputs_coord is not None:
            stacked: Outputs = {
                "logits": outputs_class,
                "pred_boxes": outputs_coord.clamp(0, 1) if fine else outputs_coord,
            }
            if fine:
                stacked |= {"pred_corners": predicted_corners, "ref_points": initial_reference_points}
            dim = 0 if enc_topk_logits is None else 1
            _check_layers(stacked, last, dim)
            own = stacked if meta is None else _split(stacked, meta, 2)[1]
            *before, final = _layers(own, dim)
            outputs |= {name: final[name] for name in ("pred_corners", "ref_points") if name in final}
            outputs |= _named(before, "pre_outputs", "auxiliary_outputs")
            auxiliary = list(outputs["auxiliary_outputs"])
            outputs["auxiliary_outputs"] = auxiliary
            if enc_topk_logits is not None and enc_topk_bboxes is not None:
                boxes = enc_topk_bboxes.clamp(0, 1) if fine else enc_topk_bboxes
                auxiliary.append({"logits": enc_topk_logits, "pred_boxes": boxes})
            if meta is not None:
                denoised = _layers(_split(stacked, meta, 2)[0], dim)
                outputs |= _named(denoised, "dn_pre_outputs", "dn_auxiliary_outputs")
                outputs["denoising_meta_values"] = meta
        if self.criterion.num_groups > 1:
            self.criterion.train(logits.shape[1] > config.num_queries)
        terms = self.criterion(outputs, labels)
        return total(terms), terms, auxiliary


def _layers(stacked: Outputs, dim: int) -> list[Outputs]:
    """The entries of each layer, of tensors with all layers along a dimension; the last one is the teacher of all.

    Where there are more logits than distributions, the first layers have none.
    """
    layers: list[Outputs] = [{} for _ in range(stacked["logits"].shape[dim])]
    for name, part in stacked.items():
        for layer, own in zip(reversed(layers), reversed(part.unbind(dim)), strict=False):
            layer[name] = own
    refining = [layer for layer in layers if "pred_corners" in layer]
    for layer in refining:
        layer |= {"teacher_corners": layers[-1]["pred_corners"], "teacher_logits": layers[-1]["logits"]}
    return layers


def _named(layers: list[Outputs], first: str, others: str) -> Outputs:
    """The layers of a decoder by their keys; the first guess of D-FINE, which has no distribution, by its own."""
    if len(layers) > 1 and "pred_corners" in layers[1] and "pred_corners" not in layers[0]:
        return {first: layers[0], others: layers[1:]}
    return {others: layers}


def _split(parts: Outputs, meta: Mapping[str, Any], dim: int) -> tuple[Outputs, Outputs]:
    """The entries of denoising queries, and those of the others."""
    split = {name: part.split(list(meta["dn_num_split"]), dim) for name, part in parts.items()}
    return {name: part[0] for name, part in split.items()}, {name: part[1] for name, part in split.items()}


def _check_layers(stacked: Outputs, last: Outputs, dim: int) -> None:
    """Raise unless layers are where they are expected, and all of them are there."""
    for name, part in stacked.items():
        check_is_tensor(part, _ARGUMENTS[name])
        wanted = last["logits"].shape[:2]
        if part.dim() != 4 or part.select(dim, -1).shape[:2] != wanted or part.shape[dim] < 1:
            shape = ("L", *wanted) if dim == 0 else (wanted[0], "L", wanted[1])
            raise ValueError(
                f"{_ARGUMENTS[name]} must have shape ({', '.join(map(str, shape))}, …), for logits have "
                f"{tuple(last['logits'].shape)}, got {tuple(part.shape)}"
            )


def _check_arguments(config: Any, others: Mapping[str, Any]) -> None:
    """Raise unless the configuration is in its place, and no tensor is left over."""
    if isinstance(config, Tensor) or not hasattr(config, "auxiliary_loss"):
        got = "a tensor" if isinstance(config, Tensor) else type(config).__name__
        raise TypeError(
            f"the fifth argument must be the config of a model, which has 'auxiliary_loss', got {got}; a model that "
            "gives masks before it has a loss of masks, which there is not here"
        )
    for name, value in others.items():
        if isinstance(value, Tensor):
            raise KeyError(f"nobody reads {name!r}, a tensor of shape {tuple(value.shape)}: the loss would lose it")
