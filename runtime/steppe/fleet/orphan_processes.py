"""Processes of a Ray cluster on this host: which they are, and an end for those that stay.

An actor that leaves in peace takes its leave of Ray's server first and runs the exit of its
interpreter then. Where that exit hangs, nobody ends the process any more, and it outlives its
cluster.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.05
_KILLED_S = 5.0
"""Longest wait for the kernel to take down what was killed, s."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this host, told from a later one that got the same number.

    Attributes:
        number: What the kernel calls it.
        started_ticks: When it started, clock ticks after the host did.
    """

    number: int
    started_ticks: int

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        try:
            seen = _look_at(self.number)
        except OSError:
            return False
        return seen.process == self and seen.is_alive


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the kernel says about a process."""

    process: Process
    is_alive: bool
    parent: int
    kernel_session: int


def processes_of(session: str) -> frozenset[Process]:
    """Return the living processes of the cluster that this process started.

    Ray sends what its server and its actors print to the folder of their session, which is
    named by the microsecond: that tells them from those of any other cluster. Their descendants
    belong to it, too. Environments tell less, for a process that gives itself a title writes
    over its own. Who opened a kernel session, as agents do, ends in its own way and time: it is
    left alone, as are the processes of other users.

    Args:
        session: Ray's name of the session.
    """
    near = tuple(_near())
    found = {seen.process.number for seen in near if _prints_to(session, seen.process.number)}
    size = 0
    while size < len(found):
        size = len(found)
        found |= {seen.process.number for seen in near if seen.parent in found}
    return frozenset(seen.process for seen in near if seen.process.number in found)


def end_orphan_processes(session: str, known: frozenset[Process], patience_s: float) -> int:
    """Wait until a cluster is gone, kill what stays, and return how many that were.

    Args:
        session: Ray's name of the session.
        known: Processes of it that may no longer be told from others, now that it has ended.
        patience_s: Longest time in which they may end by themselves, s.
    """
    give_up_s = time.monotonic() + patience_s
    while (left := _alive(known | processes_of(session))) and time.monotonic() < give_up_s:
        time.sleep(_POLL_S)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.number, signal.SIGKILL)
    give_up_s = time.monotonic() + _KILLED_S
    while _alive(left) and time.monotonic() < give_up_s:
        time.sleep(_POLL_S)
    return len(left)


def _alive(processes: frozenset[Process]) -> frozenset[Process]:
    return frozenset(process for process in processes if process.is_alive)


def _near() -> Iterator[_Seen]:
    """Yield the living processes of this user in our kernel session, but for this one."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            seen, owner = _look_at(int(folder.name)), folder.stat().st_uid
        except OSError:
            continue  # it has ended
        is_near = seen.kernel_session == os.getsid(0) and owner == os.geteuid()
        if is_near and seen.is_alive and seen.process.number != os.getpid():
            yield seen


def _look_at(number: int) -> _Seen:
    """Return what the kernel says about a process, see proc_pid_stat(5).

    Raises:
        OSError: There is none.
    """
    # A name may hold blanks and brackets; the fields after it are numbers.
    fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
    process = Process(number, int(fields[19]))
    return _Seen(process, fields[0] not in "ZX", int(fields[1]), int(fields[3]))


def _prints_to(session: str, number: int) -> bool:
    """Tell whether the standard output of a process goes to a file of a session."""
    try:
        return session in Path(os.readlink(f"/proc/{number}/fd/1")).parts
    except OSError:
        return False  # it has closed it, or has ended
