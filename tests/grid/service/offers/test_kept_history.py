from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from steppe.grid.offers.history import Moment
from steppe.grid.offers.sources import Source
from steppe.grid.service.offers.kept_history import FILE_NAME, KeptHistory
from steppe.grid.verify.delivery import Direction

SOURCE = Source("work", 3.0, 1.0, 3.0, 0.5, energy_j=math.inf, direction=Direction.MORE)


def moment(at_s: float) -> Moment:
    return Moment(at_s, (SOURCE, replace(SOURCE, name="streams", energy_j=7.0)))


def test_what_was_noted_is_there_after_a_restart(tmp_path: Path) -> None:
    history = KeptHistory(tmp_path, 1e6)
    for at_s in (1.0, 2.0):
        history.add(moment(at_s))
    assert KeptHistory(tmp_path, 1e6).moments == [moment(1.0), moment(2.0)]


def test_a_damaged_line_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    history = KeptHistory(tmp_path, 1e6)
    history.add(moment(1.0))
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes() + b'{"at_s": 2.0, "sou')
    again = KeptHistory(tmp_path, 1e6)
    assert (again.moments, again.unread) == ([moment(1.0)], 1)
    again.add(moment(3.0))
    assert KeptHistory(tmp_path, 1e6).moments == [moment(1.0), moment(3.0)]


def test_old_moments_go_and_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    history = KeptHistory(tmp_path, 10.0)
    for at_s in range(200):
        history.add(moment(float(at_s)))
    assert history.moments[0].at_s == 189.0
    assert len((tmp_path / FILE_NAME).read_bytes().splitlines()) <= 25


def test_moments_after_a_clock_that_was_set_back_are_forgotten(tmp_path: Path) -> None:
    history = KeptHistory(tmp_path, 1e6)
    for at_s in (1.0, 100.0, 200.0, 50.0):
        history.add(moment(at_s))
    assert [each.at_s for each in history.moments] == [1.0, 50.0]
    assert [each.at_s for each in KeptHistory(tmp_path, 1e6).moments] == [1.0, 50.0]
