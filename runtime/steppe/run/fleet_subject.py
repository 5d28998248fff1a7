"""One replica of a running fleet, as a sweep sees it."""

from __future__ import annotations

from dataclasses import asdict

from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.measure.sweep.subject import SubjectTotals


class FleetSubject:
    """One replica of a running fleet."""

    def __init__(self, actors: FleetActors, name: str) -> None:
        """Take a replica by its name."""
        self._actors, self.name = actors, name

    @property
    def clocks_mhz(self) -> tuple[int, ...]:
        """SM clocks that its GPUs can be limited to, rising, MHz."""
        return self._actors.clocks_mhz(self.name)

    def set_point(self, clock_mhz: int, batch_limit: int) -> None:
        """Set the limits and wait until the node has them."""
        self._actors.calls.set_point(self.name, clock_mhz, batch_limit)

    def reading(self) -> SubjectTotals:
        """Return totals and state now."""
        return SubjectTotals(**asdict(self._actors.calls.reading(self.name)))

    def set_frozen(self, frozen: bool) -> None:
        """Put the replica to sleep, or wake it, and wait until it is."""
        self._actors.calls.set_frozen(self.name, frozen)


def no_sensors() -> None:
    """Return no reading: the GPUs are on another host."""
