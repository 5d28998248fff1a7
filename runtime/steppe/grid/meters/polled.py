"""A signal whose meter is read in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from steppe.errors import DeviceError
from steppe.grid.meters.readings import Measured, Readings
from steppe.grid.meters.settings import MeterSettings
from steppe.power.signal import Fresh, Missing, Reading, Stale

IDLE_S = 10.0
"""A meter that is asked for nothing for so long is left alone, s: many accept one connection only,
and the object that checked the configuration must not keep it."""
_STOP_S = 2.0

_log = logging.getLogger(__name__)


class Meter(Protocol):
    """A meter; both methods are called in one thread, and may block."""

    def read(self) -> Measured:
        """Return the present power.

        Raises:
            DeviceError: The meter gives none.
        """
        ...

    def close(self) -> None:
        """Close the connection; the next reading opens another one."""
        ...


class PolledMeter:
    """A `steppe.Signal`: the last reading of a meter with its age, or `Stale`. It never blocks.

    The first call of `at` starts the thread, and it ends when there were none for `IDLE_S`.
    """

    def __init__(
        self,
        meter: Meter,
        settings: MeterSettings,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the readings; this asks the meter nothing yet.

        Args:
            meter: The meter.
            settings: How often it is read, and which readings are used.
            name: What log lines call it.
            clock: Returns monotonic time, s.
        """
        self._meter, self._settings, self._name, self._clock = meter, settings, name, clock
        self._readings = Readings()
        self._asked_s = -IDLE_S
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def at(self, time_s: float) -> Reading:
        """Return the last reading; a meter has no future, so its last value stands for that.

        Args:
            time_s: Not used.
        """
        now_s = self._clock()
        with self._lock:
            self._asked_s = now_s
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._poll, daemon=True, name="site-meter")
                self._thread.start()
            readings = self._readings
        if readings.used is None:
            return Missing(f"{self._name}: {readings.refusal or 'no reading yet'}")
        age_s = max(0.0, now_s - readings.used.at_s)
        return Stale(age_s) if age_s > self._settings.stale_s else Fresh(readings.used.watts, age_s)

    def stop(self) -> None:
        """End the thread for good."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(_STOP_S)

    def read(self) -> None:
        """Read the meter once; log why a reading is refused once, until one is used again."""
        now_s = self._clock()
        before = self._readings
        try:
            found = self._meter.read()
        except DeviceError as error:
            self._meter.close()
            self._keep(before, replace(before, refusal=str(error), raised_w=None))
            return
        unit_w = self._settings.watts_per_unit
        measured = Measured(found.watts * unit_w, found.age_s)
        self._keep(before, before.with_reading(measured, now_s, self._settings))

    def _keep(self, before: Readings, after: Readings) -> None:
        with self._lock:
            self._readings = after
        if after.refusal and not before.refusal:
            _log.warning("%s gives no reading that can be used: %s", self._name, after.refusal)
        elif before.refusal and not after.refusal:
            _log.warning("%s gives readings again", self._name)

    def _poll(self) -> None:
        while self._is_wanted():
            self.read()
            self._stop.wait(self._settings.period_s)
        self._meter.close()

    def _is_wanted(self) -> bool:
        """Whether readings are still asked for; if not, the next call starts another thread."""
        with self._lock:
            idle_s = max(IDLE_S, 2 * self._settings.period_s)
            wanted = not self._stop.is_set() and self._clock() - self._asked_s < idle_s
            if not wanted:
                self._thread = None
        return wanted
