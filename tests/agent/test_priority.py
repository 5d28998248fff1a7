from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from steppe.agent import priority
from steppe.agent.priority import HIGH_NICE, Priority, raise_this_thread, raise_thread_of

T = TypeVar("T")


def in_a_thread(call: Callable[[], T]) -> T:
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def refuse(*_: object) -> None:
    raise PermissionError("only root")


def test_the_highest_priority_is_taken_that_is_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *args: taken.append(args[0]))
    assert raise_this_thread() == Priority.REAL_TIME
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", lambda *args: taken.append(args))
    assert raise_this_thread() == Priority.HIGH
    monkeypatch.setattr(os, "setpriority", refuse)
    assert raise_this_thread() == Priority.NORMAL
    assert taken == [0, (os.PRIO_PROCESS, 0, HIGH_NICE)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_SYS_NICE")
def test_only_the_thread_that_asks_is_raised() -> None:
    def raised() -> tuple[Priority, int]:
        return raise_this_thread(), os.sched_getscheduler(0)

    own = os.sched_getscheduler(0)
    found, policy = in_a_thread(raised)
    if found == Priority.REAL_TIME:
        assert policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    assert os.sched_getscheduler(0) == own != os.SCHED_RR


def test_a_thread_in_a_container_is_found_by_the_number_that_it_has_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task, numbers in (("4711", "4711\t1"), ("4712", "4712\t7")):
        (tmp_path / "4711" / "task" / task).mkdir(parents=True)
        text = f"Name:\tpython\nNSpid:\t{numbers}\n"
        (tmp_path / "4711" / "task" / task / "status").write_text(text)
    raised: list[tuple[int, int, int]] = []
    monkeypatch.setattr(priority, "_PROCESSES", tmp_path)
    monkeypatch.setattr(os, "setpriority", lambda *args: raised.append(args))
    assert raise_thread_of(4711, 7) == Priority.HIGH
    assert raise_thread_of(4711, 99) == raise_thread_of(9, 7) == Priority.NORMAL
    assert raised == [(os.PRIO_PROCESS, 4712, HIGH_NICE)]
