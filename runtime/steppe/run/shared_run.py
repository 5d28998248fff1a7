"""What the two drivers of a run share: a lock, and what the active one knows.

One driver is active: it holds the lock, and writes down after each poll what another one needs. The
other waits for the lock, which the kernel frees when the active one dies, whatever its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from steppe.fleet.orphan_processes import Process, process_of
from steppe.fleet.stale_runs import drivers_folder, hold, new_run_id

POLL_S = 0.1
"""Time between two attempts to take the lock, s."""
HUNG_S = 150.0
"""An active driver that has written nothing for so long is killed, s: it may have been stopped. Its
longest calls to an actor that does not answer take two minutes."""

_log = logging.getLogger(__name__)


class SharedRun:
    """The folder of the drivers of one run, in memory.

    Attributes:
        run_id: Name of the run; it begins with the id of the process that the user started.
    """

    def __init__(
        self,
        run_id: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the folder, or make it; see `new` and `find`.

        Args:
            run_id: Name of the run.
            clock: Returns monotonic time, s.
            sleep: Waits, s.
        """
        self.run_id = run_id
        self._folder = drivers_folder(run_id)
        self._clock, self._sleep = clock, sleep
        self._held = hold(self._folder)  # the next run does not remove it
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)

    @classmethod
    def new(cls) -> SharedRun:
        """Return that of a run that this process starts."""
        return cls(new_run_id(os.getpid()))

    @classmethod
    def find(cls, run_id: str) -> SharedRun | None:
        """Return that of a run that another process has started; None if it has ended."""
        return cls(run_id) if drivers_folder(run_id).is_dir() else None

    @property
    def process(self) -> int:
        """Id of the process that the user started: files of the run have it in their names."""
        return int(self.run_id.split("-")[0])

    @property
    def has_begun(self) -> bool:
        """Whether another driver could go on with the run."""
        return self._state.is_file()

    @property
    def has_ended(self) -> bool:
        """Whether a driver has ended the run, or is about to."""
        return not self._folder.is_dir() or (self._folder / "ended").exists()

    def become_active(self) -> bytes | None:
        """Wait until no other driver is active, and be the active one.

        Returns:
            What the driver before wrote down; None if this is the first one.
        """
        written_s, seen_s = self._written_s(), self._clock()
        while not self._try_lock():
            if self._written_s() != written_s or self.has_ended:
                written_s, seen_s = self._written_s(), self._clock()
            elif written_s and self._clock() - seen_s > HUNG_S:
                self._kill_active(self._clock() - seen_s)
                seen_s = self._clock()
            self._sleep(POLL_S)
        own = process_of(os.getpid())
        os.pwrite(self._lock, f"{own.number} {own.started_ticks}\n".encode(), 0)
        return self._state.read_bytes() if self.has_begun else None

    def write(self, state: bytes) -> None:
        """Write down what another driver needs, whole or not at all."""
        draft = self._folder / "state.draft"
        try:
            draft.write_bytes(state)
            draft.replace(self._state)
        except OSError as error:
            _log.warning("another driver would go on from an earlier time: %s", error)

    def end(self) -> None:
        """Note that the run ends: no other driver goes on with it."""
        with contextlib.suppress(OSError):
            (self._folder / "ended").touch()

    def remove(self) -> None:
        """Remove the folder of a run that has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _state(self) -> Path:
        return self._folder / "state"

    def _written_s(self) -> float:
        try:
            return self._state.stat().st_mtime
        except OSError:
            return 0.0

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _kill_active(self, silent_s: float) -> None:
        """Kill the active driver, which may be stopped: two must never be active."""
        number, ticks = map(int, os.pread(self._lock, 100, 0).split()[:2])
        if Process(number, ticks).is_alive:
            _log.warning("the driver has been silent for %.0f s: it is ended", silent_s)
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
