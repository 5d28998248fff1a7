"""Two sites with their ledgers in this process: one sends requests, the other serves them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steppe.config import LedgerSection
from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.ledger.service.service import LedgerService
from steppe.ledger.service.settings import LedgerSettings
from steppe.ledger.settlement import Settlement
from steppe.ledger.signing import PrivateKey
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.sites.settlement.home import HomeSide, NotReadyError
from steppe.sites.settlement.own_ledger import LedgerPlaces, OwnLedger
from steppe.sites.settlement.sent import AcceptedCall, Sent
from steppe.sites.settlement.store import SERVED, SettlementStore
from steppe.sites.settlement.target import NotClosedError, ReceiptsQuery, TargetSide
from steppe.sites.trust.token import Token, sign_token

LENGTH_S = 600
BEGIN_S = LENGTH_S * 2_900_000
HOME, TARGET = "shanghai", "hohhot"
MOST_UJ = 5_000
TOKEN_KEY = PrivateKey("shanghai", bytes(range(32)))


@dataclass
class Clock:
    """The time, s since the Unix epoch."""

    now_s: float = BEGIN_S + 1.0

    def epoch_s(self) -> float:
        return self.now_s

    def epoch_ns(self) -> int:
        return round(self.now_s * 1e9)

    def end_period(self) -> None:
        """Go to where the present period may be settled."""
        self.now_s = (self.now_s // LENGTH_S + 1) * LENGTH_S + 31.0


@dataclass
class Site:
    """A site with its ledger and its settlement store."""

    name: str
    folder: Path
    clock: Clock
    service: LedgerService
    ledger: OwnLedger
    store: SettlementStore
    bookings: int = 0
    metered_uj: int = 0

    @classmethod
    async def open(cls, name: str, folder: Path, clock: Clock) -> Site:
        section = LedgerSection.model_validate({"site": name})
        settings = LedgerSettings(section, folder / "ledger")
        service = LedgerService(settings, clock.epoch_ns)
        await service.start()
        ledger = OwnLedger(LedgerPlaces(settings.store, settings.log, settings.public_key))
        return cls(name, folder, clock, service, ledger, SettlementStore(folder / "sites"))

    async def book(self, *requests: BookedRequest) -> None:
        self.bookings += 1
        self.metered_uj += sum(each.energy_uj for each in requests)
        now_us = round(self.clock.now_s * 1e6)
        totals = BookedTotals(meters={"replica-0": self.metered_uj})
        booking = Booking("run-1", self.bookings, now_us, "gpu", requests, totals)
        assert await self.service.take(booking) == self.bookings

    async def published(self) -> None:
        """Wait until the log has all entries of the store."""
        store = LedgerStore(str(self.folder / "ledger" / "ledger.db"))
        size = store.size()
        store.close()
        async with asyncio.timeout(30):
            while self.ledger.log().size < size:
                await asyncio.sleep(0.01)

    async def close_hours(self) -> None:
        """Close the hours that are due."""
        hours = self.service._hours
        assert hours is not None
        await hours.look()

    async def stop(self) -> None:
        self.ledger.close()
        self.store.close()
        await self.service.stop()


@dataclass
class Direct:
    """The way to the target, without a network."""

    side: TargetSide
    is_cut: bool = False
    change: Any = None

    async def receipts(self, target: str, query: dict[str, int]) -> bytes:
        if self.is_cut:
            raise NotReadyError(f"{target} does not answer")
        wanted = ReceiptsQuery(
            HOME, query["period"], query["length"], query.get("after", -1), query.get("size", 0)
        )
        try:
            page = await self.side.page(wanted)
        except NotClosedError as error:
            raise NotReadyError(str(error)) from error
        return page if self.change is None else bytes(self.change(page))


@dataclass
class Notes:
    """The book of what was sent."""

    notes: list[Sent] = field(default_factory=list)

    def between(self, begin_us: int, end_us: int) -> list[Sent]:
        return [one for one in self.notes if begin_us <= one.ended_us < end_us]


@dataclass
class Pair:
    """A home and a target."""

    clock: Clock
    home: Site
    target: Site
    notes: Notes
    way: Direct
    side: HomeSide

    @classmethod
    async def open(cls, folder: Path, clock: Clock | None = None) -> Pair:
        clock = clock or Clock()
        home = await Site.open(HOME, folder / HOME, clock)
        target = await Site.open(TARGET, folder / TARGET, clock)
        served = TargetSide(
            TARGET,
            LENGTH_S,
            target.ledger,
            target.store,
            log=target.service,
            epoch_s=clock.epoch_s,
        )
        notes, way = Notes(), Direct(served)
        side = HomeSide(
            HOME,
            LENGTH_S,
            [TOKEN_KEY.public],
            home.ledger,
            home.store,
            log=home.service,
            notes=notes,
            targets=way,
            epoch_s=clock.epoch_s,
        )
        await side.begin(TARGET)
        return cls(clock, home, target, notes, way, side)

    async def stop(self) -> None:
        await self.home.stop()
        await self.target.stop()

    async def restarted(self, folder: Path) -> Pair:
        """Return the pair after both processes have ended and started again."""
        await self.stop()
        pair = await Pair.open(folder, self.clock)
        pair.notes.notes += self.notes.notes
        for site, before in ((pair.home, self.home), (pair.target, self.target)):
            site.bookings, site.metered_uj = before.bookings, before.metered_uj
        return pair

    def sent(self, request: str, tenant: str = "lab", **changes: Any) -> Sent:
        """Note that the home sent a request of 100 tokens and got 50."""
        now_us = round(self.clock.now_s * 1e6)
        values: dict[str, Any] = {
            "request": request,
            "target": TARGET,
            "tenant": tenant,
            "model": "m",
            "prompt_tokens": 100,
            "output_tokens": 50,
            "started_us": now_us,
            "ended_us": now_us,
            "end": "served",
            "status": 200,
            "most_uj": MOST_UJ,
        }
        note = Sent(**(values | changes))
        self.notes.notes.append(note)
        return note

    def taken(self, *requests: str) -> None:
        """Note that the target took requests with their tokens."""
        now_s = int(self.clock.now_s)
        taken = []
        for request in requests:
            token = Token(HOME, TARGET, "anyone", request, MOST_UJ, now_s, now_s + 60)
            taken.append(AcceptedCall(request, HOME, MOST_UJ, sign_token(token, TOKEN_KEY)))
        self.target.store.note_taken(taken, now_s * 1_000_000)

    async def serve(self, *requests: BookedRequest) -> None:
        """Book requests at the target."""
        await self.target.book(*requests)

    async def one(self, request: str, energy_uj: int = 1_000, tenant: str = "lab") -> None:
        """Send a request, take it and serve it."""
        self.sent(request, tenant)
        self.taken(request)
        await self.serve(served(request, energy_uj))

    async def settle(self) -> int:
        """Let the period end, and settle it once the log of the target has all receipts."""
        await self.target.published()
        self.clock.end_period()
        return await self.settle_now()

    async def settle_now(self) -> int:
        """Settle what is due now; return how many periods were."""
        return len([one async for one in self.side.settle_due(TARGET)])

    def both(self) -> tuple[Settlement | None, Settlement | None]:
        """Return the last settlements in the ledgers of home and target."""
        own = self.home.ledger.last_settlement("sent", TARGET)
        return own, self.target.ledger.last_settlement(SERVED, HOME)

    def mismatches(self) -> list[tuple[str, str]]:
        """Return kind and request of all mismatches at home."""
        settled = reversed(self.home.store.settled(100))
        return [(each.what, each.request) for one in settled for each in one.mismatches]


def served(request: str, energy_uj: int = 1_000, **changes: Any) -> BookedRequest:
    """Return what the books of the target have of a request."""
    values: dict[str, Any] = {
        "id": f"target-{request}",
        "request": request,
        "tenant": f"site:{HOME}",
        "model": "m",
        "priority": "standard",
        "prompt_tokens": 100,
        "cached_tokens": 0,
        "output_tokens": 50,
        "energy_uj": energy_uj,
        "energy_source": "emulated",
        "started_us": BEGIN_S * 1_000_000,
        "ended_us": BEGIN_S * 1_000_000 + 1,
        "finish": "stop",
    }
    return BookedRequest(**(values | changes))
