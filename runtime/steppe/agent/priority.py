"""Threads that must run in time on a busy machine: the agent's own, and those of heartbeats."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

REAL_TIME_PRIORITY = 1
"""Lowest real-time priority: above every ordinary thread, below every other real-time one."""
HIGH_NICE = -10
"""Nice value of a thread that may not have real-time priority."""

_PROCESSES = Path("/proc")


class Priority(enum.StrEnum):
    """How a thread is scheduled."""

    REAL_TIME = "real-time"
    HIGH = "high"
    NORMAL = "normal"


def raise_this_thread() -> Priority:
    """Give the calling thread the highest priority that this process may give it.

    Real-time priority needs CAP_SYS_NICE or RLIMIT_RTPRIO, a lower nice value CAP_SYS_NICE or
    RLIMIT_NICE. Threads and processes that it starts have ordinary priority.
    """
    with suppress(OSError):  # Linux applies both to the calling thread
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(REAL_TIME_PRIORITY))
        return Priority.REAL_TIME
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, HIGH_NICE)
        return Priority.HIGH
    return Priority.NORMAL


def raise_thread_of(pid: int, thread: int) -> Priority:
    """Give a thread of another process high priority, for that process may not do it.

    It does not become a real-time thread: a client must not be able to hold a core of the host.

    Args:
        pid: The process, as this process sees it.
        thread: The thread, as its own process sees it, which may be in a container.
    """
    with suppress(OSError):
        for found in _threads(pid, thread):
            os.setpriority(os.PRIO_PROCESS, found, HIGH_NICE)
            return Priority.HIGH
    return Priority.NORMAL


def _threads(pid: int, thread: int) -> Iterator[int]:
    """Yield the thread of a process that has this number in its own container."""
    for status in (_PROCESSES / str(pid) / "task").glob("*/status"):
        lines = status.read_text().splitlines()
        numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
        if numbers and int(numbers[-1]) == thread:
            yield int(status.parent.name)
