"""How values of predictions become the terms of a loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from losses.core.normalizer import Normalizer
from losses.core.positives import Positives
from losses.core.terms import Term, count_terms, detached, reduce_terms, total
from matchers import Assignment
from ragged import RaggedBatch

close = torch.testing.assert_close
VALUES = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
FEW = torch.tensor([0.0, 4.0])
MANY = torch.tensor([2.0, 8.0])


def reduced(terms: Any, reduction: str = "mean", **options: Any) -> dict[str, Any]:
    return reduce_terms(terms, reduction=reduction, **({"normalizer": Normalizer()} | options))


def rows() -> Positives:
    index = torch.tensor([[0, -1, 0], [-1, -1, 1]])
    return Positives.of(Assignment.from_index(index, num_targets=torch.tensor([1, 2])))


def test_reductions() -> None:
    terms = {"loss": Term(VALUES, {"few": FEW}, weight=2.0)}
    close(reduced(terms)["loss"], torch.tensor(2 * 21.0 / 4))
    close(reduced(terms, "sum")["loss"], torch.tensor(42.0))
    # Each image is divided by its own count, or by 1.
    close(reduced(terms, "sample")["loss"], torch.tensor([12.0, 30.0 / 4]))
    unreduced = reduced(terms, "none")["loss"]
    assert isinstance(unreduced, RaggedBatch)
    close(unreduced.tensor, 2 * VALUES)


def test_rows() -> None:
    terms = {"loss": Term(torch.tensor([1.0, 10.0, 100.0]), {"few": FEW}, rows(), 0.5)}
    close(reduced(terms, "none")["loss"].tensor, torch.tensor([[0.5, 0.0, 5.0], [0.0, 0.0, 50.0]]))
    close(reduced(terms, "sample")["loss"], torch.tensor([5.5, 12.5]))
    close(reduced(terms)["loss"], torch.tensor(55.5 / 4))


def test_several_terms_of_one_name_add_up() -> None:
    parts = [Term(VALUES, {"few": FEW}), Term(torch.ones(3), {"many": MANY}, rows())]
    for reduction in ("mean", "sum", "sample"):
        found = reduced({"loss": parts}, reduction)["loss"]
        close(found, reduced({"loss": parts[0]}, reduction)["loss"] + reduced({"loss": parts[1]}, reduction)["loss"])
    found = reduced({"loss": parts}, "none")["loss"].tensor
    close(found, VALUES + torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))


def test_a_divisor_of_several_counts() -> None:
    seen = []

    def divisor(few: Tensor, many: Tensor) -> Tensor:
        seen.append((few.tolist(), many.tolist()))
        return few + 2 * many

    terms = {"loss": Term(VALUES, {"few": FEW, "many": MANY}, divisor=divisor)}
    close(reduced(terms)["loss"], torch.tensor(21.0 / 24))
    close(reduced(terms, "sample")["loss"], torch.tensor([6.0 / 4, 15.0 / 20]))
    assert seen == [(4.0, 10.0), ([0.0, 4.0], [2.0, 8.0])]


def test_minimum_of_the_normalizer() -> None:
    terms = {"loss": Term(VALUES, {"few": FEW})}
    close(reduced(terms, normalizer=Normalizer(minimum=10.0))["loss"], torch.tensor(2.1))
    close(reduced(terms, global_count=0.0)["loss"], torch.tensor(21.0))


def test_layers_stay_apart() -> None:
    terms = {"loss": Term(torch.stack([VALUES, 10 * VALUES]), {"few": torch.stack([FEW, 2 * FEW])})}
    close(reduced(terms, layers=1)["loss"], torch.tensor([21.0 / 4, 210.0 / 8]))
    close(reduced(terms, "sum", layers=1)["loss"], torch.tensor([21.0, 210.0]))
    assert reduced(terms, "sample", layers=1)["loss"].shape == (2, 2)
    assert reduced(terms, "none", layers=1)["loss"].tensor.shape == (2, 2, 3)
    close(reduced(terms)["loss"], torch.tensor(231.0 / 12))
    counts = count_terms(terms, Normalizer(), layers=1)
    close(counts, {"few": torch.tensor([4.0, 8.0])})
    close(reduced(terms, layers=1, global_count={"few": counts["few"] * 2})["loss"], torch.tensor([21 / 8, 210 / 16]))
    close(reduced(terms, layers=1, global_count=7.0)["loss"], torch.tensor([3.0, 30.0]))


def test_counts_of_the_batch() -> None:
    terms = {"one": Term(VALUES, {"few": FEW}), "two": [Term(VALUES, {"few": FEW}), Term(VALUES, {"many": MANY})]}
    close(count_terms(terms, Normalizer()), {"few": torch.tensor(4.0), "many": torch.tensor(10.0)})


@pytest.mark.parametrize("count", [3, 3.0, torch.tensor(3), torch.tensor([3.0]), {"few": 3.0}])
def test_given_count(count: Any) -> None:
    terms = {"loss": Term(VALUES, {"few": FEW})}
    close(reduced(terms, global_count=count)["loss"], torch.tensor(7.0))
    close(reduced(terms, "sample", global_count=count), reduced(terms, "sample"))


def test_given_counts_that_do_not_fit() -> None:
    terms = {"loss": Term(VALUES, {"few": FEW})}
    with pytest.raises(KeyError, match=r"global_count has no 'few', but \['many'\]"):
        reduced(terms, global_count={"many": 1.0})
    with pytest.raises(ValueError, match=r"global_count of 'few' must be a number or have shape \(\), got \(2,\)"):
        reduced(terms, global_count=torch.ones(2))


def test_a_count_is_a_constant() -> None:
    values, count = VALUES.clone().requires_grad_(), torch.tensor([1.0, 2.0], requires_grad=True)
    loss = reduced({"loss": Term(values, {"few": count})})["loss"]
    gradients = torch.autograd.grad(loss, [values, count], allow_unused=True)
    close(gradients[0], torch.full((2, 3), 1 / 3))
    assert gradients[1] is None
    given = reduced({"loss": Term(values, {"few": count})}, global_count=count.sum())["loss"]
    assert torch.autograd.grad(given, [values, count], allow_unused=True)[1] is None


def test_total_and_detached() -> None:
    values = VALUES.clone().requires_grad_()
    losses = reduced({"a": Term(values, {"few": FEW}), "b": Term(values, {"many": MANY}, weight=3.0)})
    close(total(losses), torch.tensor(21.0 / 4 + 63.0 / 10))
    assert total(losses).requires_grad
    logged = detached(losses)
    close(logged, {"a": torch.tensor(5.25), "b": torch.tensor(6.3)})
    assert not any(value.requires_grad for value in logged.values())
    samples = reduced({"a": Term(values, {"few": FEW}), "b": Term(values, {"many": MANY})}, "sample")
    close(total(samples), samples["a"] + samples["b"])
    unreduced = reduced({"a": Term(values, {"few": FEW}), "b": Term(values, {"many": MANY})}, "none")
    close(total(unreduced).tensor, 2 * values)
    assert not detached(unreduced)["a"].tensor.requires_grad
    with pytest.raises(ValueError, match="no loss term"):
        total({})


BAD_TERMS: list[tuple[Any, dict[str, Any], str]] = [
    (torch.zeros(6, 2, 3), {"counts": {"num_positives": FEW}}, r"the count 'num_positives' must have the batch shape \(6, 2\) of values \(6, 2, 3\), got \(2,\): .*is count.expand\(6, 2\)"),
    (VALUES, {"counts": {"few": FEW.sum()}}, r"the count 'few' must have the batch shape \(2,\) of values \(2, 3\), got \(\)"),
    (VALUES, {"counts": {"few": FEW, "many": MANY.unsqueeze(-1)}}, r"the count 'many' must have the batch shape"),
    (VALUES, {"counts": {"few": FEW}, "per_image": torch.ones(3)}, r"per_image must have the batch shape \(2,\)"),
    (torch.ones(3), {"counts": {"few": torch.ones(3)}, "rows": rows()}, r"the count 'few' must have the batch shape \(2,\) of rows of \(2, 3\), got \(3,\)"),
    (torch.ones(4), {"counts": {"few": FEW}, "rows": rows()}, r"values of rows must have shape \(3,\), one for each row, got \(4,\)"),
    (torch.ones(()), {"counts": {}}, r"must have shape \(\*batch, P\), got a single number"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "options", "said"), BAD_TERMS)
def test_shapes_of_a_term_are_checked(values: Tensor, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Term(values, **options)


def test_the_same_count_for_all_layers() -> None:
    """The loss is that of each layer, and not as many times too large as there are layers."""
    values = torch.rand(6, 2, 3)
    term = {"loss": Term(values, {"few": FEW.expand(6, 2)})}
    close(reduced(term, layers=1)["loss"], values.sum((1, 2)) / 4)
    close(reduced(term)["loss"], values.sum() / 24)
    shared = {"loss": Term(values, {"few": FEW.unsqueeze(0)})}
    close(reduced(shared, layers=1)["loss"], values.sum((1, 2)) / 4)
    # Of images, each has a count of its own.
    with pytest.raises(ValueError, match=r"must have the batch shape \(6, 2\) of values \(6, 2, 3\), got \(1, 2\)"):
        reduced(shared)
    with pytest.raises(ValueError, match=r"must have the batch shape"):
        Term(values, {"few": torch.ones(6, 1)})
