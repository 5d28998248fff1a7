from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.gateway.sharing.direct import DirectCoordination

from steppe.gateway.sharing.coordinator import LOST_S, SETTLE_S, Coordinator
from steppe.gateway.sharing.shared_limits import SharedLimits, part_of
from steppe.tenants.limiter import RequestSize, Taken, TenantLimiter
from steppe.tenants.tenant import Tenant, TenantLimits
from steppe.tenants.usage import LimitReachedError, RequestCharge

SIZE = RequestSize(10, 10)


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Site:
    """Gateways with one coordinator."""

    clock: Clock
    coordination: DirectCoordination
    limits: list[SharedLimits]

    async def ask(self, tenant: Tenant, *requests: int) -> list[RequestCharge]:
        """Ask for so many requests at each gateway, all at once; return those that may begin."""
        asks = [
            limits.admit(tenant, SIZE)
            for limits, count in zip(self.limits, requests, strict=True)
            for _ in range(count)
        ]
        found = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(each, RequestCharge | LimitReachedError) for each in found), found
        return [each for each in found if isinstance(each, RequestCharge)]

    async def tell(self) -> None:
        """Wait until the coordinator has heard of everything."""
        async with asyncio.timeout(20):
            while any(each._ended or each._begun or each._settled for each in self.limits):
                await asyncio.sleep(0.001)


@asynccontextmanager
async def site(gateways: int) -> AsyncIterator[Site]:
    clock = Clock()
    coordination = DirectCoordination(Coordinator(clock))
    clock.now_s += SETTLE_S
    limits = [
        SharedLimits(str(number), coordination, TenantLimiter(), clock, gateways)
        for number in range(gateways)
    ]
    tasks = [asyncio.create_task(each.run()) for each in limits]
    try:
        yield Site(clock, coordination, limits)
    finally:
        for task in tasks:
            task.cancel()


def tenant(**limits: int | float) -> Tenant:
    return Tenant("lab", TenantLimits(**limits))  # type: ignore[arg-type]


@pytest.mark.parametrize("requests", [(200, 200), (400, 0), (30, 370)])
@pytest.mark.parametrize("limit", ["requests_per_minute", "concurrency"])
async def test_of_four_times_the_limit_exactly_the_limit_may_begin(
    limit: str, requests: tuple[int, int]
) -> None:
    async with site(2) as made:
        assert len(await made.ask(tenant(**{limit: 100}), *requests)) == 100


async def test_tokens_and_joules_are_settled_once_for_all() -> None:
    async with site(2) as made:
        lab = tenant(tokens_per_minute=100, joules_per_hour=1000.0)
        (charge,) = await made.ask(lab, 1, 0)
        assert len(await made.ask(lab, 2, 2)) == 4, "each is charged 20 tokens"
        made.limits[0].end("r", charge, Taken(10, 0))
        made.limits[0].settle("r", lab, Taken(10, 0, 990.0))
        made.limits[0].settle("r", lab, Taken(10, 0, 990.0))
        await made.tell()
        state = made.coordination.coordinator._limiter.usage("lab")
        assert state.energy_j(made.clock()) == (990.0, 990.0)
        assert (made.limits[1].states(lab)["tokens"].remaining) == 0
        assert not await made.ask(lab, 0, 1)


async def test_a_request_that_ends_at_one_gateway_makes_room_at_the_other() -> None:
    async with site(2) as made:
        lab = tenant(concurrency=1)
        (charge,) = await made.ask(lab, 1, 0)
        assert not await made.ask(lab, 0, 1)
        made.limits[0].end("r", charge, Taken(10, 5))
        async with asyncio.timeout(20):
            while not await made.ask(lab, 0, 1):
                await asyncio.sleep(0.001)


async def test_a_client_that_leaves_while_it_is_asked_for_takes_no_place() -> None:
    async with site(1) as made:
        lab = tenant(concurrency=1)
        for _ in range(2):
            leaving = asyncio.create_task(made.limits[0].admit(lab, SIZE))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
        await made.tell()
        assert len(await made.ask(lab, 1)) == 1


async def test_without_the_coordinator_each_gateway_keeps_its_part() -> None:
    async with site(2) as made:
        made.coordination.is_down = True
        assert len(await made.ask(tenant(requests_per_minute=10), 20, 20)) == 10


async def test_what_began_without_the_coordinator_counts_once_it_answers() -> None:
    async with site(2) as made:
        lab = tenant(requests_per_minute=10)
        await made.ask(lab, 1, 1)
        made.coordination.is_down = True
        assert len(await made.ask(lab, 3, 1)) == 4
        made.coordination.is_down = False
        await made.tell()
        assert len(await made.ask(lab, 9, 9)) == 4


async def test_a_new_coordinator_learns_what_was_used_and_what_is_open() -> None:
    async with site(2) as made:
        lab = tenant(requests_per_minute=10, concurrency=5)
        charges = await made.ask(lab, 2, 3)
        made.coordination.coordinator = Coordinator(made.clock)
        assert len(await made.ask(lab, 9, 9)) == 1, "each has three places at most, while it is new"
        made.clock.now_s += SETTLE_S
        assert not await made.ask(lab, 1, 1), "six are open"
        for number, charge in enumerate(charges):
            made.limits[0 if number < 2 else 1].end(f"r{number}", charge, Taken(10, 5))
        await made.tell()
        assert len(await made.ask(lab, 9, 9)) == 4, "six have been, in this minute, and one is open"


async def test_what_is_open_at_a_gateway_ends_when_it_restarts() -> None:
    async with site(2) as made:
        lab = tenant(requests_per_minute=10, concurrency=4)
        assert len(await made.ask(lab, 4, 0)) == 4
        made.limits[0] = SharedLimits("0", made.coordination, TenantLimiter(), made.clock, 2)
        task = asyncio.create_task(made.limits[0].run())
        assert len(await made.ask(lab, 9, 0)) == 4, "the four before have died with it"
        made.clock.now_s += LOST_S + 1
        assert len(await made.ask(lab, 0, 9)) == 2, "these, too: it is lost; but ten is the limit"
        task.cancel()


async def test_tenants_without_limits_are_not_asked_about() -> None:
    async with site(1) as made:
        assert len(await made.ask(Tenant("lab"), 50)) == 50
        assert made.coordination.batches == []


async def test_many_requests_need_few_calls() -> None:
    async with site(1) as made:
        await made.ask(tenant(requests_per_minute=1000), 500)
        assert len(made.coordination.batches) <= 3


def test_a_part_of_a_limit_is_at_least_one() -> None:
    limits = TenantLimits(requests_per_minute=1, concurrency=10)
    assert part_of(limits, 4) == TenantLimits(requests_per_minute=1, concurrency=3)
