"""The sweep of a fleet before it serves, with its replicas in virtual time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

import pytest
from tests.fixtures.virtual_replica import VirtualReplica

from fleet_sweep import sweep_fleet
from steppe.config import SweepSection, load_config, shipped_config
from steppe.errors import ReplicaError
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.measure.sweep.point import PointTiming
from steppe.measure.sweep.subject import SubjectTotals

SECTION = SweepSection(clocks=2, batch_limits=(1, 4), window_s=2.0)


class FakeActors:
    """Two replicas in virtual time behind one HTTP server; the draw follows clock and batch."""

    energy_source = "emulated"
    replica_headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, url: str) -> None:
        self._url = url
        self.placements = {name: VirtualReplica(name) for name in ("replica-1", "replica-2")}
        self.now_s = 0.0
        self._lock = threading.Lock()

    @property
    def ready(self) -> list[str]:
        return list(self.placements)

    def clocks_mhz(self, replica: str) -> tuple[int, ...]:
        return (600, 900, 1200, 1800)

    def set_point(self, replica: str, clock_mhz: int, batch_limit: int) -> None:
        self.placements[replica].set_point(clock_mhz, batch_limit)
        self.placements[replica].idle_w = 20 + clock_mhz / 100 + batch_limit

    def reading(self, replica: str) -> SubjectTotals:
        with self._lock:
            return self.placements[replica].reading()

    def set_frozen(self, replica: str, frozen: bool) -> None:
        self.placements[replica].set_frozen(frozen)

    @property
    def calls(self) -> FakeActors:
        return self

    def url(self, replica: str) -> str:
        return self._url

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now_s += seconds
            for replica in self.placements.values():
                replica.sleep(seconds)

    @property
    def timing(self) -> PointTiming:
        return PointTiming(lambda: self.now_s, self.sleep)


@pytest.fixture
def actors(url: str) -> FakeActors:
    return FakeActors(url)


def sweep(actors: FakeActors, progress: list[tuple[int, int]] | None = None) -> None:
    config = load_config(Path(shipped_config("demo.yaml")))
    found = [] if progress is None else progress
    frontier, fit = sweep_fleet(
        cast("FleetActors", actors),
        config,
        SECTION,
        lambda done, total: found.append((done, total)),
        actors.timing,
    )
    assert frontier.source == "emulated"
    assert frontier.idle_w == pytest.approx(27.0)
    assert frontier.asleep_w == pytest.approx(10.0)
    assert min(point.clock_mhz for point in frontier.points) >= 900  # half of the highest
    assert fit.time_error < 0.2


def test_replicas_share_the_points_and_the_frontier_follows_from_all(actors: FakeActors) -> None:
    progress: list[tuple[int, int]] = []
    sweep(actors, progress)
    settings = [s for replica in actors.placements.values() for s in replica.settings]
    assert set(settings) == {(1800, 4), (1800, 1), (900, 4), (900, 1), (600, 1)}
    # Four mixed points, and prefill and decode at three clocks each.
    assert progress == [(done, 10) for done in range(11)]


def test_a_fleet_that_gives_no_token_is_an_error(
    actors: FakeActors, monkeypatch: pytest.MonkeyPatch
) -> None:
    for replica in actors.placements.values():
        monkeypatch.setattr(replica, "tokens", 0)
        monkeypatch.setattr(type(replica), "sleep", _sleep_without_tokens)
    with pytest.raises(ReplicaError, match="found no output token"):
        sweep(actors)


def _sleep_without_tokens(replica: VirtualReplica, seconds: float) -> None:
    replica.now_s += seconds
    replica.energy_j += 10 * seconds
