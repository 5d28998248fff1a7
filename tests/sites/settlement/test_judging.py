"""What a site claims in its beats is held against its signed meter records, each hour once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.sites.settlement.two_sites import TARGET, Clock, Site
from tests.sites.trust.test_claims import HOUR, STEP_S, beat

from steppe.sites.settlement.answer import BadAnswerError
from steppe.sites.settlement.judging import CLOSED_AFTER, Judge
from steppe.sites.settlement.meters import read_records, records_of_hour, write_records
from steppe.sites.settlement.store import SettlementStore
from steppe.sites.trust.claims import Fits, Lied, Unheard, Verdict, Withheld
from steppe.sites.trust.suspects import Suspect

DRAW_W = 700.0


@dataclass
class Records:
    """The meter records of a site, by hour."""

    found: dict[int, bytes] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    async def meters(self, target: str, hour: int) -> bytes | None:
        assert target == TARGET
        self.asked.append(hour)
        return self.found.get(hour)


@dataclass
class Court:
    """A judge and what it needs."""

    judge: Judge
    clock: Clock
    records: Records
    suspects: dict[str, Suspect]
    counted: list[tuple[str, Verdict]]

    def claim(self, draw_w: float) -> None:
        for at_s in range(0, 3600 + STEP_S, STEP_S):
            self.judge.note(beat(at_s, draw_w, 0.0))


@pytest.fixture
def court(tmp_path: Path) -> Court:
    clock, records, suspects = Clock(HOUR * 3600.0), Records(), dict[str, Suspect]()
    counted: list[tuple[str, Verdict]] = []
    judge = Judge(
        [TARGET],
        2.0 * STEP_S,
        SettlementStore(tmp_path / "home"),
        suspects=suspects,
        targets=records,
        epoch_s=clock.epoch_s,
        monotonic_s=lambda: 100.0,
        on_verdict=lambda site, verdict: counted.append((site, verdict)),
    )
    return Court(judge, clock, records, suspects, counted)


@pytest.fixture
async def metered(tmp_path: Path) -> AsyncIterator[bytes]:
    """Return the records of an hour in which the meters counted 700 W."""
    site = await Site.open(TARGET, tmp_path / TARGET, Clock(HOUR * 3600.0 + 10.0))
    site.metered_uj = round(DRAW_W * 3600e6)
    await site.book()
    site.clock.now_s += CLOSED_AFTER * 3600
    await site.close_hours()
    await site.published()
    records = records_of_hour(site.ledger, TARGET, HOUR)
    assert records is not None
    assert records_of_hour(site.ledger, TARGET, HOUR + 2) is None
    yield write_records(records)
    await site.stop()


async def test_an_honest_site_fits_and_is_asked_once(court: Court, metered: bytes) -> None:
    court.records.found[HOUR] = metered
    court.claim(DRAW_W)
    assert await court.judge.judge_due(TARGET) == []
    court.clock.now_s += CLOSED_AFTER * 3600
    assert await court.judge.judge_due(TARGET) == [Fits(HOUR)]
    assert await court.judge.judge_due(TARGET) == []
    assert court.records.asked == [HOUR]
    assert court.counted == [(TARGET, Fits(HOUR))]
    assert not court.suspects[TARGET].is_barred(100.0)


async def test_a_site_that_draws_more_than_it_claims_is_barred(
    court: Court, metered: bytes
) -> None:
    court.records.found[HOUR] = metered
    court.claim(DRAW_W / 2)
    court.clock.now_s += CLOSED_AFTER * 3600
    (verdict,) = await court.judge.judge_due(TARGET)
    assert isinstance(verdict, Lied)
    assert court.suspects[TARGET].is_barred(100.0)
    assert court.suspects[TARGET].evidence[0].metered.evidence


async def test_a_site_without_records_is_barred_after_six_hours(court: Court) -> None:
    court.claim(DRAW_W)
    court.clock.now_s += (CLOSED_AFTER + 5) * 3600
    verdicts = await court.judge.judge_due(TARGET)
    assert [type(verdict) for verdict in verdicts] == [Withheld] * 6
    assert court.suspects[TARGET].is_barred(100.0)


async def test_records_of_another_hour_are_none(court: Court, metered: bytes) -> None:
    court.records.found |= {HOUR: metered, HOUR + 1: metered}
    court.clock.now_s += (CLOSED_AFTER + 1) * 3600
    first, second = await court.judge.judge_due(TARGET)
    assert isinstance(first, Unheard)
    assert second == Withheld(HOUR + 1, f"its records are of hour {HOUR}")


def test_records_that_were_changed_are_refused(metered: bytes) -> None:
    uj = str(round(DRAW_W * 3600e6)).encode()
    with pytest.raises(BadAnswerError, match="does not lead to the root"):
        read_records(metered.replace(uj, b"1" + uj[1:]), TARGET, ())
    with pytest.raises(BadAnswerError, match="asked for one of guizhou, found hohhot"):
        read_records(metered, "guizhou", ())
