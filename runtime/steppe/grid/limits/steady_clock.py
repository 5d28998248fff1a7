"""A clock that never goes back, also over a restart of the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on two clocks.

    Attributes:
        steady_s: Time since the first start, s; it never goes back, and goes on over restarts.
        wall_s: What the wall clock says, s since the Unix epoch; it may be set.
    """

    steady_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment that is kept on disk, from which the clock goes on.

    Attributes:
        steady_s: As in `Moment`, s.
        wall_s: As in `Moment`, s.
        boot_s: Time since the machine started, s.
        boot: Which start of which machine that was.
    """

    steady_s: float
    wall_s: float
    boot_s: float
    boot: str


def since_boot_s() -> float:
    """Return the time since the machine started, s, with the time in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return which start of the machine this is; empty if the kernel does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class SteadyClock:
    """Counts time by the machine's own counter; over a reboot, by the wall clock.

    After a reboot with a wall clock that was set back, the time in between is not known: `resume`
    returns so.
    """

    def __init__(
        self,
        wall_s: Callable[[], float] = time.time,
        boot_s: Callable[[], float] = since_boot_s,
        boot: str | None = None,
    ) -> None:
        """Start at 0 s.

        Args:
            wall_s: Reads the wall clock, s since the Unix epoch.
            boot_s: Reads the counter of the machine, s.
            boot: Which start of the machine this is; if absent, as the kernel says.
        """
        self._wall_s, self._boot_s = wall_s, boot_s
        self._boot = boot_id() if boot is None else boot
        self._from_s, self._from_boot_s = 0.0, boot_s()

    def now(self) -> Moment:
        """Return the present moment."""
        elapsed_s = max(0.0, self._boot_s() - self._from_boot_s)
        return Moment(self._from_s + elapsed_s, self._wall_s())

    def stamp(self) -> Stamp:
        """Return the present moment, to be kept on disk."""
        now = self.now()
        return Stamp(now.steady_s, now.wall_s, self._boot_s(), self._boot)

    def resume(self, kept: Stamp) -> bool:
        """Go on from a moment that was kept; return whether the time since then is known."""
        boot_s, wall_s = self._boot_s(), self._wall_s()
        if self._boot and kept.boot == self._boot and boot_s >= kept.boot_s:
            elapsed_s = boot_s - kept.boot_s
        else:
            elapsed_s = wall_s - kept.wall_s
        self._from_s, self._from_boot_s = kept.steady_s + max(0.0, elapsed_s), boot_s
        return elapsed_s >= 0
