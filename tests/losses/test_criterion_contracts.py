"""What every criterion keeps to: images that do not see each other, padding, empties, precision, no synchronisation."""

from __future__ import annotations

import pickle

import pytest
import torch
from cases import EVERY_CRITERION, VARIANTS
from effort import mostly_graphs, mostly_hunts, mostly_thorough, thorough
from torch._dynamo.testing import CompileCounterWithBackend

from losses.testing import CRITERION_PROPERTIES, applicable, reasons

PROMISES = [(name, prop) for name, case in EVERY_CRITERION.items() for prop in applicable(case)]
EAGER = [(name, prop) for name, prop in PROMISES if prop != "compilation"]
# What is compiled where everything else is left to a run of graphs.
SMOKE = {"detr", "yolox"}
COMPILED = [name for name in EVERY_CRITERION if name not in VARIANTS - SMOKE]


@pytest.mark.parametrize(
    ("name", "prop"), mostly_hunts(EAGER, usual=[each for each in EAGER if each[0] not in VARIANTS])
)
def test_every_criterion(name: str, prop: str) -> None:
    CRITERION_PROPERTIES[prop](EVERY_CRITERION[name])


@pytest.mark.parametrize("name", mostly_graphs(COMPILED, usual=SMOKE))
def test_every_criterion_compiles(name: str) -> None:
    CRITERION_PROPERTIES["compilation"](EVERY_CRITERION[name])


@thorough
@pytest.mark.parametrize("name", sorted(VARIANTS - SMOKE))
def test_every_variant_compiles(name: str) -> None:
    CRITERION_PROPERTIES["compilation"](EVERY_CRITERION[name])


@pytest.mark.graphs
@pytest.mark.parametrize("name", mostly_thorough(EVERY_CRITERION, usual={"deim", "yolox"}))
def test_few_graphs_for_batches_of_all_sizes(name: str) -> None:
    torch._dynamo.reset()
    case, counter = EVERY_CRITERION[name], CompileCounterWithBackend("eager")
    criterion = case.make()
    compiled = torch.compile(
        lambda predictions, targets: case.losses(criterion, predictions, targets), fullgraph=True, backend=counter
    )
    for sizes in ([3, 2, 0, 1], [5, 2], [4, 4, 4], [2, 7, 1, 1, 3], [6, 2, 2]):
        predictions, targets = case.predictions(sizes), case.targets(sizes)
        found = compiled(predictions, targets)
        torch.testing.assert_close(found, case.losses(criterion, predictions, targets), rtol=1e-4, atol=1e-5)
    assert counter.frame_count <= 3


@thorough
@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_machine_code_computes_the_same(name: str) -> None:
    torch._dynamo.reset()
    case = EVERY_CRITERION[name]
    criterion, predictions, targets = case.make(), case.predictions([3, 0, 1]), case.targets([3, 0, 1])
    expected = case.value_and_gradients(criterion, predictions, targets)
    found = case.value_and_gradients(torch.compile(criterion, fullgraph=True), predictions, targets)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_can_be_pickled(name: str) -> None:
    case = EVERY_CRITERION[name]
    predictions, targets = case.predictions([3, 0]), case.targets([3, 0])
    criterion = case.make()
    restored = pickle.loads(pickle.dumps(criterion))
    expected = case.losses(criterion, predictions, targets)
    torch.testing.assert_close(case.losses(restored, predictions, targets), expected, rtol=0, atol=0)


# What needs to know which predictions are logits and boxes, and that they are queries.
OF_QUERIES = {
    "prediction order", "classes", "axes", "mirror", "shift", "scale", "negatives", "layers", "large images",
}  # fmt: skip


def test_no_property_is_skipped_without_a_reason() -> None:
    for name, case in EVERY_CRITERION.items():
        assert reasons(case).keys() <= OF_QUERIES | case.without.keys(), name
    assert reasons(EVERY_CRITERION["detr in groups"]).keys() == {"large images", "layers"}
