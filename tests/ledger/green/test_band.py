"""The band of a tariff: renewable power that nothing else would use, or not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from steppe.ledger.green.band import band_of

POWER = {"surplus_w": 500.0, "draw_w": 400.0, "stale": False}


def test_renewable_power_above_the_draw_is_a_surplus() -> None:
    assert band_of(POWER, 1.0) == "surplus"


@pytest.mark.parametrize(
    ("changes", "age_s"),
    [
        ({"draw_w": 500.0}, 1.0),
        ({"surplus_w": 0.0}, 1.0),
        ({"stale": True}, 1.0),
        ({"surplus_w": None}, 1.0),
        ({}, 10.5),
        ({}, math.nan),
    ],
)
def test_what_is_no_surplus_or_is_unknown_is_normal(changes: dict[str, Any], age_s: float) -> None:
    assert band_of(POWER | changes, age_s) == "normal"


def test_before_the_first_tick_the_band_is_normal() -> None:
    assert band_of({}, 1.0) == "normal"
