from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.beating_sites import view_of

from steppe.ledger.green.match import FIRST as FIRST_MATCH
from steppe.ledger.green.match import Match
from steppe.ledger.log.checkpoint import Proof
from steppe.ledger.log.log import Log
from steppe.ledger.periods.period import FIRST, Meter, Period
from steppe.ledger.signing import PrivateKey, SignatureError
from steppe.ledger.tree import EMPTY_ROOT, ProofError
from steppe.sites.beats.message import Beat, Origin
from steppe.sites.trust.claims import (
    HOUR_US,
    ClaimBook,
    ClaimedHour,
    Fits,
    Lied,
    MeteredHour,
    RecordError,
    Tolerance,
    Unheard,
    Withheld,
    judge,
    metered_hour,
)
from steppe.sites.trust.suspects import FIRST_S, LONGEST_S, WITHHELD, Suspect

HOUR, STEP_S = 497_000, 10
TOLERANCE = Tolerance(share=0.05, least_j=1000.0)
ORIGIN, KEY = "example.org/hohhot", PrivateKey("example.org/hohhot", b"1" * 32)


def beat(at_s: float, draw_w: float, surplus_w: float, ahead_s: float = 0.0) -> Beat:
    """Return a beat of a second of the hour, of a clock that may be wrong."""
    at_us = HOUR * HOUR_US + round((at_s + ahead_s) * 1e6)
    view = replace(view_of("hohhot", draw_w=draw_w, surplus_w=surplus_w), received_s=50.0 + at_s)
    return Beat("shanghai", Origin("1" * 16, int(at_s)), None, None, at_us, 10.0, view)


def claimed(
    draw_w: float, surplus_w: float, last_s: int = 3600, ahead_s: float = 0.0
) -> ClaimedHour:
    """Return what a site claims that says the same all the time."""
    book = ClaimBook(longest_s=2 * STEP_S)
    for at_s in range(0, last_s + 1, STEP_S):
        book.note(beat(at_s, draw_w, surplus_w, ahead_s))
    return book.hour(HOUR + int(ahead_s // 3600))


def metered(draw_w: float, grid_w: float | None = None) -> MeteredHour:
    grid_uj = None if grid_w is None else round(grid_w * 3600e6)
    return MeteredHour(HOUR, round(draw_w * 3600e6), grid_uj)


def test_claims_of_an_hour_are_added_up_by_the_time_they_held() -> None:
    hour = claimed(700.0, 300.0)
    assert (hour.heard_s, hour.draw_j, hour.surplus_j) == (3600.0, 700 * 3600.0, 300 * 3600.0)
    assert (hour.dry_j, hour.peak_w, hour.jumps) == (0.0, 700.0, 0)


def test_an_honest_site_fits() -> None:
    assert judge(claimed(700.0, 300.0), metered(690.0, grid_w=0.0), TOLERANCE) == Fits(HOUR)
    assert judge(claimed(700.0, 0.0), metered(710.0, grid_w=400.0), TOLERANCE) == Fits(HOUR)
    assert judge(claimed(700.0, 0.0), metered(700.0), TOLERANCE) == Fits(HOUR)


@pytest.mark.parametrize("draw_w", [500.0, 900.0])
def test_a_draw_that_its_meters_did_not_count_is_a_lie(draw_w: float) -> None:
    verdict = judge(claimed(draw_w, 0.0), metered(700.0), TOLERANCE)
    assert isinstance(verdict, Lied)
    assert (verdict.what, verdict.asked_j, verdict.found_j) == ("draw", 700 * 3600, draw_w * 3600)
    assert verdict.text.startswith(f"hour {HOUR}: draw: asked for 2520000 J within")


def test_a_surplus_of_a_site_that_buys_from_the_grid_is_a_lie() -> None:
    verdict = judge(claimed(700.0, 300.0), metered(700.0, grid_w=200.0), TOLERANCE)
    assert isinstance(verdict, Lied)
    assert (verdict.what, verdict.found_j) == ("surplus", 200 * 3600)


def test_meters_that_enclose_more_than_the_gpus_may_count_more_than_was_claimed() -> None:
    record = replace(metered(900.0), boundary="site")
    assert judge(claimed(700.0, 0.0), record, TOLERANCE) == Fits(HOUR)
    assert isinstance(judge(claimed(1_000.0, 0.0), record, TOLERANCE), Lied)


def test_what_a_site_uses_beside_its_gpus_may_come_from_the_grid_too() -> None:
    record = replace(metered(700.0, grid_w=910.0), load_uj=round(910.0 * 3600e6))
    assert judge(claimed(700.0, 0.0), record, TOLERANCE) == Fits(HOUR)
    assert isinstance(judge(claimed(700.0, 300.0), record, TOLERANCE), Lied)


def test_a_surplus_without_a_record_of_the_supply_cannot_be_judged() -> None:
    assert isinstance(judge(claimed(700.0, 300.0), metered(700.0), TOLERANCE), Withheld)


def test_an_hour_that_was_heard_for_half_of_it_is_not_judged() -> None:
    verdict = judge(claimed(500.0, 0.0, last_s=1800), metered(900.0), TOLERANCE)
    assert verdict == Unheard(HOUR, 1800.0)


def test_a_gap_is_not_counted_as_heard() -> None:
    book = ClaimBook(longest_s=2 * STEP_S)
    for at_s in (0, 10, 1810, 1820):
        book.note(beat(at_s, 700.0, 0.0))
    assert book.hour(HOUR).heard_s == 40.0


@pytest.mark.parametrize("ahead_s", [-7200.0, 3600.0, 86_400.0 * 365])
def test_a_clock_that_is_wrong_is_no_lie(ahead_s: float) -> None:
    hour = claimed(700.0, 0.0, ahead_s=ahead_s)
    assert hour.heard_s == 3600.0
    record = replace(metered(700.0), hour=hour.hour)
    assert judge(hour, record, TOLERANCE) == Fits(hour.hour)


def test_a_clock_that_stands_does_not_hide_a_lie() -> None:
    book = ClaimBook(longest_s=2 * STEP_S)
    for at_s in range(0, 7200, STEP_S):
        book.note(beat(at_s, 500.0, 0.0, ahead_s=-at_s))
    assert isinstance(judge(book.hour(HOUR), metered(900.0), TOLERANCE), Withheld)


def test_a_clock_that_jumps_to_the_next_hour_does_not_hide_a_lie() -> None:
    book = ClaimBook(longest_s=2 * STEP_S)
    for at_s in range(0, 3600, STEP_S):
        book.note(beat(at_s, 500.0, 0.0, ahead_s=3600 * (at_s // 600)))
    verdicts = [
        judge(book.hour(HOUR + n), replace(metered(900.0), hour=HOUR + n), TOLERANCE)
        for n in range(5)
    ]
    assert all(isinstance(verdict, Withheld) for verdict in verdicts)


@given(
    st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1), st.floats(-0.04, 0.04), st.floats(0, 1)
)
def test_who_says_what_its_meters_count_is_never_a_liar(
    draw_w: float, surplus_w: float, share: float, noise: float, grid: float
) -> None:
    wet_s = 3600 * share
    hour = ClaimedHour(HOUR).after(wet_s, draw_w, surplus_w).after(3600 - wet_s, draw_w, 0.0)
    grid_w = draw_w * grid * ((1 - share) if surplus_w else 1.0)
    record = metered(draw_w * (1 + noise), grid_w=grid_w)
    assert judge(hour, record, Tolerance()) == Fits(HOUR)


@given(st.floats(1e3, 1e6), st.floats(0.12, 0.9), st.booleans())
def test_a_draw_that_is_wrong_by_more_than_a_tenth_is_always_a_lie(
    draw_w: float, share: float, is_less: bool
) -> None:
    said_w = draw_w * (1 - share) if is_less else draw_w / (1 - share)
    hour = ClaimedHour(HOUR).after(3600.0, said_w, 0.0)
    assert isinstance(judge(hour, metered(draw_w), TOLERANCE), Lied)


@pytest.fixture
def period() -> Period:
    meter = Meter.between("pdu", 0, 2_520_000_000_000)
    return Period(
        site="hohhot",
        boundary="site",
        hour=HOUR,
        before=FIRST,
        meters=(meter,),
        receipts=0,
        receipts_uj=0,
        corrections=0,
        corrections_uj=0,
        idle_uj=meter.energy_uj,
        transition_uj=0,
        waste_uj=0,
        unclaimed_uj=0,
        carried_in_uj=0,
        carried_out_uj=0,
        meter_uj=meter.energy_uj,
        root=EMPTY_ROOT.hex(),
    )


@pytest.fixture
def match(period: Period) -> Match:
    return Match(
        site="hohhot",
        boundary="site",
        hour=HOUR,
        number=0,
        before=FIRST_MATCH,
        period=period.hash,
        zone="cn-north",
        load_wh=700,
        load_uj=period.meter_uj,
        source_wh={"wind": 500, "grid/coal": 150, "grid/wind": 50},
        lost_uj=0,
        green_wh=500,
        gec_wh=0,
        certificates={},
        receipts=0,
        receipts_uj=0,
        sold_uj=0,
        gec_sold_uj=0,
        root=EMPTY_ROOT.hex(),
    )


def logged(folder: Path, *entries: bytes) -> list[tuple[bytes, Proof]]:
    log = Log(folder, ORIGIN, [KEY])
    log.add(list(entries))
    return [(entry, log.proof(index)) for index, entry in enumerate(entries)]


def test_signed_records_say_what_a_site_drew_and_bought(
    period: Period, match: Match, tmp_path: Path
) -> None:
    entries = logged(tmp_path, period.entry, match.entry)
    record = metered_hour(entries, "hohhot", ORIGIN, [KEY.public])
    assert (record.hour, record.energy_uj) == (HOUR, 700 * 3_600_000_000)
    assert record.grid_uj == 200 * 3_600_000_000
    assert record.evidence == tuple(entries)
    verdict = judge(claimed(700.0, 300.0), record, TOLERANCE)
    assert isinstance(verdict, Lied)
    assert verdict.metered.evidence == tuple(entries)


def test_records_that_are_not_signed_or_not_in_the_log_are_refused(
    period: Period, tmp_path: Path
) -> None:
    ((entry, proof),) = logged(tmp_path, period.entry)
    with pytest.raises(SignatureError):
        metered_hour([(entry, proof)], "hohhot", ORIGIN, [PrivateKey("x", b"2" * 32).public])
    less = replace(period, hour=HOUR - 1)
    with pytest.raises(ProofError):
        metered_hour([(less.entry, proof)], "hohhot", ORIGIN, [KEY.public])


def test_records_of_another_site_or_hour_are_refused(
    period: Period, match: Match, tmp_path: Path
) -> None:
    other = replace(match, period="0" * 64)
    entries = logged(tmp_path, period.entry, other.entry)
    with pytest.raises(RecordError, match="found another one"):
        metered_hour(entries, "hohhot", ORIGIN, [KEY.public])
    with pytest.raises(RecordError, match="asked for one of guizhou, found hohhot"):
        metered_hour(entries[:1], "guizhou", ORIGIN, [KEY.public])


def test_a_site_that_lied_gets_no_work_for_longer_each_time() -> None:
    lied = judge(claimed(500.0, 0.0), metered(900.0), TOLERANCE)
    suspect = Suspect().after(lied, 100.0)
    assert suspect.is_barred(100.0 + FIRST_S - 1)
    assert not suspect.is_barred(100.0 + FIRST_S)
    again = suspect.after(lied, 10_000.0)
    assert again.is_barred(10_000.0 + 2 * FIRST_S - 1)
    assert again.evidence == (lied, lied)
    for _ in range(30):
        again = again.after(lied, 20_000.0)
    assert not again.is_barred(20_000.0 + LONGEST_S)


def test_a_site_that_gives_no_records_gets_no_work_until_an_hour_fits() -> None:
    suspect = Suspect()
    for hour in range(WITHHELD):
        assert not suspect.is_barred(0.0)
        suspect = suspect.after(Unheard(hour, 5.0), 0.0).after(Withheld(hour, "none"), 0.0)
    assert suspect.is_barred(1e9)
    assert not suspect.after(Fits(WITHHELD), 0.0).is_barred(0.0)
