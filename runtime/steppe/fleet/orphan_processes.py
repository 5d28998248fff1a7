"""Finds the processes of a Ray cluster on this host, and ends those that outlive it.

An actor that exits disconnects from Ray's server first and then runs the exit of its interpreter.
If that hangs, Ray no longer ends the process, and it outlives its cluster.
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
    """A process of this host, as distinct from a later one with the same id.

    Attributes:
        number: Its process id.
        started_ticks: When it started, clock ticks after the host did.
    """

    number: int
    started_ticks: int

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        try:
            found = _stat(self.number)
        except OSError:
            return False
        return found.process == self and found.is_alive

    @property
    def is_stopped(self) -> bool:
        """Whether it is there but does not run, as after SIGSTOP."""
        try:
            found = _stat(self.number)
        except OSError:
            return False
        return found.process == self and found.is_stopped


@dataclass(frozen=True, slots=True)
class _ProcessStat:
    """The kernel's status of a process."""

    process: Process
    is_alive: bool
    is_stopped: bool
    parent: int
    kernel_session: int


def processes_of(session: str) -> frozenset[Process]:
    """Return the living processes of the cluster that this process started.

    Ray redirects the output of its server and its actors to the folder of their session, which is
    named by the microsecond, and gives it to its helpers as an option: that identifies them and
    their descendants. Environment variables do
    not, because a process that sets its title overwrites them. Processes with a kernel session of
    their own, such as agents, end by themselves and are left alone, as are those of other users.

    Args:
        session: Ray's name of the session.
    """
    found_near = tuple(_same_session())
    numbers = {p.process.number for p in found_near if _prints_to(session, p.process.number)}
    size = 0
    while size < len(numbers):
        size = len(numbers)
        numbers |= {p.process.number for p in found_near if p.parent in numbers}
    return frozenset(p.process for p in found_near if p.process.number in numbers)


def process_of(number: int) -> Process:
    """Return the process with an id.

    Raises:
        OSError: There is none.
    """
    return _stat(number).process


def program_of(process: Process) -> str:
    """Return the name of the program that a process runs; empty once it has ended."""
    try:
        return Path(os.readlink(f"/proc/{process.number}/exe")).name
    except OSError:
        return ""


def has_title(process: Process, title: str) -> bool:
    """Return whether the command line of a process begins so; Ray's actors are `ray::Class`."""
    try:
        command = Path(f"/proc/{process.number}/cmdline").read_bytes()
    except OSError:
        return False
    return command.startswith(title.encode())


def end_orphan_processes(session: str, known: frozenset[Process], wait_s: float) -> int:
    """Wait until a cluster is gone, kill what stays, and return how many that were.

    Args:
        session: Ray's name of the session.
        known: Processes of it that can no longer be identified, now that it has ended.
        wait_s: Longest time in which they may end by themselves, s.
    """
    give_up_s = time.monotonic() + wait_s
    while (left := _alive(known | processes_of(session))) and time.monotonic() < give_up_s:
        time.sleep(_POLL_S)
    kill_processes(left)
    return len(left)


def kill_processes(processes: frozenset[Process]) -> None:
    """Kill processes, and wait a limited time until they are gone."""
    left = _alive(processes)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.number, signal.SIGKILL)
    give_up_s = time.monotonic() + _KILLED_S
    while _alive(left) and time.monotonic() < give_up_s:
        time.sleep(_POLL_S)


def _alive(processes: frozenset[Process]) -> frozenset[Process]:
    return frozenset(process for process in processes if process.is_alive)


def _same_session() -> Iterator[_ProcessStat]:
    """Yield the other live processes of this user in this kernel session."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found, owner = _stat(int(folder.name)), folder.stat().st_uid
        except OSError:
            continue  # it has ended
        is_same = found.kernel_session == os.getsid(0) and owner == os.geteuid()
        if is_same and found.is_alive and found.process.number != os.getpid():
            yield found


def _stat(number: int) -> _ProcessStat:
    """Return the kernel's status of a process, see proc_pid_stat(5).

    Raises:
        OSError: There is none.
    """
    # A name may hold blanks and brackets; the fields after it are numbers.
    fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
    process = Process(number, int(fields[19]))
    state, parent, session = fields[0], int(fields[1]), int(fields[3])
    return _ProcessStat(process, state not in "ZX", state in "Tt", parent, session)


def _prints_to(session: str, number: int) -> bool:
    """Return whether a process prints to a file of a session, or was started with its folder."""
    try:
        if session in Path(os.readlink(f"/proc/{number}/fd/1")).parts:
            return True
        words = Path(f"/proc/{number}/cmdline").read_text(errors="replace").split("\0")
        return any(word.startswith("--") and session in word for word in words)
    except OSError:
        return False  # it has closed it, or has ended
