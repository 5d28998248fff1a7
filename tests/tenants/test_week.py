"""Tenants that ask for more than they may, for a day and a week of virtual time."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count

import pytest

from steppe.control.admission import AdmissionQueue, Ticket
from steppe.tenants.limiter import RequestSize, Taken, TenantLimiter
from steppe.tenants.tenant import Tenant, TenantLimits
from steppe.tenants.usage import LimitReachedError, RequestCharge

TENANTS = (
    Tenant("requests", TenantLimits(requests_per_minute=4)),
    Tenant("tokens", TenantLimits(tokens_per_minute=12_000), weight=2.0),
    Tenant("hour", TenantLimits(joules_per_hour=40_000.0), priority="standard"),
    Tenant("day", TenantLimits(joules_per_day=200_000.0), priority="deferrable"),
    Tenant("free", priority="deferrable"),
)
RANKS = {"requests": 0, "tokens": 0, "hour": 1, "day": 2, "free": 2}
OFFERED_RPS = {"requests": 0.06, "tokens": 0.2, "hour": 0.08, "day": 0.02, "free": 0.02}
LONGEST_OUTPUT = 1000
"""What the model's length leaves for an output, tokens."""
SHARES = (0.0, 0.2, 0.2)
SERVED_TPS = 250.0
"""Below what is offered and allowed at busy times, so that requests wait."""
BOOKS_S = 5.0
"""Time from the end of a request until its energy is known, s."""


@dataclass
class Asked:
    """One request of the week."""

    tenant: Tenant
    prompt: int
    output: int
    joules: float
    charge: RequestCharge
    at_s: float
    number: int
    ticket: Ticket | None = None

    @cached_property
    def tokens(self) -> int:
        return self.prompt + self.output


@dataclass
class Week:
    """One server, the queue before it, and tenants that come back when they are told to."""

    rng: random.Random
    length_s: float
    limiter: TenantLimiter = field(default_factory=TenantLimiter)
    queue: AdmissionQueue = field(default_factory=lambda: AdmissionQueue(SHARES))
    waiting: dict[int, Asked] = field(default_factory=dict)
    of_rank: list[int] = field(default_factory=lambda: [0, 0, 0])
    admitted: list[Asked] = field(default_factory=list)
    served: list[tuple[float, Asked, frozenset[int]]] = field(default_factory=list)
    refused: int = 0
    events: list[tuple[float, int, str, object]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    free: bool = True

    def at(self, time_s: float, kind: str, what: object = None) -> None:
        heapq.heappush(self.events, (time_s, next(self.numbers), kind, what))

    def run(self) -> None:
        for tenant in TENANTS:
            self.at(self.rng.expovariate(OFFERED_RPS[tenant.name]), "ask", tenant)
        while self.events and self.events[0][0] < self.length_s:
            now_s, _, kind, what = heapq.heappop(self.events)
            match kind, what:
                case "ask", Tenant() as tenant:
                    busy = 1.0 + math.sin(2 * math.pi * now_s / 86400.0)
                    gap_s = self.rng.expovariate(OFFERED_RPS[tenant.name] * max(0.1, busy))
                    self.at(now_s + gap_s, "ask", tenant)
                    self.ask(now_s, tenant, comes_back=False)
                case "again", Tenant() as tenant:
                    self.ask(now_s, tenant, comes_back=True)
                case "end", Asked() as asked:
                    self.end(now_s, asked)
                case "books", Asked() as asked:
                    taken = Taken(asked.prompt, asked.output, asked.joules)
                    self.limiter.settle(str(asked.number), now_s, taken)

    def ask(self, now_s: float, tenant: Tenant, *, comes_back: bool) -> None:
        prompt = 1 + int(self.rng.lognormvariate(6.0, 0.8))
        output = min(LONGEST_OUTPUT, 1 + int(self.rng.lognormvariate(4.5, 0.8)))
        limit = 2 * output if self.rng.random() < 0.5 else None
        size = RequestSize(prompt, limit)
        try:
            charge = self.limiter.admit(tenant, now_s, size)
        except LimitReachedError as error:
            self.refused += 1
            if not comes_back and math.isfinite(error.retry_after_s):
                self.at(now_s + error.retry_after_s, "again", tenant)
            return
        number = next(self.numbers)
        joules = (prompt / 8 + output) * self.rng.uniform(0.8, 1.25)
        asked = Asked(tenant, prompt, output, joules, charge, now_s, number)
        self.admitted.append(asked)
        self.waiting[number] = asked
        cost = self.limiter.expected_tokens(size)
        rank = RANKS[tenant.name]
        self.of_rank[rank] += 1
        asked.ticket = Ticket(rank, number, math.inf, tenant.name, tenant.weight, cost)
        self.queue.join(asked.ticket)
        self.serve(now_s)

    def serve(self, now_s: float) -> None:
        if self.free and len(self.queue):
            ranks = frozenset(rank for rank, waiting in enumerate(self.of_rank) if waiting)
            ticket = self.queue.pop(now_s)
            assert ticket is not None
            asked = self.waiting.pop(ticket.number)
            self.of_rank[ticket.rank] -= 1
            self.served.append((now_s, asked, ranks))
            self.free = False
            self.at(now_s + asked.tokens / SERVED_TPS, "end", asked)

    def end(self, now_s: float, asked: Asked) -> None:
        has_usage = asked.number % 2
        taken = Taken(asked.prompt, asked.output) if has_usage else Taken()
        self.limiter.end(str(asked.number), asked.charge, now_s, taken)
        assert asked.ticket is not None, "it was queued"
        self.queue.settle(asked.ticket, asked.tokens)
        self.at(now_s + BOOKS_S, "books", asked)
        self.free = True
        self.serve(now_s)


def largest(week: Week, tenant: str, window_s: float, what: str) -> float:
    """Return the most that a tenant used of requests that were admitted in one window."""
    inside: deque[tuple[float, float]] = deque()
    total = most = 0.0
    for asked in week.admitted:
        if asked.tenant.name == tenant:
            amount = {"requests": 1.0, "tokens": asked.tokens, "joules": asked.joules}[what]
            inside.append((asked.at_s, amount))
            total += amount
            while inside[0][0] <= asked.at_s - window_s:
                total -= inside.popleft()[1]
            most = max(most, total)
    return most


def least_share(week: Week, rank: int) -> float:
    """Return the least share of a class in the tokens of an hour in which it always waited."""
    least, hour = 1.0, deque[tuple[float, int, int, bool]]()
    own = total = gaps = 0
    for at_s, asked, ranks in week.served:
        is_own = RANKS[asked.tenant.name] == rank
        hour.append((at_s, is_own * asked.tokens, asked.tokens, rank in ranks))
        own, total, gaps = own + hour[-1][1], total + asked.tokens, gaps + (rank not in ranks)
        while hour[0][0] < at_s - 3600.0:
            _, own_before, before, waited = hour.popleft()
            own, total, gaps = own - own_before, total - before, gaps - (not waited)
        if not gaps and at_s - hour[0][0] > 3500.0:
            least = min(least, own / total)
    return least


def check(length_s: float, seed: int) -> Week:
    week = Week(random.Random(seed), length_s)
    week.run()
    for name, window_s, what, limit in (
        ("requests", 60.0, "requests", 4),
        ("tokens", 60.0, "tokens", 12_000),
        ("hour", 3600.0, "joules", 40_000.0),
        ("day", 86400.0, "joules", 200_000.0),
    ):
        assert largest(week, name, window_s, what) <= 1.05 * limit, name
    for rank, share in enumerate(SHARES):
        # Whole requests are served, so the worst hour of a week is a little below the share.
        assert least_share(week, rank) >= 0.95 * share
    return week


def test_in_a_day_no_limit_is_exceeded_and_no_class_starves() -> None:
    week = check(86400.0, 20)
    assert week.refused > 1000
    # The limits are used, not only kept.
    assert largest(week, "requests", 60.0, "requests") == 4
    assert largest(week, "tokens", 60.0, "tokens") > 0.8 * 12_000
    assert largest(week, "hour", 3600.0, "joules") > 0.8 * 40_000
    assert largest(week, "day", 86400.0, "joules") > 0.8 * 200_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_in_a_week_no_limit_is_exceeded_and_no_class_starves(seed: int) -> None:
    check(7 * 86400.0, seed)
