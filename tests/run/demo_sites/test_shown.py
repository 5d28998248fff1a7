from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from steppe.report.site_days_figure import mean_in_bins, spread_over_bins
from steppe.run.demo_sites.served import Phase, SiteRecord, sums_of
from steppe.run.demo_sites.shown import day_of, document, draw_figure, outcome_line


def test_a_day_shows_own_power_draw_and_whose_tokens_were_served(
    windy: SiteRecord, phase: Phase
) -> None:
    day = day_of(windy, phase, ["windy", "city"], bins=10)
    assert day.own_w == pytest.approx([70.0] * 5 + [0.0] * 5, abs=8)
    assert day.draw_w == pytest.approx([50.0] * 10)
    tokens = {home: tps.sum() * phase.day_s / 10 for home, tps in day.served_tps.items()}
    assert tokens == pytest.approx({"windy": 10.0, "city": 20.0})
    assert np.flatnonzero(day.served_tps["city"]).tolist() == [2, 6]


def test_the_figure_has_a_column_for_each_phase(
    windy: SiteRecord, city: SiteRecord, phase: Phase, tmp_path: Path
) -> None:
    before = Phase("nearest", 1000.0, 5.0, 1009.0)
    path = tmp_path / "figure.png"
    draw_figure([windy, city], [before, phase], path)
    height, width, _ = imread(path).shape
    assert width > height > 300
    assert path.stat().st_size < 300_000


def test_what_came_of_a_phase_is_a_line_and_a_document(
    windy: SiteRecord, city: SiteRecord, phase: Phase
) -> None:
    sums = sums_of([windy, city], phase)
    assert outcome_line(sums) == "2 of 4 requests on surplus, 2 moved"
    found = document({"anywhere": sums}, {"anywhere": {"p50_ttft_s": 0.5}})
    assert found["anywhere"] == {
        "requests": 4,
        "on_surplus": 2,
        "surplus_share": 0.5,
        "moved": 2,
        "moved_share": 0.5,
        "moved_to": {"windy": 2, "city": 0},
        "output_tokens": 40,
        "energy_j": sums.energy_j,
        "bought_j": sums.bought_j,
        "p50_ttft_s": 0.5,
    }


def test_amounts_are_spread_over_the_parts_of_the_day_that_they_cover() -> None:
    found = spread_over_bins(np.array([0.1, 0.9]), np.array([0.6, 1.1]), np.array([5.0, 2.0]), 4)
    assert found == pytest.approx([1.5, 2.5, 1.0, 1.0])


def test_a_part_of_the_day_without_a_tick_has_no_mean() -> None:
    found = mean_in_bins(np.array([0.1, 0.2, 0.9, 1.2]), np.array([1.0, 3.0, 5.0, 9.0]), 3)
    assert found[[0, 2]] == pytest.approx([2.0, 5.0])
    assert np.isnan(found[1])
