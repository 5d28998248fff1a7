"""A made-up run for a ledger: requests that ask for admission, end, and are booked.

It keeps what the ledger has acknowledged, and hands its bookings over as a bad network would:
several at once, out of order, and some of them twice.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steppe.ledger.booking import BookedRequest, BookedTotals, Booking

RUN, TARIFF, CURRENCY = "run-1", "flat-1", "CNY"
PRICES = {"standard": (100, 400), "deferrable": (10, 40)}
"""Price of a prompt token and of an output token of each class, 10^-9."""
TARIFF_FILE = f"""
id: {TARIFF}
currency: {CURRENCY}
valid_from_us: 0
rates:
- {{priority: deferrable, prompt_nano: 10, output_nano: 40}}
- {{prompt_nano: 100, output_nano: 400}}
"""
RATES = {"deferrable": f"{TARIFF}/0", "standard": f"{TARIFF}/1"}
DEPOSITS = {"lab": 10**12, "uni": 40_000_000, "school": 1_000_000}
"""What each tenant pays in; the last two run out of it. One more tenant has no account."""
TENANTS = (*DEPOSITS, "guest")
WINDOW, REPLICAS = 8, ("r0", "r1")
"""Most bookings that wait for their acknowledgement, and the meters."""
FINISHES = ("stop", "stop", "stop", "length", "cancelled", "error")


def price_nano(request: BookedRequest) -> int:
    """Return what a request costs, by the table above."""
    if request.finish == "error":
        return 0
    prompt, output = PRICES[request.priority]
    return request.prompt_tokens * prompt + request.output_tokens * output


@dataclass
class MadeRun:
    """What was asked, what was answered, and what has to be booked.

    Attributes:
        rng: Chooses everything.
        now_us: Reads the clock of the run, us since the Unix epoch.
        terms: The admissions that the ledger has acknowledged, by request.
        ended: The requests that have ended, by id.
        bookings: All bookings so far.
        acknowledged: Number of the last one that the ledger has acknowledged.
        faults: What the ledger has done that it must not.
    """

    rng: random.Random
    now_us: Callable[[], int]
    terms: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ended: dict[str, BookedRequest] = field(default_factory=dict)
    bookings: list[Booking] = field(default_factory=list)
    acknowledged: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    handed_over: int = 0
    _asked: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _begun_us: dict[str, int] = field(default_factory=dict)
    _unanswered: set[str] = field(default_factory=set)
    _open: set[str] = field(default_factory=set)
    _gone: set[str] = field(default_factory=set)
    _energy_uj: Counter[str] = field(default_factory=Counter)
    _meters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REPLICAS, 0))

    def admissions(self) -> list[Mapping[str, Any]]:
        """Return some requests to ask for, among them earlier ones that had no answer."""
        again = sorted(self._unanswered)[:4]
        new = [self._new_request() for _ in range(self.rng.randint(1, 6))]
        self._unanswered.update(each["request"] for each in new)
        return [*(self._asked[id_] for id_ in again), *new]

    def note_outcome(self, asked: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """Take the answer to an admission."""
        id_ = asked["request"]
        self._unanswered.discard(id_)
        before = self.terms.get(id_)
        if before is None and "terms" in outcome:
            self.terms[id_] = outcome
            if self.rng.random() < 0.95:  # of the others nothing more is heard
                self._open.add(id_)
        elif before is None:
            self.refused += outcome["code"] == "insufficient_funds"
            self.faults["other refusals"] += outcome["code"] != "insufficient_funds"
        elif outcome.get("code") == "conflict" and id_ in self._gone:
            return  # it was asked for twice at once, and has ended meanwhile
        elif any(before[name] != outcome.get(name) for name in ("terms", "held")):
            self.faults["terms that changed"] += 1

    def to_release(self) -> list[str]:
        """Return some admitted requests that no replica gets."""
        gone = self.rng.sample(sorted(self._open), min(len(self._open), 1))
        self._open.difference_update(gone)
        self._gone.update(gone)
        return gone

    def book(self, *, is_last: bool = False) -> None:
        """End some requests, and add a booking for them."""
        count = min(len(self._open), self.rng.randint(0, 8))
        ids = sorted(self._open) if is_last else self.rng.sample(sorted(self._open), count)
        self._open.difference_update(ids)
        self._gone.update(ids)
        requests = tuple(self._end(id_) for id_ in ids)
        used_uj = sum(each.energy_uj for each in requests)
        self._energy_uj["open"] += self.rng.randrange(2_000_000)
        short_uj = max(0, used_uj - self._energy_uj["open"])
        self._energy_uj["open"] += short_uj - used_uj
        for name in ("idle", "transition", "unclaimed"):
            self._energy_uj[name] += self.rng.randrange(1_000_000)
        self._energy_uj["requests"] += used_uj
        total_uj = self._energy_uj.total()
        first_uj = max(self._meters["r0"], total_uj // 2)
        self._meters = {"r0": first_uj, "r1": total_uj - first_uj}
        number = len(self.bookings) + 1
        totals = BookedTotals(
            meters=dict(self._meters),
            idle_uj=self._energy_uj["idle"],
            transition_uj=self._energy_uj["transition"],
            unclaimed_uj=self._energy_uj["unclaimed"],
        )
        self.bookings.append(Booking(RUN, number, self.now_us(), "gpu", requests, totals, is_last))

    @property
    def waiting(self) -> list[Booking]:
        """The bookings without an acknowledgement, oldest first."""
        return self.bookings[self.acknowledged :]

    def next_bookings(self) -> list[Booking]:
        """Return bookings to hand over: those that wait in some order, and some more than once."""
        if len(self.waiting) < WINDOW:
            self.book()
        wanted = self.waiting[:WINDOW]
        if self.acknowledged and self.rng.random() < 0.2:
            wanted.append(self.bookings[self.rng.randrange(self.acknowledged)])
        if self.rng.random() < 0.2:
            wanted.append(self.rng.choice(wanted))
        if self.rng.random() < 0.5:
            self.rng.shuffle(wanted)
        self.handed_over += len(wanted)
        return wanted

    def acknowledge(self, number: int) -> None:
        """Take the number of the last booking that the ledger has."""
        if number < self.acknowledged:
            self.faults["bookings that were forgotten"] += 1
        elif number > len(self.bookings):
            self.faults["bookings that were never made"] += 1
        self.acknowledged = max(self.acknowledged, min(number, len(self.bookings)))

    @property
    def booked(self) -> list[BookedRequest]:
        """The requests of all acknowledged bookings."""
        return [each for one in self.bookings[: self.acknowledged] for each in one.requests]

    def _new_request(self) -> Mapping[str, Any]:
        id_ = f"{len(self._asked):07x}{self.rng.getrandbits(64):016x}"
        self._begun_us[id_] = self.now_us()
        self._asked[id_] = {
            "request": id_,
            "tenant": self.rng.choice(TENANTS),
            "model": "small",
            "priority": self.rng.choice(tuple(PRICES)),
            "prompt_tokens": self.rng.randint(1, 300),
            "max_tokens": self.rng.randint(1, 200),
        }
        return self._asked[id_]

    def _end(self, id_: str) -> BookedRequest:
        asked, rng = self._asked[id_], self.rng
        tokens = rng.randint(1, asked["max_tokens"])
        begun_us = self._begun_us[id_]
        self.ended[id_] = BookedRequest(
            id=id_,
            request=f"of-client-{id_}",
            tenant=asked["tenant"],
            model=asked["model"],
            priority=asked["priority"],
            prompt_tokens=asked["prompt_tokens"],
            cached_tokens=0,
            output_tokens=tokens,
            energy_uj=tokens * rng.randint(1_000, 9_000),
            energy_source="emulated",
            started_us=begun_us,
            ended_us=begun_us + tokens * 10_000,
            finish=rng.choice(FINISHES),
            terms=self.terms[id_]["terms"],
        )
        return self.ended[id_]
