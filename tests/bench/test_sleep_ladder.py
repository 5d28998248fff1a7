"""The bench of the sleep ladder, on a small fleet."""

from __future__ import annotations

import pytest

import sleep_ladder
from bench_fleets import Size


@pytest.mark.slow
def test_a_fleet_with_a_ladder_goes_through_a_calm_hour_with_more_tokens() -> None:
    size = Size("70b", 4, 1000.0, utilisation=0.2, speed=1.0, margin_share=0.02)
    pause, deep = (
        sleep_ladder.row_of(sleep_ladder.Task("calm", fleet, size))
        for fleet in (sleep_ladder.PAUSE, sleep_ladder.DEEP)
    )
    assert deep["mean_replicas"]["node_off"] > 0
    assert deep["output_tokens"] > pause["output_tokens"]


def test_the_target_is_the_gain_on_the_calm_day() -> None:
    rows = [
        {"day": "calm", "fleet": fleet, "output_tokens": tokens, "relative_mae": 0.02}
        for fleet, tokens in ((sleep_ladder.PAUSE, 10.0), (sleep_ladder.DEEP, 15.0))
    ]
    assert [target["met"] for target in sleep_ladder.targets(rows)] == [True, True]
    assert [target["value"] for target in sleep_ladder.targets(rows)] == [1.5, 0.02]
