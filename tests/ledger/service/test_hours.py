"""Hours change while runs are booked, corrected and served: the books hold at any time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from tests.ledger.service.running import Running, ServiceFactory, booked

from steppe.errors import UsageError
from steppe.fleet.driver.outbox import BooksOutbox
from steppe.ledger.booking import BookedRequest, BookedTotals
from steppe.ledger.corrections import Right
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.periods.closing import CLOSES_AFTER_H, HOUR_US
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.run.ledger_audit import audit
from steppe.run.ledger_correct import correct
from steppe.run.ledger_folder import ledger_folder

RUNS, STEPS = 2, 30
S_US = 1_000_000
JUMPS_US = (S_US,) * 6 + (600 * S_US, HOUR_US, 3 * HOUR_US, -HOUR_US // 2)


@dataclass
class Run:
    """A run whose requests end some time after they took their energy."""

    rng: random.Random
    outbox: BooksOutbox
    open_uj: list[int] = field(default_factory=list)
    totals: BookedTotals = field(
        default_factory=lambda: BookedTotals({"a": 0}, supply_uj={"wind": 0})
    )
    count: int = 0

    def go_on(self, now_us: int) -> None:
        """Count what was metered in a step, and book the requests that end with it."""
        taken = [self.rng.randrange(1, 5_000) for _ in range(self.rng.randrange(4))]
        idle_uj, before = self.rng.randrange(300), self.totals
        self.open_uj += taken
        self.totals = BookedTotals(
            {"a": before.meters["a"] + idle_uj + sum(taken)},
            before.idle_uj + idle_uj,
            supply_uj={"wind": before.supply_uj["wind"] + self.rng.randrange(2 * UJ_PER_WH)},
            site_uj=before.site_uj + self.rng.randrange(2 * UJ_PER_WH),
        )
        ended = [self.open_uj.pop(0) for _ in range(self.rng.randrange(len(self.open_uj) + 1))]
        self.outbox.add([self.request(energy_uj) for energy_uj in ended], self.totals, now_us)

    def request(self, energy_uj: int) -> BookedRequest:
        self.count += 1
        finish = self.rng.choice(("stop", "stop", "failed"))
        return booked(f"{self.outbox.run}-{self.count}", energy_uj, finish=finish)


def correct_one(running: Running, run: Run) -> None:
    """Correct a receipt, if there is one and anything of it is left."""
    name = f"{run.outbox.run}-{run.rng.randrange(run.count + 1)}"
    store = running.store
    try:
        correct(store, name, Right(output_tokens=run.rng.randrange(50)), running.clock.now_us)
    except UsageError:
        return
    finally:
        store.close()


def faults(running: Running) -> list[str]:
    return audit(ledger_folder(running.folder), lambda _done, _size: None).faults


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_books_hold_while_hours_change(open_service: ServiceFactory, seed: int) -> None:
    rng, running = random.Random(seed), await open_service()
    clock = running.clock
    clock.now_us += HOUR_US - 3 * S_US  # the first hour ends soon
    for number in range(RUNS):
        run = Run(rng, BooksOutbox(f"run-{number}", "gpu"))
        for step in range(STEPS):
            clock.now_us += rng.choice(JUMPS_US)
            run.go_on(clock.now_us)
            is_last = step == STEPS - 1
            run.outbox.seal(float(step), is_last=is_last and number == 0)
            for each in list(run.outbox.sealed) if is_last or rng.random() < 0.7 else []:
                run.outbox.acknowledge(await running.service.take(each))
            if rng.random() < 0.3:
                correct_one(running, run)
            if rng.random() < 0.1:
                await running.stop()
                running = await open_service()
        assert faults(running) == []
    await running.stop()
    clock.now_us += (CLOSES_AFTER_H + 1) * HOUR_US
    running = await open_service()
    store, last = running.store, clock.now_us // HOUR_US - CLOSES_AFTER_H
    async with asyncio.timeout(60):
        while not any(f'"hour":{last},'.encode() in each for each in store.of_kind(PERIOD)):
            await asyncio.sleep(0.02)
    store.close()
    await running.stop()
    assert faults(running) == []
