from __future__ import annotations

import json
from pathlib import Path

import pytest

from steppe.batch.report.timeline import JobProgress, read_timeline, timeline_line
from steppe.errors import UsageError

STATUS = {
    "power": {
        "supply_w": 900.0,
        "site_draw_w": 800.0,
        "curtailed_w": 100.0,
        "budget_w": 850.0,
        "draw_w": 700.0,
        "budget_source": "wind",
        "battery": {"share": 0.5, "power_w": -20.0},
        "stale": False,
        "energy_source": "emulated",
        "boundary": "gpu",
        "headroom_w": 150.0,
    },
    "models": {"m": {"draw_w": 600.0}},
    "request_energy_j": {"standard": 5.0},
}


@pytest.fixture
def progress() -> JobProgress:
    return JobProgress(3, 1, 30, 10, 60, 12.0, 2.0, outstanding=4, allowed=8, reason="headroom")


def test_a_line_is_read_back_as_it_was_written(tmp_path: Path, progress: JobProgress) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(timeline_line(STATUS, "m", progress, 100.0, "a"))
    (point,) = read_timeline(path)
    assert (point.at_epoch_s, point.runner, point.progress) == (100.0, "a", progress)
    assert (point.supply_w, point.site_draw_w, point.battery_w) == (900.0, 800.0, -20.0)
    assert (point.draw_w, point.model_draw_w, point.budget_source) == (700.0, 600.0, "wind")
    assert (point.energy_source, point.request_energy_j) == ("emulated", {"standard": 5.0})


def test_without_a_status_the_watts_are_unknown(tmp_path: Path, progress: JobProgress) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(timeline_line(None, "m", progress, 100.0, "a"))
    (point,) = read_timeline(path)
    assert (point.supply_w, point.draw_w, point.energy_source) == (None, None, "")


def test_torn_and_foreign_lines_are_left_out(tmp_path: Path, progress: JobProgress) -> None:
    path = tmp_path / "timeline.jsonl"
    late, early = (timeline_line(STATUS, "m", progress, at_s, "a") for at_s in (9.0, 3.0))
    path.write_bytes(late + early + b'{"at_epoch_s":1}\n[]\n7\n' + late[:40])
    assert [point.at_epoch_s for point in read_timeline(path)] == [3.0, 9.0]


def test_a_field_of_a_later_release_is_left_out(tmp_path: Path, progress: JobProgress) -> None:
    path = tmp_path / "timeline.jsonl"
    values = json.loads(timeline_line(STATUS, "m", progress, 3.0, "a"))
    path.write_text(json.dumps({**values, "price": 1.0}) + "\n")
    assert len(read_timeline(path)) == 1


def test_a_job_without_a_timeline_has_no_points(tmp_path: Path) -> None:
    assert read_timeline(tmp_path / "none.jsonl") == []


def test_a_timeline_that_is_a_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"asked for the timeline .*, found Is a directory"):
        read_timeline(tmp_path)
