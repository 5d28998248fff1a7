"""A few hours of wind and sun through all books: no Wh is sold twice, and all of them agree."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_wh_is_sold_twice_and_all_books_agree(
    bench: Callable[[str], Any], tmp_path: Path, seed: int
) -> None:
    hours = 6
    begin = datetime(2014, 2, 3, 9, tzinfo=UTC)
    site, week = bench("ledger_week_site"), bench("ledger_week")
    weather = site.weather_of(None, begin, hours, Random(seed))
    sites = site.sites_of(weather, 8, seed)
    found = week.run_week(tmp_path, sites, int(begin.timestamp()) // 3600, hours)
    assert set(found.faults.values()) == {0}, found.faults
    for name in ("hohhot_green_wh", "hohhot_gec_wh", "wh_sent_between_sites", "corrections"):
        assert found.counts[name] > 0, f"{name}: hours without it show nothing"
    assert found.counts["sales_refused"] == 2 * hours
    assert found.counts["periods"] == 2 * (hours + 1)
