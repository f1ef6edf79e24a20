"""The targets of predictions, and the rows of those that have one, packed by the host and with a static shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cases import EVERY_CRITERION
from torch import Tensor

from losses import AssignedTargets, Positives
from losses.core import positives
from matchers import Assignment, Targets

CASE = EVERY_CRITERION["yolox"]
SIZES = [3, 0, 1, 6]
close = torch.testing.assert_close


@pytest.fixture(params=["packed", "static"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of ``Positives``: that of the host, and the one without a synchronisation."""
    if request.param == "static":
        monkeypatch.setattr(positives, "values_are_readable", lambda tensor: False)
    return request.param


def assignment_of(index: Tensor, targets: Targets) -> Assignment:
    num_targets = targets.num_targets.expand(index.shape[:-1])
    return Assignment.from_index(index, num_targets=num_targets, max_num_targets=targets.max_num_targets)


def test_ignored_and_weighted_dense_targets() -> None:
    labels = torch.tensor([[1, -2, 3, -1, 0]])
    weights = torch.tensor([[2.0, 1.0, 0.0, 0.5, 1.0]])
    boxes = torch.rand(1, 5, 4)
    found = AssignedTargets.from_dense(labels, boxes, num_classes=3, weights=weights)
    assert found.labels.tolist() == [[1, -2, -2, -1, 0]]
    assert found.num_positives().tolist() == [3.0]
    assert found.counted(torch.ones(1, 5)).tolist() == [[2.0, 0.0, 0.0, 0.5, 1.0]]
    close(found.boxes, boxes[0, [0, 4]])
    close(found.counted_rows(torch.ones(2)), torch.tensor([2.0, 1.0]))


def test_the_weight_of_an_ignored_prediction_may_be_anything() -> None:
    labels, weights = torch.tensor([[1, -2, -1]]), torch.tensor([[2.0, torch.nan, 0.5]])
    found = AssignedTargets.from_dense(labels, torch.rand(1, 3, 4), num_classes=3, weights=weights)
    assert found.counted(torch.ones(1, 3)).tolist() == [[2.0, 0.0, 0.5]]
    assert found.num_positives().tolist() == [2.0]


class TestAssignedTargets:
    @pytest.mark.parametrize("max_pairs", [3, 4], ids=["rows of pairs", "rows of predictions"])
    def test_labels_and_boxes(self, max_pairs: int, rows: str) -> None:
        targets = CASE.targets(SIZES)
        index = torch.tensor([[2, -1, 0, 2], [-1, -2, -1, -1], [0, 0, -2, -1], [5, 4, -1, 0]])
        assigned = AssignedTargets.of(targets, replace(assignment_of(index, targets), max_pairs=max_pairs))
        own = targets.labels.tensor
        expected = [[int(own[k, i]) if i >= 0 else i for i in row] for k, row in enumerate(index.tolist())]
        assert assigned.labels.tolist() == expected
        wanted = [targets.boxes.tensor[k, i] for k, row in enumerate(index.tolist()) for i in row if i >= 0]
        valid = assigned.positives.valid
        if rows == "static":
            assert valid is not None and not valid.all()
            order = (assigned.positives.sample * 4 + assigned.positives.prediction)[valid].argsort()
            close(assigned.boxes[valid][order], torch.stack(wanted))
            assert assigned.boxes[~valid].eq(0).all()
        else:
            assert valid is None
            close(assigned.boxes, torch.stack(wanted))
        close(assigned.num_positives(), torch.tensor([3.0, 0.0, 2.0, 3.0]))

    def test_errors(self) -> None:
        boxes = torch.zeros(1, 2, 4)
        with pytest.raises(ValueError, match=r"labels must be a class 0 … 2, 3 or -1 .* got 4 for prediction 1"):
            AssignedTargets.from_dense(torch.tensor([[0, 4]]), boxes, num_classes=3)
        with pytest.raises(ValueError, match=r"boxes must have the shape of the labels.*\(1, 3, 4\), got \(1, 2, 4\)"):
            AssignedTargets.from_dense(torch.zeros(1, 3, dtype=torch.int64), boxes, num_classes=3)
        with pytest.raises(TypeError, match="integer"):
            AssignedTargets.from_dense(torch.zeros(1, 2), boxes, num_classes=3)
        with pytest.raises(ValueError, match="weights must have the shape of the labels"):
            AssignedTargets.from_dense(
                torch.zeros(1, 2, dtype=torch.int64), boxes, num_classes=3, weights=torch.ones(2)
            )
        targets = CASE.targets(SIZES)
        assignment = assignment_of(torch.full((4, 3), -1), targets)
        with pytest.raises(ValueError, match="of 6 targets at most, there are 1"):
            AssignedTargets.of(CASE.targets([1, 1, 1, 1]), assignment)
        with pytest.raises(ValueError, match=r"batch shape \(4,\) of the assignment must end with \(2,\)"):
            AssignedTargets.of(CASE.targets([6, 6]), assignment)


@pytest.mark.parametrize("max_pairs", [7, 9], ids=["rows of pairs", "rows of predictions"])
def test_positives_read_and_write(max_pairs: int, rows: str) -> None:
    targets, count = CASE.targets(SIZES), 9
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(-2, 1, (2, 4, count), generator=generator)
    index[:, 1] = index[:, 1].clamp(max=-1)
    assert 0 < (index >= 0).sum(-1).max() <= 7
    found = Positives.of(replace(assignment_of(index, targets), max_pairs=max_pairs))
    assert len(found) == ((index >= 0).sum() if rows == "packed" else 8 * max_pairs)
    values = torch.randn(2, 4, count, 3, generator=generator, requires_grad=True)
    for layout in (values, values.mT.contiguous().mT):
        read = found.of_predictions(layout)
        (gradient,) = torch.autograd.grad(read.sum(), values)
        close(gradient, (index >= 0).unsqueeze(-1).expand(-1, -1, -1, 3).float())
    back = found.per_prediction(found.of_predictions(values)[:, 0])
    close(back, values[..., 0].where(index >= 0, 0))
    close(found.per_sample(found.of_predictions(values)[:, 0]), back.sum(-1))
    priors = torch.rand(count, 4, generator=generator)
    close(found.per_prediction(found.of_priors(priors)[:, 1]), priors[:, 1].where(index >= 0, 0))
    assert found.batch_shape == (2, 4) and (found.valid is None) == (rows == "packed")


def test_what_is_read_of_no_target_is_part_of_the_graph() -> None:
    assignment = Assignment.from_index(torch.full((1, 2), -1), num_targets=torch.tensor([0]))
    values = torch.zeros(1, 0, 4, requires_grad=True)
    rows = Positives.of(assignment).of_targets(values)
    assert rows.shape == (0, 4)
    (gradient,) = torch.autograd.grad(rows.sum(), values)
    assert gradient.shape == values.shape
