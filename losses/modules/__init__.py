"""Losses as modules: what criteria and matchers are configured with.

Criteria take any callable of one of two kinds, and sum its result over each prediction:

* a box loss is called with predicted and target boxes (R, 4) and gives (R,) or (R, 4);
* a class loss is called as ``loss(logits, labels, scores=scores)`` with logits (…, C), labels (…), where -1 is the
  background, and scores (…) of the labelled classes; it gives (…, C) or (…). ``sigmoid_focal_loss``,
  ``quality_focal_loss``, ``varifocal_loss`` and ``binary_cross_entropy`` are of this kind, and so are the modules here.

Modules of torch work as well, with ``reduction="none"``. ``LossModule`` lists the optional methods that speed a loss
up.
"""
