from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.report.quantities import quantity, share, source_text, span

FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 W"),
        (0.0829, "0.0829 W"),
        (1.0, "1.00 W"),
        (81.24, "81.2 W"),
        (999.4, "999 W"),
        (999.9, "1.00 kW"),
        (1234.0, "1.23 kW"),
        (-1234.0, "-1.23 kW"),
        (5.6e6, "5.60 MW"),
        (None, "–"),
        (math.inf, "–"),
        (math.nan, "–"),
    ],
)
def test_a_quantity_has_three_digits_and_a_prefix(value: float | None, text: str) -> None:
    assert quantity(value, "W") == text


@given(st.floats(1e-3, 1e11))
def test_a_quantity_reads_back_within_half_a_percent(value: float) -> None:
    number, unit = quantity(value, "J").split()
    assert float(number) * FACTORS[unit.removesuffix("J")] == pytest.approx(value, rel=0.0051)


def test_a_span_has_hours_only_when_needed() -> None:
    assert span(65.9) == "1:05"
    assert span(3753) == "1:02:33"


def test_an_unknown_share_is_a_gap() -> None:
    assert share(None) == "–"
    assert share(0.0341) == "3.4 %"


def test_an_energy_source_that_is_not_metered_says_so() -> None:
    assert source_text("emulated") == "emulated (modelled, not measured)"
    assert source_text("estimated") == "estimated (not all of it metered)"
    assert source_text("counter") == "counter"
