"""Threads that compute give way."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from pairloom.serve.priority import give_way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of single threads")


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def in_a_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_a_thread_and_those_that_it_starts_give_way_and_no_other_one() -> None:
    found = list[int]()
    before = priority()

    def work() -> None:
        give_way()
        found.append(priority())
        in_a_thread(lambda: found.append(priority()))

    in_a_thread(work)
    assert found == [min(19, before + 5)] * 2
    assert priority() == before
    in_a_thread(lambda: found.append(priority()))
    assert found[-1] == before


def test_where_it_is_not_allowed_all_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    give_way()
