"""Costs of pairing a target with a prediction: those of its class.

Two forms of each. The functions of whole batches take logits ``(…, P, C)``, labels ``(…, G)`` and boxes ``(…, N, 4)``,
and give costs ``(…, G, P)``, target-major; any of them may be ragged batches, and so are the costs then. Where labels
are multi-hot, ``(…, G, C)``, costs are sums over the labels. What they are made of takes the logit of the target's
class in each prediction, of any shape: that is what a matcher computes, block by block. A class cost reads one logit of
each prediction for each target; nothing of shape P×G×C is ever made. All is computed in float32 at least, without
gradient. Weighted sums of costs are ordinary arithmetic.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from matchers.costs.checks import check_objectness, check_of_pairs, check_values_of, checked_labels
from matchers.costs.multi_hot import have_several, sum_over_labels
from matchers.costs.over_classes import sum_over_classes
from ragged.interop.operands import takes_batches, takes_batches_of_pairs
from ragged.values.checks import check_broadcast, check_flag, check_not_negative, check_same_device, check_share
from ragged.values.precision import wide
from ragged.values.readable import known_within

# What a logarithm of a probability is bounded by, as in torch's binary cross entropy.
_LOWEST_LOG = -100.0
# e to the power of such a logit is a normal float32, and so is the product of two: sums over all classes of moderate
# logits take half as many passes over them.
_MODERATE = 40


# --- classes, from the logit of the target's class -----------------------------------------------------------------


@takes_batches(logits=0)
@torch.no_grad()
def focal_cost(logits: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The change of the focal loss if a prediction gets a target's class (Zhu et al., Deformable DETR, 2021).

    ``alpha (1 - p)^gamma (-log p) - (1 - alpha) p^gamma (-log(1 - p))``

    >>> focal_cost(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([ 0.4112, -0.0866, -1.2371])
    """
    check_values_of(logits, "logits", "(…)", at_least=0)
    check_share(alpha, "alpha")
    check_not_negative(gamma, "gamma")
    logits = wide(logits)
    p, wrong = _sigmoid(logits), _softplus(logits)  # wrong = -log(1 - p), from which -log p differs by the logit
    right = _power(1 - p, gamma).mul_(wrong - logits).mul_(alpha)
    return right.sub_(_power(p, gamma).mul_(wrong), alpha=1 - alpha)


@takes_batches(logits=0, overlap=0)
@torch.no_grad()
def alignment(logits: Tensor, overlap: Tensor, *, alpha: float = 1.0, beta: float = 6.0) -> Tensor:
    """Task alignment ``p^alpha IoU^beta`` with the sigmoid probability p (Feng et al., TOOD, 2021); larger is better.

    >>> alignment(torch.tensor([0.0]), torch.tensor([1.0]))
    tensor([0.5000])
    """
    check_values_of(logits, "logits", "(…)", at_least=0)
    check_values_of(overlap, "overlap", "(…)", at_least=0)
    check_same_device(overlap.device, logits.device, name="overlap", reference="logits")
    check_broadcast(logits.shape, overlap.shape, "logits", "overlap")
    check_not_negative(alpha, "alpha")
    check_not_negative(beta, "beta")
    return _power(_sigmoid(wide(logits)), alpha) * _power(wide(overlap), beta)


@torch.no_grad()
def softlabel_cost(logits: Tensor, overlap: Tensor, others: Tensor) -> Tensor:
    """Binary cross entropy with the IoU as soft label, scaled by its squared error (Lyu et al., RTMDet, 2022).

    ``sum_c BCE(x_c, y_c) (y_c - p_c)²`` with ``y_c`` = IoU for the target's class and 0 for all others.

    Args:
        logits: Logits of the target's class.
        overlap: IoU of the pair.
        others: ``softlabel_background`` of the prediction: the sum if ``y_c`` were 0 for every class.
    """
    logits = wide(logits)
    p, wrong = _sigmoid(logits), _softplus(logits)
    return others + (wrong - logits * overlap) * (overlap - p) ** 2 - wrong * p**2


@torch.no_grad()
def softlabel_background(logits: Tensor) -> Tensor:
    """``sum_c softplus(x_c) p_c²`` of logits ``(…, C)``: the part of ``softlabel_cost`` that no target changes."""

    def of_moderate(x: Tensor) -> Tensor:
        odds = x.exp()
        whole = odds + 1
        return odds.div_(whole).square_().mul_(whole.log_())  # p² (-log(1 - p))

    if known_within(logits, -_MODERATE, _MODERATE):
        return sum_over_classes(of_moderate, logits)
    return sum_over_classes(lambda x: _softplus(x).mul_(_sigmoid(x).square_()), logits)


@torch.no_grad()
def binary_cost(log_score: Tensor, others: Tensor) -> Tensor:
    """Binary cross entropy of the scores of all classes with the target's class as label (Ge et al., YOLOX, 2021).

    Args:
        log_score: ``log_joint_score`` of the target's class.
        others: ``binary_background`` of the prediction: the sum if the label of every class were 0.
    """
    return others + _log_of_rest(log_score) - log_score.clamp(min=_LOWEST_LOG)


@torch.no_grad()
def binary_background(logits: Tensor, objectness: Tensor | None = None) -> Tensor:
    """``-sum_c log(1 - s_c)`` with YOLOX's scores ``s_c``: ``(…, C)`` logits and ``(…)`` objectness give ``(…)``."""

    # With e and f the odds against class and object, s² = 1 / (1 + e)(1 + f): the roots of numbers near 1 are not
    # subtracted from it.
    def of_moderate(x: Tensor, against: Tensor | None = None) -> Tensor:
        odds = x.neg().exp_()
        if against is not None:
            odds = torch.addcmul(against, odds, against + 1)
        whole = odds + 1
        return odds.div_(whole.add_(whole.sqrt())).log_()  # log(1 - s)

    others = () if objectness is None else (objectness,)
    if all(known_within(each, -_MODERATE, _MODERATE) for each in (logits, *others)):
        return -sum_over_classes(of_moderate, logits, *(wide(each).neg().exp_() for each in others))
    return -sum_over_classes(lambda x, *o: _log_of_rest(log_joint_score(x, *o)), logits, *others)


@torch.no_grad()
def binary_costs(logits: Tensor, objectness: Tensor | None = None) -> Tensor:
    """``binary_cost`` if a class were that of the target, of every class: ``(…, C)`` logits give ``(…, C)``."""
    score = log_joint_score(logits, None if objectness is None else objectness.unsqueeze(-1))
    rest = _log_of_rest(score)
    return (rest - rest.sum(-1, keepdim=True)).sub_(score.clamp_(min=_LOWEST_LOG))


@torch.no_grad()
def log_joint_score(logits: Tensor, objectness: Tensor | None = None) -> Tensor:
    """Logarithm of YOLOX's score ``sqrt(sigmoid(class) sigmoid(objectness))``; without objectness that is 1.

    >>> log_joint_score(torch.tensor([0.0]), torch.tensor([0.0])).exp()
    tensor([0.5000])
    """
    score = _log_sigmoid(wide(logits))
    return (score if objectness is None else score + _log_sigmoid(wide(objectness))).mul_(0.5)


@takes_batches_of_pairs(rows={"labels": 0}, columns={"values": 1})
def gather_labels(values: Tensor, labels: Tensor) -> Tensor:
    """Of values ``(…, P, C)``, those of the targets' classes ``(…, G)``: ``(…, G, P)``.

    >>> gather_labels(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1]))
    tensor([[2., 4.]])
    """
    labels = checked_labels(labels, values)
    index = labels.unsqueeze(-1).expand(*labels.shape, values.shape[-2])
    return values.transpose(-1, -2).gather(-2, index)


# --- whole batches -------------------------------------------------------------------------------------------------


@takes_batches_of_pairs(rows={"labels": None}, columns={"logits": 1})
@torch.no_grad()
def softmax_class_cost(logits: Tensor, labels: Tensor, *, mean_over_labels: bool = False) -> Tensor:
    """Minus the softmax probability of the target's class (Carion et al., DETR, 2020).

    Of multi-hot labels y ``(…, G, C)``: minus the probability of all of them together, ``-sum_c y_c p_c``; with
    ``mean_over_labels`` divided by ``sum_c y_c``, as for the tokens of a phrase (Kamath et al., MDETR, 2021). Logits of
    filler tokens are -inf here, so that they have no probability.

    >>> softmax_class_cost(torch.zeros(1, 4, 2), torch.tensor([[1]])).tolist()
    [[[-0.5, -0.5, -0.5, -0.5]]]
    """
    if have_several(labels, logits):
        check_values_of(logits, "logits", "(*batch, P, C)", at_least=2)
        return -sum_over_labels(wide(logits).softmax(-1), labels, mean=mean_over_labels)
    check_flag(mean_over_labels, "mean_over_labels")
    labels = checked_labels(labels, logits)
    return -gather_labels(wide(logits).softmax(-1), labels)


@takes_batches_of_pairs(rows={"labels": None}, columns={"logits": 1})
@torch.no_grad()
def focal_class_cost(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    mean_over_labels: bool = False,
) -> Tensor:
    """``focal_cost`` of every pair.

    Of multi-hot labels y ``(…, G, C)`` it is ``sum_c y_c focal_cost(x_c)``: what calling a prediction by all classes of
    the target changes in the focal loss; with ``mean_over_labels`` divided by ``sum_c y_c``, as Grounding DINO does for
    the tokens of a phrase. Logits of classes that are no label of a target may be anything.

    Both orders give the same. With fewer classes than targets the costs of all classes are computed, and those of the
    targets' classes taken; else the logits are taken first, and the costs of those computed.

    >>> focal_class_cost(torch.tensor([[0.0, 2.0], [0.0, -2.0]]), torch.tensor([1]))
    tensor([[-1.2371,  0.4112]])
    """
    if have_several(labels, logits):
        return sum_over_labels(focal_cost(logits, alpha=alpha, gamma=gamma), labels, mean=mean_over_labels)
    check_flag(mean_over_labels, "mean_over_labels")
    labels = checked_labels(labels, logits)
    if logits.shape[-1] < labels.shape[-1]:
        return gather_labels(focal_cost(logits, alpha=alpha, gamma=gamma), labels)
    return focal_cost(gather_labels(logits, labels), alpha=alpha, gamma=gamma)


@takes_batches_of_pairs(rows={"labels": None}, columns={"logits": 1, "objectness": 0})
@torch.no_grad()
def binary_class_cost(logits: Tensor, labels: Tensor, objectness: Tensor | None = None) -> Tensor:
    """``binary_cost`` of every pair, as in SimOTA; of multi-hot labels ``(…, G, C)`` with all of them as targets.

    >>> binary_class_cost(torch.tensor([[0.0, 2.0], [0.0, -2.0]]), torch.tensor([1]))
    tensor([[1.2914, 2.2914]])
    """
    if have_several(labels, logits):
        check_values_of(logits, "logits", "(*batch, P, C)", at_least=2)
        check_objectness(objectness, logits)
        score = log_joint_score(logits, None if objectness is None else objectness.unsqueeze(-1))
        changes = sum_over_labels(binary_cost(score, torch.zeros((), device=score.device)), labels)
        return changes + binary_background(logits, objectness).unsqueeze(-2)
    labels = checked_labels(labels, logits)
    check_objectness(objectness, logits)
    others = binary_background(logits, objectness).unsqueeze(-2)
    own = None if objectness is None else objectness.unsqueeze(-2)
    return binary_cost(log_joint_score(gather_labels(logits, labels), own), others)


@takes_batches_of_pairs(rows={"labels": 0, "overlap": 1}, columns={"logits": 1})
@torch.no_grad()
def softlabel_class_cost(logits: Tensor, labels: Tensor, overlap: Tensor) -> Tensor:
    """``softlabel_cost`` of every pair with IoU ``(…, G, P)``, as in RTMDet.

    >>> softlabel_class_cost(torch.tensor([[0.0, 2.0], [0.0, -2.0]]), torch.tensor([1]), torch.tensor([[0.5, 0.5]]))
    tensor([[0.3367, 0.3367]])
    """
    own = gather_labels(logits, labels)
    check_of_pairs(overlap, own.shape, logits)
    return softlabel_cost(own, overlap, softlabel_background(logits).unsqueeze(-2))


@takes_batches_of_pairs(rows={"labels": 0, "overlap": 1}, columns={"logits": 1})
@torch.no_grad()
def alignment_metric(
    logits: Tensor, labels: Tensor, overlap: Tensor, *, alpha: float = 1.0, beta: float = 6.0
) -> Tensor:
    """``alignment`` of every pair with IoU ``(…, G, P)``, as in TOOD. Larger is better: its negative is a cost.

    >>> alignment_metric(torch.tensor([[0.0, 2.0]]), torch.tensor([1]), torch.tensor([[0.5]]))
    tensor([[0.0138]])
    """
    own = gather_labels(logits, labels)
    check_of_pairs(overlap, own.shape, logits)
    return alignment(own, overlap, alpha=alpha, beta=beta)


# On a CPU torch computes the last few elements of a tensor one by one, and some functions round differently there.
# These do not: the same pair costs the same at any place, so that equal targets tie.


def _sigmoid(values: Tensor) -> Tensor:
    if values.device.type != "cpu":
        return values.sigmoid()
    return (-values).exp_().add_(1).reciprocal_()


def _softplus(values: Tensor) -> Tensor:
    if values.device.type != "cpu":
        return F.softplus(values, threshold=_MODERATE)
    return values.abs().neg_().exp_().log1p_().add_(values.clamp(min=0))


def _log_sigmoid(values: Tensor) -> Tensor:
    return -_softplus(-values) if values.device.type == "cpu" else F.logsigmoid(values)


def _power(values: Tensor, exponent: float) -> Tensor:
    if exponent == 0:
        return values * 0 + 1  # not for NaN
    if exponent in (0.5, 1, 2, 3):
        return values if exponent == 1 else values**exponent
    if exponent in (4, 6):
        return values.square() ** (exponent / 2)
    return values.log().mul_(exponent).exp_()


def _log_of_rest(log_score: Tensor) -> Tensor:
    """``log(1 - score)``, exact for scores near 0 and near 1."""
    return torch.expm1(log_score).neg_().log_().clamp_(min=_LOWEST_LOG)
