"""The weights of terms, as criteria of queries are given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragged.values.checks import check_not_negative


def checked_weights(
    weight_dict: Mapping[str, float], terms: Sequence[str], has_loss_cls: bool, has_background: bool
) -> dict[str, float]:
    """The weights by term.

    Raises:
        KeyError: A weight is of a term that there is not, or of a loss that is not given, or a given loss has none.
        TypeError, ValueError: They are no dict, or a weight is out of range; or a term reads logits without background
            where there is one.
    """
    if not isinstance(weight_dict, Mapping):
        raise TypeError(f"weight_dict must be a dict of weights by term, got {type(weight_dict).__name__}")
    for name, weight in weight_dict.items():
        if name not in terms:
            raise KeyError(f"weight_dict has a weight for {name!r}, but the terms are {list(terms)}")
        check_not_negative(weight, f"the weight of {name}")
    if has_loss_cls and "loss_cls" not in weight_dict:
        raise KeyError(
            "loss_cls is given, but weight_dict has no weight for 'loss_cls': nothing would be learned of it"
        )
    if not has_loss_cls and "loss_cls" in weight_dict:
        raise KeyError("weight_dict has a weight for 'loss_cls', but no loss_cls is given")
    for name in ("loss_vfl", "loss_mal"):
        if has_background and name in weight_dict:
            raise ValueError(f"{name} has a sigmoid for each class, and loss_cls a background among them: weigh one")
    return dict(weight_dict)
