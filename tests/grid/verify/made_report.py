"""A report of a made event, for the tests of reports and pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from tests.grid.verify.loads import FRIDAY

from steppe.grid.verify.delivery import Direction
from steppe.grid.verify.like_days import TEN_IN_TEN, freeze
from steppe.grid.verify.load import Load
from steppe.grid.verify.making import Promise, Scores, report_of
from steppe.grid.verify.regulation import RegulationScore
from steppe.grid.verify.report import EventReport, Metered, ReportedEvent
from steppe.grid.verify.settlement import EnergyTerms
from steppe.grid.verify.times import DAY_S, HOUR_S, Calendar, EventTimes
from steppe.grid.verify.tracking import following_of

QUARTER_S = 900
OFFSET_S = 8 * HOUR_S
FIRST_DAY = FRIDAY - 80
START_S = FRIDAY * DAY_S + 6 * HOUR_S
"""14:00 local."""
TIMES = EventTimes(START_S - 600, START_S, START_S + 3 * HOUR_S)
ASKED = ReportedEvent("e-17", "peak", "limit", "OpenADR", "hohhot-1", START_S - 600)


def made_load() -> Load:
    """Return a load of 81 days by the quarter of an hour, with a cut of 30 % in the event."""
    rng = np.random.default_rng(11)
    hours = np.arange(81 * 96) / 4
    usual = 900_000 + 120_000 * np.sin((hours - 1) / 24 * 2 * np.pi)
    watts = np.round(usual * (1 + rng.normal(0, 0.02, len(hours)))).astype(int)
    first = (START_S - FIRST_DAY * DAY_S) // QUARTER_S
    watts[first : first + 12] = np.round(watts[first : first + 12] * 0.7)
    watts[first + 12] = int(watts[first + 12] * 1.04)
    drawn: list[int | None] = [int(each) for each in watts]
    drawn[first + 5] = None
    return Load(FIRST_DAY * DAY_S, QUARTER_S, tuple(drawn))


LOAD = made_load()
FROZEN = freeze(TEN_IN_TEN, TIMES, LOAD, Calendar(utc_offset_s=OFFSET_S))


def made_report(**changes: Any) -> EventReport:
    """Return the report of the made event."""
    following = changes.pop("following", following_of(1, [700] * 180, [900] * 8 + [700] * 172))
    regulation = changes.pop("regulation", RegulationScore(12, 0.98, 0.95, 0.961))
    terms = changes.pop("terms", EnergyTerms("CNY", 5_000_000_000, 10_000_000_000))
    values: dict[str, Any] = {
        "baseline": FROZEN,
        "metered": Metered(
            LOAD.part(START_S - 4 * HOUR_S, START_S + 6 * HOUR_S), "emulated", "site", OFFSET_S
        ),
        "promise": Promise(changes.pop("committed", [250_000] * 12), terms),
        "scores": Scores(following, regulation),
    }
    asked = changes.pop("asked", ASKED)
    direction = changes.pop("direction", Direction.LESS)
    times = changes.pop("times", TIMES)
    return report_of(asked, times, direction, **(values | changes))


def named(**texts: Any) -> ReportedEvent:
    """Return what was asked for, under other names."""
    return replace(ASKED, **texts)
