"""What losses say of themselves: closed forms of a user's own, who inherits them, and what is known of other losses."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses import (
    ATSSCriterion,
    BinaryCrossEntropy,
    DetectionLoss,
    FocalLoss,
    GIoULoss,
    IoUAwareBinaryCrossEntropy,
    LossModule,
    MatchabilityAwareLoss,
    MultipleObjectiveLoss,
    NegativeProbLoss,
    QualityFocalLoss,
    RTMDetCriterion,
    SigmoidFocalLoss,
    VarifocalLoss,
    binary_cross_entropy,
)
from losses.modules.adapters import traits_of
from losses.modules.classes import class_values
from losses.modules.traits import LossTraits
from matchers import Hungarian

close = torch.testing.assert_close
WITH_A_BACKGROUND = (
    BinaryCrossEntropy,
    FocalLoss,
    IoUAwareBinaryCrossEntropy,
    MatchabilityAwareLoss,
    QualityFocalLoss,
    VarifocalLoss,
)


class Slow(LossModule):
    """A focal loss whose labelled classes have a binary cross entropy."""

    def __init__(self, *, exponent: float = 1.5, detach: bool = False, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight=loss_weight)
        self.exponent, self.detach = exponent, detach

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        values = binary_cross_entropy(logits, targets, scores=scores)
        labelled = targets.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)
        p = (logits.detach() if self.detach else logits).sigmoid()
        return self.reduced(torch.where(labelled, values, p**self.exponent * values))


class Fast(Slow):
    """The same, which says so."""

    def background(self) -> Any:
        return self.exponent, self.loss_weight, self.detach


def make(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 6, 5, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(-1, 5, (4, 6), generator=generator)
    return logits.requires_grad_(), labels, torch.rand(4, 6, generator=generator, dtype=torch.float64)


class TestOneOfYourOwn:
    @pytest.mark.parametrize("detach", [False, True])
    @pytest.mark.parametrize("exponent", [0.0, 0.5, 1.5, 2.0])
    def test_the_fast_path_gives_what_the_slow_one_does(self, exponent: float, detach: bool) -> None:
        logits, labels, scores = make()
        found, expected = (
            class_values(made(exponent=exponent, detach=detach, loss_weight=0.75), logits, labels, scores)
            for made in (Fast, Slow)
        )
        assert type(found.grad_fn) is not type(expected.grad_fn)  # another way to the same
        close(found, expected, rtol=1e-10, atol=1e-12)
        slopes = [torch.autograd.grad((each * scores).sum(), logits)[0] for each in (found, expected)]
        close(*slopes, rtol=1e-10, atol=1e-12)

    def test_in_a_criterion(self) -> None:
        maps = [torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))], [torch.full((1, 4, 4, 4), 8.0)]
        targets = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
        one, other = (RTMDetCriterion(3, loss_cls=made(), strides=(8,))(maps, targets) for made in (Fast, Slow))
        close(one["loss_cls"], other["loss_cls"])

    def test_nothing_is_known_by_default(self) -> None:
        assert LossModule.pair_cost is None and Slow.pair_cost is None
        assert Slow().background() is None
        assert Slow().per_class(torch.zeros(2, 3)) is None
        assert Slow().class_weights(torch.zeros(2, 3)) is None
        assert Slow().takes_scores() and not GIoULoss().takes_scores()


class TestOfLabelledClasses:
    @pytest.mark.parametrize("made", WITH_A_BACKGROUND)
    def test_the_loss_of_the_labelled_class_alone(self, made: type[LossModule]) -> None:
        loss, (logits, _, scores) = made(loss_weight=0.5), make()
        logits = logits[..., 0]
        for given in (scores, torch.zeros_like(scores), None):
            found, expected = loss.of_labelled(logits, given), LossTraits.of_labelled(loss, logits, given)
            close(found, expected, rtol=1e-10, atol=1e-12)
            slopes = [torch.autograd.grad(each.sum(), logits)[0] for each in (found, expected)]
            close(*slopes, rtol=1e-10, atol=1e-12)

    def test_another_forward_is_asked_itself(self) -> None:
        class Twice(FocalLoss):
            def forward(self, *args: Any, **kwargs: Any) -> Tensor:
                return super().forward(*args, **kwargs) * 2

        logits, scores = torch.randn(3, generator=torch.Generator().manual_seed(0)), torch.ones(3)
        close(Twice().of_labelled(logits, scores), 2 * FocalLoss().of_labelled(logits, scores))


class TestWhoInherits:
    @pytest.mark.parametrize("made", WITH_A_BACKGROUND)
    def test_another_forward_has_no_background(self, made: type[LossModule]) -> None:
        class Twice(made):  # type: ignore[misc, valid-type]
            def forward(self, *args: Any, **kwargs: Any) -> Tensor:
                return super().forward(*args, **kwargs) * 2

        class Deeper(Twice):
            pass

        logits, labels, scores = make()
        assert made().background() is not None
        for derived in (Twice, Deeper):
            assert derived().background() is None and derived().per_class(logits) is None
            close(class_values(derived(), logits, labels, scores), class_values(made(), logits, labels, scores) * 2)

    def test_another_forward_of_a_mixin(self) -> None:
        class Doubled:
            def forward(self, *args: Any, **kwargs: Any) -> Tensor:
                return super().forward(*args, **kwargs) * 2  # type: ignore[misc]

        class Twice(Doubled, FocalLoss):
            pass

        assert Twice().background() is None

    def test_another_weight(self) -> None:
        class Halved(FocalLoss):
            def reduced(self, loss: Tensor) -> Tensor:
                return super().reduced(loss) / 2

        logits, labels, scores = make()
        close(class_values(Halved(), logits, labels, scores), class_values(FocalLoss(), logits, labels, scores) / 2)

    def test_other_defaults_are_the_same_formula(self) -> None:
        class Strict(FocalLoss):
            def __init__(self) -> None:
                super().__init__(alpha=None, gamma=3.0)

        assert Strict().background() == (3.0, 1.0, False)

    def test_saying_it_again(self) -> None:
        class Twice(FocalLoss):
            def forward(self, *args: Any, **kwargs: Any) -> Tensor:
                return super().forward(*args, **kwargs) * 2

            def background(self) -> Any:
                exponent, scale, detach = super().background()
                return exponent, 2 * scale, detach

        class Faster(Twice):
            pass

        logits, labels, scores = make()
        expected = class_values(FocalLoss(), logits, labels, scores) * 2
        for made in (Twice, Faster):
            assert made().background() == (2.0, 1.5, False)
            close(class_values(made(), logits, labels, scores), expected)

    def test_costs_of_pairs(self) -> None:
        class Twice(NegativeProbLoss):
            def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
                return super().forward(logits, targets) * 2

        class Again(SigmoidFocalLoss):
            pass

        assert Twice.pair_cost is None and Twice().per_class(torch.zeros(1, 3)) is None
        assert Again.pair_cost is SigmoidFocalLoss.pair_cost

    def test_a_sum_with_another_forward(self) -> None:
        class Scaled(MultipleObjectiveLoss):
            def forward(self, *args: Any, **kwargs: Any) -> Tensor:
                return super().forward(*args, **kwargs) * 2

        parts = [nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]), reduction="none")]
        logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
        assert traits_of(Scaled(parts)).per_class(logits) is None
        expected = traits_of(MultipleObjectiveLoss(parts)).with_labels(logits, labels, one_hot=False) * 2
        close(traits_of(Scaled(parts)).with_labels(logits, labels, one_hot=False), expected)
        assert traits_of(Scaled(parts)).class_weights(logits) is parts[0].weight


class TestLossesOfOthers:
    def test_what_is_derived_from_torch_is_asked_itself(self) -> None:
        class Entropy(nn.CrossEntropyLoss):
            def forward(self, input: Tensor, target: Tensor) -> Tensor:
                return super().forward(input, target) * 2

        class Binary(nn.BCEWithLogitsLoss):
            def forward(self, input: Tensor, target: Tensor) -> Tensor:
                return super().forward(input, target) * 2

        logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, -1])
        for made in (Entropy, Binary):
            assert traits_of(made(reduction="none")).per_class(logits) is None
        twice, once = (
            traits_of(each(reduction="none")).with_labels(logits, labels, one_hot=False)
            for each in (Binary, nn.BCEWithLogitsLoss)
        )
        close(twice, once * 2)

    @pytest.mark.parametrize("one_hot", [False, True])
    def test_targets_are_labels_or_one_hot(self, one_hot: bool) -> None:
        seen: list[Tensor] = []

        def loss(logits: Tensor, targets: Tensor) -> Tensor:
            seen.append(targets)
            return logits

        labels = torch.tensor([1, -1])
        traits_of(loss).with_labels(torch.zeros(2, 2), labels, one_hot=one_hot)
        assert seen[0].tolist() == ([[0.0, 1.0], [0.0, 0.0]] if one_hot else [1, -1])

    def test_a_module_may_know_all_classes(self) -> None:
        class Known(nn.Module):
            def per_class(self, logits: Tensor) -> Any:
                return NegativeProbLoss().per_class(logits)

        known = traits_of(Known()).per_class(torch.zeros(1, 4))
        assert known is not None and known.own.tolist() == [[-0.25] * 4]

    def test_a_sum_that_holds_one_of_torch(self) -> None:
        logits, labels, scores = make()
        both = MultipleObjectiveLoss([nn.BCEWithLogitsLoss(reduction="none"), FocalLoss()], [1.0, 0.5])
        parts = [class_values(each, logits, labels, scores) for each in (BinaryCrossEntropy(), FocalLoss())]
        close(class_values(both, logits, labels, scores), parts[0] + 0.5 * parts[1])
        mixed = MultipleObjectiveLoss([FocalLoss(), NegativeProbLoss()])
        with pytest.raises(TypeError, match="loss_cls is called as .*, but MultipleObjectiveLoss takes no scores"):
            ATSSCriterion(3, loss_cls=mixed)


class TestWhatUsersGaveStaysAsItIs:
    def test_modules_of_torch(self) -> None:
        given = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]), reduction="none")
        criterion = DetectionLoss(given, GIoULoss(), Hungarian())
        assert criterion.cls_loss_module is given and not isinstance(given, LossTraits)
        assert list(criterion.state_dict()) == ["cls_loss_module.weight"]
        assert "(cls_loss_module): CrossEntropyLoss()" in repr(criterion)
        assert criterion.to(torch.float64).cls_loss_module.weight.dtype == torch.float64
        for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
            assert type(other.cls_loss_module) is nn.CrossEntropyLoss
            assert other.cls_loss_module.weight.tolist() == [1.0, 2.0, 3.0]

    def test_functions_and_parameters(self) -> None:
        given = nn.BCEWithLogitsLoss(reduction="none")
        given.pos_weight = nn.Parameter(torch.ones(3))
        assert ATSSCriterion(3, loss_cls=binary_cross_entropy).loss_cls is binary_cross_entropy
        assert dict(ATSSCriterion(3, loss_cls=given).named_parameters())["loss_cls.pos_weight"] is given.pos_weight

    def test_another_loss_can_be_set_later(self) -> None:
        criterion = RTMDetCriterion(3, loss_cls=Fast(), strides=(8,))
        maps = [torch.zeros(1, 3, 4, 4)], [torch.full((1, 4, 4, 4), 8.0)]
        targets = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
        criterion.loss_cls = nn.BCEWithLogitsLoss(reduction="none")
        expected = RTMDetCriterion(3, loss_cls=BinaryCrossEntropy(), strides=(8,))(maps, targets)
        close(criterion(maps, targets), expected)
