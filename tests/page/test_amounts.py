"""Numbers for people."""

from __future__ import annotations

import math

import pytest

from steppe.page.amounts import joules, joules_per_token, milliseconds, number, share, span, watts


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (watts(412.345), "412.3 W"),
        (watts(0.0), "0 W"),
        (watts(123_456.0), "123,456 W"),
        (watts(1_204_000.0), "1.204 MW"),
        (watts(-20.0), "-20 W"),
        (watts(None), "–"),
        (joules(3.14), "3.1 J"),
        (joules(12_400_000.0), "12.400 MJ"),
        (joules(math.nan), "–"),
        (joules_per_token(0.4117), "0.412 J"),
        (joules_per_token(0.000412), "0.412 mJ"),
        (joules_per_token(0.0), "0.000 J"),
        (share(0.625), "62 %"),
        (span(0.4), "0 s"),
        (span(59.6), "1 min"),
        (span(200.0), "3 min 20 s"),
        (span(3600.0), "1 h"),
        (span(7500.0), "2 h 5 min"),
        (span(90_000.0), "1 d 1 h"),
        (span(None), "–"),
        (milliseconds(0.0123), "12.3 ms"),
        (number(1234567), "1,234,567"),
        (number(1.25), "1.2"),
        (number(math.inf), "–"),
    ],
)
def test_an_amount_has_few_digits_and_its_unit(found: str, expected: str) -> None:
    assert found == expected
