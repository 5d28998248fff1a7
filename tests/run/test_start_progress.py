"""What a start shows, and when it will be over by earlier starts."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from steppe.run.start_progress import MOST_KINDS, StartProgress, StartTimes


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def times(tmp_path: Path) -> StartTimes:
    return StartTimes(tmp_path / "cache" / "start_times.json")


def start(times: StartTimes, *, terminal: bool = False) -> str:
    """Run a start of two stages, 5 s and 20 s long, and return what it shows."""
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=terminal, width=120)
    progress = StartProgress(console, "tiny on l4", times, clock)
    with progress.shown():
        progress.begin("starting Ray")
        clock.now_s += 5.0
        progress.begin("loading the model")
        clock.now_s += 20.0
    return out.getvalue()


def test_each_stage_is_one_line_where_there_is_no_terminal(times: StartTimes) -> None:
    assert start(times).splitlines() == ["starting Ray", "loading the model", "started in 0:25"]


def test_a_second_start_says_how_long_it_will_take(times: StartTimes) -> None:
    start(times)
    assert start(times).splitlines()[:2] == [
        "starting Ray (about 0:25 left)",
        "loading the model (about 0:20 left)",
    ]


def test_a_terminal_shows_stage_time_so_far_and_time_left(times: StartTimes) -> None:
    start(times)
    out, clock = io.StringIO(), Clock()
    progress = StartProgress(Console(file=out, force_terminal=True), "tiny on l4", times, clock)
    with progress.shown():
        progress.begin("loading the model")
        clock.now_s = 8.0
        line = Console(file=io.StringIO(), width=120, record=True)
        line.print(progress)
    assert "loading the model" in (text := line.export_text())
    assert text.strip().endswith("0:08, about 0:12 left")


def test_times_that_cannot_be_kept_stop_no_start(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    assert "started in 0:25" in start(StartTimes(tmp_path / "cache" / "start_times.json"))
    broken = StartTimes(tmp_path / "broken.json")
    broken.path.write_text("{")
    assert "started in 0:25" in start(broken)


def interrupt(progress: StartProgress) -> None:
    progress.begin("starting Ray")
    raise KeyboardInterrupt


def test_a_start_that_fails_leaves_the_times_of_the_last(times: StartTimes) -> None:
    start(times)
    before = times.read("tiny on l4")
    progress = StartProgress(Console(file=io.StringIO()), "tiny on l4", times, Clock())
    with pytest.raises(KeyboardInterrupt), progress.shown():
        interrupt(progress)
    assert times.read("tiny on l4") == before == {"starting Ray": 5.0, "loading the model": 20.0}


def test_only_the_times_of_recent_kinds_of_start_are_kept(times: StartTimes) -> None:
    for number in range(MOST_KINDS + 1):
        times.write(f"kind {number}", {"starting Ray": 1.0})
    assert times.read("kind 0") == {}
    assert times.read("kind 1") == times.read(f"kind {MOST_KINDS}") == {"starting Ray": 1.0}
