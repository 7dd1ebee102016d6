"""Work on all cores."""

from __future__ import annotations

import threading

import pytest
import torch

from webui.models.parallel import on_every_core

CPU = torch.device("cpu")


def test_all_items_are_worked_off_once_without_gradients_and_the_number_of_threads_stays() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        weight = torch.ones(2, requires_grad=True)
        results = on_every_core(CPU, lambda number: (number, (weight * number).requires_grad), range(50))
        assert sorted(results) == [(number, False) for number in range(50)]
        assert torch.get_num_threads() == 3
        assert torch.is_grad_enabled()
    finally:
        torch.set_num_threads(before)


def test_each_thread_computes_alone() -> None:
    both = threading.Barrier(2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        def work(_: int) -> tuple[str, int]:
            both.wait(timeout=20)  # so that neither takes both
            return threading.current_thread().name, torch.get_num_threads()

        results = on_every_core(CPU, work, range(2))
        assert len({name for name, _ in results}) == 2
        assert [threads for _, threads in results] == [1, 1]
    finally:
        torch.set_num_threads(before)


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        on_every_core(CPU, lambda number: 1 / number, [1, 0, 2])
