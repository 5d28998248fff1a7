"""Notices that an engine does not step although it should."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from steppe.engine.control_block import ControlBlock, Telemetry

GAP_S = 10.0
"""After such a gap between two looks a stall begins anew, s: the whole machine was paused."""
_STOPPED = frozenset("Tt")
"""States of a process that is stopped by a signal or a debugger, see proc_pid_stat(5)."""


class EngineWatch:
    """Measures for how long one engine has had work without a step.

    A long step counts, too, because from outside it looks the same. A pause that was asked for does
    not: an engine that sleeps, or whose limits have lapsed.
    """

    __slots__ = ("_last", "_looked_s", "_since_s", "is_stopped", "silent_s")

    def __init__(self) -> None:
        """Begin without a stall."""
        self._last: Telemetry | None = None
        self._looked_s = 0.0
        self._since_s: float | None = None
        self.is_stopped = False
        self.silent_s = 0.0

    def look(
        self, block: ControlBlock, telemetry: Telemetry, now_s: float, *, may_step: bool
    ) -> None:
        """Look once; `is_stopped` and `silent_s` follow.

        Args:
            block: The file shared with the engine.
            telemetry: Its counters.
            now_s: Monotonic time, s.
            may_step: Whether the replica is to serve.
        """
        self.is_stopped = any(map(is_stopped, block.processes))
        has_work = telemetry.running + telemetry.waiting > 0
        should_step = may_step and has_work and not block.has_lapsed
        has_stepped, self._last = telemetry != self._last, telemetry
        if not self.is_stopped and (has_stepped or not should_step):
            self._since_s = None
        elif self._since_s is None or now_s - self._looked_s > GAP_S:
            self._since_s = now_s
        self._looked_s = now_s
        self.silent_s = 0.0 if self._since_s is None else now_s - self._since_s


def is_stopped(process: int) -> bool:
    """Return whether a process is stopped."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in _STOPPED


def end_engine(block: ControlBlock) -> None:
    """Kill the engine of a replica that starts again, if it has outlived its replica.

    One that is stopped cannot notice that its parent is dead, and would keep the memory of its GPU.
    An engine inside the process of its replica ends with that.
    """
    engine, *host = block.processes or (0,)
    if host and _maps(engine, block.path):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(engine, signal.SIGKILL)


def _maps(process: int, path: Path) -> bool:
    """Return whether a process has mapped a file: ids are used again, a mapping is certain."""
    try:
        return str(path) in Path(f"/proc/{process}/maps").read_text(errors="replace")
    except OSError:
        return False
