from __future__ import annotations

from pathlib import Path

from steppe.grid.reports.metered_times import FILE_NAME, MeteredTimes


def test_what_was_not_read_at_the_meter_was_computed(tmp_path: Path) -> None:
    times = MeteredTimes(tmp_path)
    assert (times.computed_s(0, 100), times.has_any) == (100, False)
    for end_s in range(10, 110, 10):
        times.note(end_s - 10, end_s, is_metered=30 <= end_s <= 60)
    assert [times.computed_s(*span) for span in [(0, 100), (20, 60), (15, 25)]] == [60, 0, 5]
    assert len((tmp_path / FILE_NAME).read_text().split()) == 2


def test_a_span_that_is_repeated_changes_nothing(tmp_path: Path) -> None:
    times = MeteredTimes(tmp_path)
    times.note(0, 10, is_metered=True)
    times.note(10, 20, is_metered=True)
    times.note(0, 10, is_metered=False)
    assert times.computed_s(0, 20) == 0


def test_the_times_are_there_after_a_restart_also_with_a_line_that_was_cut_off(
    tmp_path: Path,
) -> None:
    times = MeteredTimes(tmp_path)
    times.note(0, 10, is_metered=True)
    times.note(10, 20, is_metered=False)
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b"[25.0, tr")
    again = MeteredTimes(tmp_path)
    again.note(30, 40, is_metered=True)
    assert MeteredTimes(tmp_path).computed_s(0, 40) == 20
