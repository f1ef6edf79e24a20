"""Losses as modules: what criteria and matchers are configured with.

Criteria take any callable of one of two kinds, and sum up what it gives for a prediction:

* a box loss is called with predicted and target boxes (R, 4) and gives (R,) or (R, 4);
* a class loss is called as ``loss(logits, labels, scores=scores)`` with logits (…, C), labels (…), where -1 is the
  background, and scores (…) of the labelled classes; it gives (…, C) or (…). ``sigmoid_focal_loss``,
  ``quality_focal_loss``, ``varifocal_loss`` and ``binary_cross_entropy`` are of this kind, and so are the modules here.

Modules of torch work as well, with ``reduction="none"``. What a loss may say of itself, so that it is computed faster,
is in ``LossModule``.
"""
