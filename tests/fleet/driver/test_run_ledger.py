from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import ray
from tests.fixtures.fleet_messages import tick_record
from tests.fixtures.ray_actors import FakeActor, FakeCall

from steppe.config import RunConfig
from steppe.errors import DiskFullError, UsageError
from steppe.fleet.driver.left_bookings import left_files, read_bookings
from steppe.fleet.driver.run_ledger import FIRST_RETRY_S, RunLedger
from steppe.fleet.ledger_actor import LedgerActor
from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.ledger.service_entry import ServiceEntry

EPOCH_S = 1_764_000_000.0
DEAD = ray.exceptions.RayActorError()


def request(number: int) -> BookedRequest:
    return BookedRequest(
        id=f"e{number}",
        request=f"r{number}",
        tenant="lab",
        model="small",
        priority="standard",
        prompt_tokens=12,
        cached_tokens=0,
        output_tokens=5,
        energy_uj=10,
        energy_source="emulated",
        started_us=1,
        ended_us=2,
        finish="stop",
    )


@dataclass
class Ledger(FakeActor):
    """An actor that takes bookings in their order while it is up; `limit` at a time."""

    taken: list[Booking] = field(default_factory=list)
    is_up: bool = True
    error: Exception = DEAD
    limit: int = 100

    def _call(self, name: str, args: tuple[Any, ...]) -> FakeCall:
        self.asked.append((name, args))
        if not self.is_up:
            return FakeCall(self.error)
        for booking in args[0][: self.limit]:
            if booking.number == len(self.taken) + 1:
                self.taken.append(booking)
        return FakeCall(len(self.taken), self.ready)

    @property
    def requests(self) -> list[str]:
        return [each.id for booking in self.taken for each in booking.requests]


@dataclass
class Site:
    """A run with its ledger, and their time."""

    folder: Path
    ledger: Ledger = field(default_factory=Ledger)
    now_s: float = 0.0
    run: RunLedger = field(init=False)
    meter_uj: int = 0
    number: int = 0

    def __post_init__(self) -> None:
        self.run = self.driver()
        self.run.begin("17-a")

    def driver(self) -> RunLedger:
        config = RunConfig.model_validate(
            {
                "model": {"name": "none"},
                "device": {"kind": "emulated"},
                "power": {"supply": [{"kind": "constant", "watts": 100.0}]},
                "ledger": {"folder": str(self.folder), "site": "hohhot"},
            }
        )
        assert config.ledger is not None
        return RunLedger(
            config,
            config.ledger,
            lambda: self.ledger,
            lambda: self.now_s,
            lambda: EPOCH_S + self.now_s,
        )

    @property
    def totals(self) -> BookedTotals:
        return BookedTotals(meters={"replica-1": self.meter_uj}, idle_uj=3)

    def news(self) -> list[BookedRequest]:
        self.number, self.meter_uj = self.number + 1, self.meter_uj + 17
        return [request(self.number)]

    def poll(self, times: int = 1) -> None:
        for _ in range(times):
            self.now_s += 1.0
            self.run.look()
            self.run.book([], self.news(), self.totals)


@pytest.fixture
def site(tmp_path: Path, fake_ray: None) -> Site:
    return Site(tmp_path)


def test_what_was_booked_is_handed_over_at_the_next_poll_and_once(site: Site) -> None:
    site.poll()
    assert site.ledger.taken == []  # the driver writes down its state before
    site.poll(3)
    assert site.ledger.requests == ["e1", "e2", "e3"]
    assert site.ledger.taken[0].run.endswith("Z-17-a")
    sent = [[b.number for b in bookings] for (bookings,) in site.ledger.args("take")]
    assert sent == [[1], [2], [3]]


def test_another_driver_hands_over_the_same_step_again(site: Site) -> None:
    site.poll()
    known = pickle.dumps(site.run.state())
    site.run.look()
    assert site.ledger.requests == ["e1"]
    site.run = site.driver()  # the one before died before the answer came
    site.run.go_on(pickle.loads(known))
    site.poll(2)
    site.run.look()
    assert site.ledger.requests == ["e1", "e2", "e3"]
    assert site.ledger.args("take")[0] == site.ledger.args("take")[1]


def test_a_ledger_that_died_gets_everything_when_it_is_back_and_a_problem_is_one_line(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.ledger.is_up = False
    with caplog.at_level(logging.WARNING):
        site.poll(600)
        assert len(site.ledger.asked) < 60  # the pause grows
        assert len(caplog.records) == 1
        site.ledger.is_up = True
        site.poll(60)
    assert len(site.ledger.requests) >= 650
    assert site.ledger.requests == [f"e{n + 1}" for n in range(len(site.ledger.requests))]
    assert caplog.messages[-1] == "the ledger takes the books again"


def test_a_ledger_with_a_full_disk_is_named_once_and_gets_everything_when_there_is_room(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    full = DiskFullError("ledger.db: asked to write, found No space left on device")
    site.ledger.error, site.ledger.is_up = ray.exceptions.RayTaskError("take", "", full), False
    with caplog.at_level(logging.WARNING):
        site.poll(20)
        site.ledger.is_up = True
        site.poll(40)
    named, again = caplog.messages
    assert "ledger.db: asked to write, found No space left on device; " in named
    assert again == "the ledger takes the books again"
    assert site.ledger.requests == [f"e{n + 1}" for n in range(len(site.ledger.requests))]
    assert len(site.ledger.requests) > 50


def test_a_ledger_that_takes_a_part_gets_the_rest(site: Site) -> None:
    site.ledger.is_up = False
    site.poll(4)
    site.ledger.is_up, site.ledger.limit = True, 1
    site.poll(60)
    assert site.ledger.requests == [f"e{n + 1}" for n in range(len(site.ledger.requests))]
    assert len(site.ledger.requests) > 20


def test_a_ledger_that_has_lost_what_it_had_is_named(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.poll(3)
    site.ledger.taken.clear()
    with caplog.at_level(logging.WARNING):
        site.poll(3)
    assert "it has 0 bookings of this run, and 3 is the next one" in caplog.text


def test_a_call_that_has_not_returned_is_not_repeated(site: Site) -> None:
    site.ledger.ready = False
    site.poll(5)
    assert len(site.ledger.asked) == 1


def test_at_the_end_of_a_run_its_last_step_is_acknowledged(site: Site) -> None:
    site.poll(3)
    ticks = [tick_record(3.0, sources_w={"wind": 10.0}, site_w=100.0)]
    site.run.end(ticks, site.news(), site.totals, 30.0)
    last = site.ledger.taken[-1]
    assert last.is_last
    assert site.ledger.requests == ["e1", "e2", "e3", "e4"]
    assert last.totals.supply_uj == {"wind": 30_000_000}
    assert left_files(site.folder) == []
    found = site.run.totals
    assert (found.requests, found.requests_uj, found.meter_uj) == (4, 40, 4 * 17)
    assert (found.bookings, found.waiting, found.lost, found.has_ended) == (last.number, 0, 0, True)


def test_what_a_run_could_not_hand_over_is_taken_before_the_next_run_begins(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.poll(2)
    site.ledger.is_up = False
    site.poll(2)
    with caplog.at_level(logging.WARNING):
        site.run.end([], site.news(), site.totals, 0.0)
        site.run.leave()
    assert site.ledger.requests == ["e1"]
    (path,) = left_files(site.folder)
    left = read_bookings(path)
    assert left[-1].is_last
    lines = b"".join(orjson.dumps(booking) + b"\n" for booking in left)
    assert path.read_bytes() == lines  # the same step again, to the byte
    assert site.run.totals.waiting == 4
    assert f"4 requests get their receipts in the next run: {path}" in caplog.text
    site.ledger.is_up = True
    site.driver().begin("18-b")
    assert site.ledger.requests == ["e1", "e2", "e3", "e4", "e5"]
    assert left_files(site.folder) == []


def test_a_run_does_not_begin_before_the_ledger_has_what_an_earlier_one_left(site: Site) -> None:
    site.ledger.is_up = False
    site.run.end([], site.news(), site.totals, 0.0)
    (path,) = left_files(site.folder)
    with pytest.raises(UsageError, match=f"^{path}: asked the ledger to take what an earlier run"):
        site.driver().begin("18-b")
    path.write_text('{"run": "r"}\n')
    with pytest.raises(UsageError, match=f"^{path}: line 1: asked for a booking, found"):
        site.driver().begin("18-b")


def test_what_cannot_be_left_is_counted_as_lost(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    (site.folder / "left").write_text("not a folder")
    site.run.end([], site.news(), site.totals, 0.0)
    assert "1 requests get no receipt" in caplog.text
    assert (site.run.totals.waiting, site.run.totals.lost) == (0, 1)


def test_the_first_call_after_a_failure_waits(site: Site) -> None:
    site.ledger.is_up = False
    site.poll(2)
    site.run.look()
    site.now_s += FIRST_RETRY_S / 2
    site.run.look()
    assert len(site.ledger.asked) == 1
    site.now_s += FIRST_RETRY_S
    site.run.look()
    assert len(site.ledger.asked) == 2


@dataclass
class Service:
    """A service that starts late and takes what it is given."""

    starts: int = 0
    taken: list[int] = field(default_factory=list)
    full_at: int = 99

    async def start(self) -> str:
        self.starts += 1
        return "http://here"

    async def stop(self) -> None: ...

    async def take(self, booking: Booking) -> int:
        if booking.number < self.full_at:
            self.taken.append(booking.number)
        return self.taken[-1]

    async def log_entries(self, entries: Sequence[ServiceEntry]) -> int:
        return len(entries)


async def test_the_actor_starts_the_ledger_before_it_takes_anything() -> None:
    service = Service(full_at=3)
    actor = LedgerActor(lambda _: service, None)
    steps = [Booking("run", number, 1, "gpu", (), BookedTotals()) for number in (1, 2, 3, 4)]
    assert await actor.take(steps) == 2
    assert (service.starts, service.taken) == (1, [1, 2])
    await actor.close()


async def test_the_actor_starts_the_ledger_before_it_logs_an_entry() -> None:
    service = Service()
    actor = LedgerActor(lambda _: service, None)
    assert await actor.log_entries([]) == 0
    assert service.starts == 1
    await actor.close()
