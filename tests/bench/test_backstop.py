"""What the backstop benchmark compares, without a fleet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

import backstop
from backstop import FALL_W_PER_S, LEAST_W, START_W, Fall, Truth


def test_the_supply_falls_from_its_beginning_to_its_least(tmp_path: Path) -> None:
    fall = Fall(tmp_path / "watts")
    assert fall.at(1e6) == START_W
    began_s = fall.begin()
    assert fall.at(began_s + 2.0) == pytest.approx(START_W - 2.0 * FALL_W_PER_S)
    assert fall.at(began_s + 1e3) == LEAST_W
    with fall:
        assert float(fall.path.read_text()) <= START_W


def test_the_draw_is_judged_over_half_a_second() -> None:
    truth = Truth.__new__(Truth)
    truth.readings = [(tick * 0.05, 100.0 * tick * 0.05) for tick in range(21)]
    windows = truth.windows(0.0, 1.0)
    assert [watts for _, watts in windows] == pytest.approx([100.0] * len(windows))
    assert [windows[0][0], windows[-1][0]] == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, [True, True]),
        ({"worst_share": 1.06}, [False, True]),
        ({"limits_free_after_s": None}, [True, False]),
        ({"limits_left": 1}, [True, False]),
    ],
)
def test_one_trial_that_fails_misses_a_target(changes: dict[str, Any], met: list[bool]) -> None:
    good = {"worst_share": 1.0, "limits_free_after_s": 5.0, "limits_left": 0}
    arguments = argparse.Namespace(kill_after=None, case=None)
    document = backstop.document(arguments, [good, good | changes])
    assert [target["met"] for target in document["targets"]] == met


def test_its_operating_points_are_those_of_the_emulated_gpu() -> None:
    points = backstop.points()
    assert points.source == "modelled"
    assert 200.0 < points.full.draw_w <= backstop.LIMIT_RANGE_W[1]
