"""Load and scheduling delays of the machine under a live benchmark."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

NAP_S = 0.02
"""Length of a sleep whose end shows how late threads of this machine are scheduled, s."""
_STAT, _INFO = Path("/proc/stat"), Path("/proc/cpuinfo")


class Machine:
    """Observes the machine from a thread of its own."""

    def __init__(self) -> None:
        """Prepare; `watched` starts and ends the thread."""
        self._late_s: list[float] = []
        self._busy, self._all = _ticks()
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._nap_on, daemon=True, name="naps")

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self.thread.join()

    def summary(self) -> dict[str, float]:
        """Return the share of busy core time so far, and how late sleeps ended, s."""
        busy, whole = _ticks()
        late_s = np.percentile(self._late_s, (50, 99)).tolist()
        return {
            "busy_share": (busy - self._busy) / max(1, whole - self._all),
            "nap_late_p50_s": late_s[0],
            "nap_late_p99_s": late_s[1],
        }

    def _nap_on(self) -> None:
        while not self._stop.is_set():
            begun_s = time.monotonic()
            time.sleep(NAP_S)
            self._late_s.append(time.monotonic() - begun_s - NAP_S)


@contextmanager
def watched() -> Generator[Machine]:
    """Watch the machine in the block."""
    machine = Machine()
    machine.thread.start()
    try:
        yield machine
    finally:
        machine.stop()


def processor() -> str:
    """Return the processor's model name."""
    lines = _INFO.read_text().splitlines() if _INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def _ticks() -> tuple[int, int]:
    """Return the ticks in which cores were busy, and all, since the machine started."""
    times = [int(field) for field in _STAT.read_text().splitlines()[0].split()[1:9]]
    idle = times[3] + times[4]
    return sum(times) - idle, sum(times)
