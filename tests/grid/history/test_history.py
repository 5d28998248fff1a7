"""The history of the draw: no reading is lost or counted twice, whatever happens in between."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from steppe.errors import DiskFullError, UsageError
from steppe.grid.history.day_files import DayFiles, day_of
from steppe.grid.history.history import SILENT, History, HistoryTerms
from steppe.grid.history.reading import SiteReading, rank_of, reading_in, reading_of
from steppe.grid.history.steps import Span

DAY_S = 86_400
NOON_S = 20_000 * DAY_S + 43_200
EMULATED, COUNTER, ESTIMATED = map(rank_of, ("emulated", "counter", "estimated"))


def reading(number: int, at_s: float, draw_w: float = 100.0, span_s: float = 1.0) -> SiteReading:
    return reading_of(number, at_s, draw_w, span_s, "emulated")


def seconds(first: int, count: int, start_s: float, draw_w: float = 100.0) -> list[SiteReading]:
    """Return readings that follow on one another, a second each."""
    return [reading(first + n, start_s + n + 1, draw_w) for n in range(count)]


def watts(history: History, start_s: int, end_s: int, interval_s: int = 10) -> list[int | None]:
    return list(history.drawn(Span(start_s, end_s, interval_s, EMULATED)).load.watts)


@dataclass
class Controller:
    """Ticks, keeps the last readings, and counts anew when it starts again."""

    most: int = 12
    number: int = 0
    kept: list[SiteReading] = field(default_factory=list)

    def tick(self, end_ms: int, span_ms: int, draw_mw: int) -> SiteReading:
        self.number += 1
        made = SiteReading(self.number, end_ms, span_ms, draw_mw, EMULATED)
        self.kept = [*self.kept, made][-self.most :]
        return made

    def view(self, after: int) -> list[SiteReading]:
        return [each for each in self.kept if each.number > after]


def energy_uj(folder: Path) -> int:
    """Return all energy in the files of a folder, uJ."""
    files, found = DayFiles(folder), 0
    for day in files.days_of_readings():
        found += sum(each.draw_mw * each.span_ms for each in files.readings(day))
    for day in files.days_of_steps():
        found += sum(files.steps(day).energy_uj)
    return found


class Histories(RuleBasedStateMachine):
    """Ticks, restarts, clocks that are set, repeated and late answers, and days that are folded."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.history = History(self.folder, HistoryTerms(readings_days=1))
        self.controller = Controller()
        self.now_ms = NOON_S * 1000
        self.seen: dict[tuple[int, int], SiteReading] = {}
        self.late: list[SiteReading] = []

    @rule(
        count=st.integers(1, 8), span_ms=st.integers(200, 30_000), draw_mw=st.integers(-9, 90_000)
    )
    def tick(self, count: int, span_ms: int, draw_mw: int) -> None:
        for _ in range(count):
            self.now_ms += span_ms
            self.controller.tick(self.now_ms, span_ms, draw_mw)

    @rule()
    def poll(self) -> None:
        answer = self.controller.view(self.history.after)
        self._take(answer)
        self.late = answer

    @rule(reverse=st.booleans())
    def an_older_answer_comes_again(self, reverse: bool) -> None:
        self._take(self.late[::-1] if reverse else self.late)

    @rule()
    def the_service_starts_again(self) -> None:
        self.history = History(self.folder, HistoryTerms(readings_days=1))

    @rule()
    def a_line_is_cut_off_by_a_crash(self) -> None:
        files = sorted(self.folder.glob("*.jsonl"))
        if files:
            with files[-1].open("ab") as file:
                file.write(b"[7,17")
        self.history = History(self.folder, HistoryTerms(readings_days=1))

    @rule(later_ms=st.integers(0, 60_000))
    def the_controller_starts_again(self, later_ms: int) -> None:
        self.controller = Controller()
        self.now_ms += later_ms

    @rule(by_ms=st.integers(-120_000, 120_000))
    def the_clock_is_set(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @rule(days=st.integers(1, 3))
    def days_pass_and_old_ones_are_folded(self, days: int) -> None:
        self.now_ms += days * DAY_S * 1000
        self.history.tidy(self.now_ms / 1000)

    @precondition(lambda self: self.controller.kept)
    @rule()
    def a_silent_or_new_controller_is_read_to_the_end(self) -> None:
        for _ in range(SILENT + 2):
            self._take(self.controller.view(self.history.after))
        for each in self.controller.kept:
            assert each.key in self.seen

    @invariant()
    def the_files_hold_each_reading_once(self) -> None:
        asked = sum(each.draw_mw * each.span_ms for each in self.seen.values())
        assert energy_uj(self.folder) == asked

    @invariant()
    def a_new_start_knows_the_same(self) -> None:
        again = History(self.folder, HistoryTerms(readings_days=1))
        span = Span((self.now_ms // 10_000 - 30) * 10, (self.now_ms // 10_000) * 10, 10, EMULATED)
        assert again.drawn(span) == self.history.drawn(span)

    def _take(self, answer: list[SiteReading]) -> None:
        new = [each for each in answer if each.key not in self.seen]
        assert self.history.take(answer) == len({each.key for each in new})
        self.seen |= {each.key: each for each in answer}

    def teardown(self) -> None:
        self._folder.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_a_reading_is_kept_by_its_line() -> None:
    one = reading(7, NOON_S + 0.5, -3.25)
    assert reading_in(one.line) == one


@pytest.mark.parametrize(
    "line",
    [b"", b"[1,2", b"{}", b"[1,2,3,4]", b"[1,2,0,4,0]", b"[1,-9,3,4,0]", b"[1,2,3,4,9]", b"[1.5]"],
)
def test_a_line_that_is_none_is_skipped(line: bytes) -> None:
    assert reading_in(line) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"draw_w": float("nan")},
        {"at_s": float("inf")},
        {"span_s": 0.0},
        {"span_s": 3601.0},
        {"draw_w": 1e300},
        {"energy_source": "guessed"},
    ],
)
def test_an_absurd_reading_is_refused(changes: dict[str, object]) -> None:
    usual = {"number": 1, "at_s": 1e9, "draw_w": 1.0, "span_s": 1.0, "energy_source": "counter"}
    with pytest.raises(UsageError, match="reading 1: asked for W"):
        reading_of(**(usual | changes))  # type: ignore[arg-type]


def test_a_gap_has_no_reading(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.take(seconds(1, 10, NOON_S))
    history.take(seconds(20, 8, NOON_S + 12))
    assert watts(history, NOON_S, NOON_S + 30) == [100, None, None]


def test_a_time_that_was_there_twice_has_no_reading(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.take(seconds(1, 30, NOON_S))
    history.take(seconds(31, 10, NOON_S + 10, draw_w=1.0))
    assert watts(history, NOON_S, NOON_S + 30) == [100, None, 100]


def test_a_clock_that_is_mended_by_little_leaves_no_gap(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.take(seconds(1, 10, NOON_S))
    history.take(seconds(11, 20, NOON_S + 9.7))
    assert watts(history, NOON_S, NOON_S + 20) == [100, 100]


def test_the_mean_is_by_time_not_by_readings(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.take([reading(1, NOON_S + 9, 100.0, 9.0), reading(2, NOON_S + 10, 200.0, 1.0)])
    assert watts(history, NOON_S, NOON_S + 10) == [110]
    assert watts(history, NOON_S, NOON_S + 10, 1) == [100] * 9 + [200]


def test_what_was_emulated_is_no_baseline_of_what_was_measured(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.take(seconds(1, 10, NOON_S))
    measured = reading_of(11, NOON_S + 20, 300.0, 10.0, "estimated")
    history.take([measured])
    drawn = history.drawn(Span(NOON_S, NOON_S + 20, 10, COUNTER))
    assert drawn.load.watts == (None, 300)
    assert drawn.rank == ESTIMATED
    assert history.drawn(Span(NOON_S, NOON_S + 20, 10, EMULATED)).load.watts == (100, None)


def test_a_folded_day_gives_the_same_draw(tmp_path: Path) -> None:
    history = History(tmp_path)
    midnight_s = NOON_S + 43_200
    history.take([reading(1, midnight_s + 5, 60.0, 10.0), *seconds(2, 25, midnight_s + 5)])
    before = watts(history, midnight_s - 10, midnight_s + 30)
    assert before == [None, 80, 100, 100]
    history.tidy(midnight_s + 5 * DAY_S)
    assert list(tmp_path.glob("*.jsonl")) == []
    assert watts(history, midnight_s - 10, midnight_s + 30) == before
    assert watts(History(tmp_path), midnight_s - 10, midnight_s + 30) == before


def test_a_crash_between_the_steps_and_the_readings_counts_none_twice(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.take(seconds(1, 10, NOON_S))
    (lines,) = tmp_path.glob("*.jsonl")
    left = lines.read_bytes()
    history.tidy(NOON_S + 5 * DAY_S)
    lines.write_bytes(left)
    again = History(tmp_path)
    assert watts(again, NOON_S, NOON_S + 10) == [100]
    again.tidy(NOON_S + 5 * DAY_S)
    assert watts(again, NOON_S, NOON_S + 10) == [100]
    assert not lines.exists()


def test_old_days_are_removed(tmp_path: Path) -> None:
    history = History(tmp_path, HistoryTerms(readings_days=1, steps_days=10))
    history.take(seconds(1, 10, NOON_S))
    history.tidy(NOON_S + 5 * DAY_S)
    assert [each.name for each in tmp_path.glob("*.json*")] == [f"{day_of(NOON_S)}.json"]
    history.tidy(NOON_S + 11 * DAY_S)
    assert list(tmp_path.glob("*.json*")) == []
    assert watts(history, NOON_S, NOON_S + 10) == [None]


def test_after_a_restart_of_the_controller_no_reading_is_missed(tmp_path: Path) -> None:
    history, controller = History(tmp_path), Controller()
    for n in range(5):
        controller.tick((NOON_S + n) * 1000, 1000, 7)
    history.take(controller.view(history.after))
    controller = Controller()
    for n in range(9):
        controller.tick((NOON_S + 20 + n) * 1000, 1000, 7)
    assert history.take(controller.view(history.after)) == 4
    assert history.take(controller.view(history.after)) == 5


def test_readings_that_cannot_be_written_are_asked_for_again(tmp_path: Path) -> None:
    history = History(tmp_path / "file" / "folder")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((UsageError, DiskFullError)):
        history.take(seconds(1, 3, NOON_S))
    assert (history.after, history.last) == (0, None)
    os.unlink(tmp_path / "file")
    assert history.take(seconds(1, 3, NOON_S)) == 3


def test_a_damaged_file_of_steps_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"{day_of(NOON_S)}.json"
    path.write_text('{"first": 1, "energy_uj": [1], "covered_ms": [], "rank": [0]}')
    with pytest.raises(UsageError, match="three equal columns"):
        watts(History(tmp_path), NOON_S, NOON_S + 10)
