"""One criterion or matcher in several threads: each gets what it would get alone, to the last bit."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import EVERY_CRITERION, EVERY_MATCHER, scene
from runs import assert_same_bits, run_criterion, run_matcher
from torch import Tensor

pytestmark = pytest.mark.hunts

SCENES = ([3, 0, 1, 6], [0, 2], [7], [1, 1, 5])
ROUNDS = 2
SECONDS = 60
Job = Callable[[], list[Tensor]]


@pytest.fixture(autouse=True)
def _switches_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(jobs: Sequence[Job]) -> list[list[list[Tensor]]]:
    """Every job again and again in a thread of its own, all started together."""
    start = threading.Barrier(len(jobs))

    def work(job: Job) -> list[list[Tensor]]:
        start.wait(SECONDS)
        return [job() for _ in range(ROUNDS)]

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(SECONDS) for future in [pool.submit(work, job) for job in jobs]]


def check(jobs: Sequence[Job]) -> None:
    expected = [job() for job in jobs]
    for rounds, alone in zip(at_once(jobs), expected, strict=True):
        for found in rounds:
            assert_same_bits(found, alone)


def criterion_jobs(name: str, threads: int) -> list[Job]:
    case = EVERY_CRITERION[name]
    criterion = case.make()
    inputs = [(case.predictions(sizes, seed), case.targets(sizes, seed)) for seed, sizes in enumerate(SCENES)]
    return [lambda own=own: run_criterion(case, criterion, *own) for own in inputs[:threads]]


def matcher_jobs(name: str, threads: int) -> list[Job]:
    matcher, priors = EVERY_MATCHER[name]
    inputs = [scene(*sizes, seed=seed) for seed, sizes in enumerate(SCENES)]
    return [lambda own=own: run_matcher(matcher, priors, *own) for own in inputs[:threads]]


def without_gradient(job: Job) -> Job:
    @torch.no_grad()
    def run() -> list[Tensor]:
        assert not torch.is_grad_enabled()
        return job()

    return run


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_criteria(name: str, threads: int) -> None:
    check(criterion_jobs(name, threads))


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_criteria_with_and_without_gradients(name: str) -> None:
    first, second, *_ = criterion_jobs(name, 2)
    assert len(first()) > len(without_gradient(first)())
    check([without_gradient(first), second])
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_matchers(name: str, threads: int) -> None:
    check(matcher_jobs(name, threads))


@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_matchers_with_and_without_gradients(name: str) -> None:
    first, second = matcher_jobs(name, 2)
    check([without_gradient(first), second])


def test_what_is_shared_would_show() -> None:
    """The check sees a criterion that keeps its input on itself."""
    shared: dict[str, Tensor] = {}
    met = threading.Barrier(2)

    def job(value: float) -> list[Tensor]:
        shared["input"] = torch.tensor([value])
        if threading.current_thread() is not threading.main_thread():
            met.wait(SECONDS)
        return [shared["input"] * 2]

    with pytest.raises(AssertionError):
        check([lambda: job(1.0), lambda: job(2.0)])
