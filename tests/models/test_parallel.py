"""Work on all cores."""

from __future__ import annotations

import threading

import pytest
import torch

from webui.models.parallel import Cores


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cores(two_threads: None) -> Cores:
    return Cores(torch.device("cpu"))


def test_all_items_are_worked_off_once_without_gradients_and_the_number_of_threads_stays(cores: Cores) -> None:
    weight = torch.ones(2, requires_grad=True)
    for _ in range(2):
        results = cores.map(lambda number: (number, (weight * number).requires_grad), range(50))
        assert sorted(results) == [(number, False) for number in range(50)]
        assert torch.get_num_threads() == 2
        assert torch.is_grad_enabled()


def test_each_thread_computes_alone(cores: Cores) -> None:
    both = threading.Barrier(2)

    def work(_: int) -> tuple[str, int]:
        both.wait(timeout=20)  # so that neither takes both
        return threading.current_thread().name, torch.get_num_threads()

    results = cores.map(work, range(2))
    assert len({name for name, _ in results}) == 2
    assert [threads for _, threads in results] == [1, 1]


def test_elsewhere_the_callers_thread_does_it_all(two_threads: None) -> None:
    here = threading.current_thread()
    assert Cores(torch.device("meta")).map(lambda _: threading.current_thread() is here, range(3)) == [True] * 3


def test_an_error_reaches_the_caller(cores: Cores) -> None:
    with pytest.raises(ZeroDivisionError):
        cores.map(lambda number: 1 / number, [1, 0, 2])
    assert torch.get_num_threads() == 2
