"""Keeps two drivers of a run alive: an active one, and a standby that takes over when it dies.

This is the process that the user started. It does nothing else, so that it has no cause to die: it
starts the drivers, passes on the signals that end a run, and returns how the run ended. The drivers
go on without it, too.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from steppe.run.cleanup import Cleanup
from steppe.run.shared_run import SharedRun
from steppe.run.signals import restore_handlers, set_handler

LOOK_S = 0.1
"""Time between two looks at the drivers, s."""
REPEAT_S = 1.0
"""Time after which the signal that ends the run is passed on again, s: the standby that has just
taken over has not had it."""
MOST_STARTS, WITHIN_S = 5, 120.0
"""No more drivers are started within so long, s."""

_log = logging.getLogger(__name__)

Start = Callable[[], "subprocess.Popen[bytes]"]
"""Starts a driver."""


def keep_drivers(arguments: Sequence[str]) -> int:
    """Run `steppe serve` with a standby; return the exit code.

    Args:
        arguments: Arguments of the command line, without the name of the program.
    """
    shared, cleanup = SharedRun.new(), Cleanup()
    command = [sys.executable, "-m", "steppe.cli", *arguments]
    command += ["--driver-of", shared.run_id, str(cleanup.pipe)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, pass_fds=(cleanup.pipe,))

    keeper = DriverKeeper(shared, start)
    before = set_handler(keeper.stop)
    try:
        keeper.start()
        return keeper.run()
    finally:
        restore_handlers(before)
        cleanup.close()


class DriverKeeper:
    """Two drivers, of which the first to take the lock is active."""

    def __init__(
        self, shared: SharedRun, start: Start, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without drivers.

        Args:
            shared: What the drivers share.
            start: Starts a driver.
            clock: Returns monotonic time, s.
        """
        self._shared, self._start, self._clock = shared, start, clock
        self._drivers: list[subprocess.Popen[bytes]] = []
        self._codes: list[int] = []
        self._started_s: list[float] = []
        self._signal, self._sent_s = 0, 0.0

    def stop(self, number: int, _frame: FrameType | None = None) -> None:
        """End the run by a signal."""
        self._signal = self._signal or number

    def start(self) -> None:
        """Start the first driver."""
        self._begin_one()

    def run(self) -> int:
        """Keep the drivers alive until the run has ended, and return its exit code."""
        while self._drivers:
            self.look()
            time.sleep(LOOK_S)
        ended = [code for code in self._codes if code >= 0]
        return next(filter(None, ended), 0) if ended else 1

    def look(self) -> None:
        """Look once: pass on a signal, and start a driver in place of one that has died."""
        for driver in list(self._drivers):
            code = driver.poll()
            if code is not None:
                self._drivers.remove(driver)
                self._codes.append(code)
                if code < 0 and self._goes_on:
                    _log.warning("a driver was ended by %s", signal.Signals(-code).name)
        if self._signal and not self._shared.has_ended:
            self._pass_on()
        elif not self._signal and self._goes_on:
            while len(self._drivers) < 2 and self._may_start():
                self._begin_one()

    @property
    def _goes_on(self) -> bool:
        return self._shared.has_begun and not self._shared.has_ended

    def _may_start(self) -> bool:
        now_s = self._clock()
        self._started_s = [at_s for at_s in self._started_s if now_s - at_s < WITHIN_S]
        return len(self._started_s) < MOST_STARTS

    def _begin_one(self) -> None:
        self._started_s.append(self._clock())
        self._drivers.append(self._start())

    def _pass_on(self) -> None:
        if self._sent_s and self._clock() - self._sent_s < REPEAT_S:
            return
        self._sent_s = self._clock()
        for driver in self._drivers:
            with suppress(ProcessLookupError):
                os.kill(driver.pid, self._signal)
