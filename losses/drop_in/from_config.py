"""The criterion of a model that transformers has, with the values of its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from losses.criteria.query.deim import DEIMCriterion
from losses.criteria.query.detr import DetrCriterion
from losses.criteria.query.dfine import DFINECriterion
from losses.modules.classes import FocalLoss, IoUAwareBinaryCrossEntropy
from losses.modules.per_prediction import CrossEntropy
from matchers.by_cost.hungarian import Hungarian
from matchers.costs.terms import detr_costs

Options = tuple[type[DetrCriterion], dict[str, Any]]


def criterion_of(config: Any, **changes: Any) -> DetrCriterion:
    """The criterion that the loss of this model would be.

    Args:
        config: Of a model: ``model_type``, and what the loss reads.
        changes: Other arguments of the criterion.

    Raises:
        ValueError: There is no criterion for such a model, or for a value that it has.
        AttributeError: A value is missing.
    """
    kind = getattr(config, "model_type", None)
    if kind not in _OF_MODELS:
        raise ValueError(
            f"config must be of one of the models {', '.join(_OF_MODELS)}, got model_type {kind!r}; for another one "
            "make the criterion yourself, and give it to TransformersLoss"
        )
    try:
        make, options = _OF_MODELS[kind](config)
    except AttributeError as error:
        raise AttributeError(f"config of model_type {kind!r} must have {error.name!r}, which its loss reads") from None
    return make(**({"num_classes": config.num_labels, **options} | changes))


def _boxes(config: Any) -> dict[str, float]:
    return {"loss_bbox": config.bbox_loss_coefficient, "loss_giou": config.giou_loss_coefficient}


def _matcher(config: Any, classes: str) -> Hungarian:
    costs = {"class_weight": config.class_cost, "l1_weight": config.bbox_cost, "giou_weight": config.giou_cost}
    return Hungarian(detr_costs(classes=classes, **costs))


def _softmax(config: Any) -> Options:
    # The weight of classes is 1 there, whatever the configuration says; so it is for ``_focal``.
    return DetrCriterion, {
        "weight_dict": {"loss_cls": 1.0, **_boxes(config)},
        "loss_cls": CrossEntropy(eos_coef=config.eos_coefficient),
        "matcher": _matcher(config, "softmax"),
    }


def _focal(config: Any) -> Options:
    return DetrCriterion, {
        "weight_dict": {"loss_cls": 1.0, **_boxes(config)},
        "loss_cls": FocalLoss(alpha=config.focal_alpha),
        "matcher": _matcher(config, "focal"),
    }


def _groups(config: Any) -> Options:
    return DetrCriterion, {
        "weight_dict": {"loss_cls": config.class_loss_coefficient, **_boxes(config)},
        "loss_cls": IoUAwareBinaryCrossEntropy(alpha=config.focal_alpha),
        "num_groups": config.group_detr,
        "matcher": _matcher(config, "focal"),
    }


def _varifocal(config: Any) -> Options:
    return DetrCriterion, {**_costs_and_focus(config), "weight_dict": _weights(config, "vfl", "bbox", "giou")}


def _costs_and_focus(config: Any) -> dict[str, Any]:
    costs = {
        "class_weight": config.matcher_class_cost,
        "l1_weight": config.matcher_bbox_cost,
        "giou_weight": config.matcher_giou_cost,
        "alpha": config.matcher_alpha,
        "gamma": config.matcher_gamma,
    }
    return {
        "alpha": config.focal_loss_alpha,
        "gamma": config.focal_loss_gamma,
        "matcher": Hungarian(detr_costs(classes="focal" if config.use_focal_loss else "softmax", **costs)),
    }


def _distributions(config: Any) -> Options:
    return DFINECriterion, {
        **_costs_and_focus(config),
        "weight_dict": _weights(config, "vfl", "bbox", "giou", "fgl", "ddf"),
        **_bins(config),
        "union": False,
    }


def _matchability(config: Any) -> Options:
    if config.mal_alpha is not None:
        raise ValueError(f"mal_alpha of config must be None, as DEIM has it, got {config.mal_alpha!r}")
    return DEIMCriterion, {
        **_costs_and_focus(config),
        "weight_dict": _weights(config, "mal", "bbox", "giou", "fgl", "ddf"),
        **_bins(config),
        "union": config.use_dense_one_to_one,
    }


def _bins(config: Any) -> dict[str, Any]:
    return {
        "reg_max": config.max_num_bins,
        "balance": "own",
        "up": float(config.up),
        "reg_scale": float(config.reg_scale),
    }


def _weights(config: Any, *terms: str) -> dict[str, float]:
    return {f"loss_{term}": getattr(config, f"weight_loss_{term}") for term in terms}


_OF_MODELS: dict[str, Callable[[Any], Options]] = {
    **dict.fromkeys(("detr", "table-transformer", "yolos"), _softmax),
    **dict.fromkeys(("conditional_detr", "dab-detr", "deformable_detr"), _focal),
    **dict.fromkeys(("lw_detr", "rf_detr"), _groups),
    **dict.fromkeys(("rt_detr", "rt_detr_v2"), _varifocal),
    "d_fine": _distributions,
    "deimv2": _matchability,
}
