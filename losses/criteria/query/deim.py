"""The criterion of DEIM: that of D-FINE, with a class loss that does not spare matches of low quality."""

from __future__ import annotations

from losses.criteria.query.detr import LayerTerms
from losses.criteria.query.dfine import DFINECriterion
from losses.criteria.query.matched_layers import MatchedLayers
from losses.modules.classes import MatchabilityAwareLoss


class DEIMCriterion(DFINECriterion):
    """The loss of DEIM (Huang et al., 2025): ``DFINECriterion`` with one more term.

    ``loss_mal`` is ``matchability_aware_loss`` of all queries, with the IoU of a matched box as score, with the
    divisor of ``loss_vfl``. It replaces ``loss_vfl``, so give ``loss_vfl`` no weight. DEIM uses ``gamma=1.5``.

    Args:
        weight_dict, alpha, gamma, num_classes, reg_max, temperature, union, balance, up, reg_scale, loss_cls: As for
            ``DFINECriterion``; gamma is of both class losses.
        num_groups, sum_groups, agnostic_encoder, matcher, reduction, normalizer: As for ``DetrCriterion``.

    >>> criterion = DEIMCriterion({"loss_mal": 1.0}, gamma=1.5, num_classes=3)
    >>> outputs = {"pred_logits": torch.zeros(1, 4, 3), "pred_boxes": torch.full((1, 4, 4), 0.5)}
    >>> criterion(outputs, [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]), "labels": torch.tensor([2])}])
    {'loss_mal': tensor(3.3889)}
    """

    TERMS = (*DFINECriterion.TERMS, "loss_mal")

    def class_terms(self, group: MatchedLayers) -> LayerTerms:
        """The varifocal and the matchability-aware loss, as far as they have a weight."""
        terms = super().class_terms(group)
        if "loss_mal" in self.weight_dict:
            loss = MatchabilityAwareLoss(gamma=self.gamma)
            terms["loss_mal", group.layers.suffixes] = group.class_term(loss)
        return terms
