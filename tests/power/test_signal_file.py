from __future__ import annotations

import os
from pathlib import Path

import pytest

from steppe.power.signal import Fresh, Missing, Stale
from steppe.power.signal_file import SignalFile, SignalReader

NOW_S = 1_000_000.0


def write(path: Path, text: str, *, age_s: float = 0.0) -> None:
    path.write_text(text)
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signal(tmp_path: Path, clock: Clock) -> SignalFile:
    return SignalFile(tmp_path / "watts", stale_s=60.0, wall_s=clock)


def test_a_rewritten_number_is_fresh_with_its_age(signal: SignalFile) -> None:
    write(signal.path, "123.5\n", age_s=7.0)
    assert signal.read() == Fresh(123.5, 7.0)


def test_a_number_is_fresh_up_to_the_limit_and_stale_beyond(signal: SignalFile) -> None:
    write(signal.path, "5", age_s=60.0)
    assert signal.read() == Fresh(5.0, 60.0)
    write(signal.path, "5", age_s=61.0)
    assert signal.read() == Stale(61.0)


def test_a_negative_number_is_read_as_zero(signal: SignalFile) -> None:
    write(signal.path, "-3\n")
    assert signal.read() == Fresh(0.0, 0.0)


def test_a_number_after_a_byte_order_mark_is_read(signal: SignalFile) -> None:
    write(signal.path, "\ufeff123.5\r\n", age_s=1.0)
    assert signal.read() == Fresh(123.5, 1.0)


NOT_NUMBERS = ("", "many", "nan", "inf", "1 2", "9" * 400, "1_50", "1e999", "0x10", "1,5", "\u0663")


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_text_that_is_not_a_finite_number_is_missing(signal: SignalFile, text: str) -> None:
    write(signal.path, text)
    reading = signal.read()
    assert isinstance(reading, Missing)
    assert str(signal.path) in reading.reason


@pytest.mark.parametrize("text", ["1e20\n", "9.96921e+36\n", "1000000000001\n"])
def test_numbers_that_stand_for_no_value_are_missing(
    signal: SignalFile, clock: Clock, text: str
) -> None:
    reader = SignalReader(signal, Clock())
    write(signal.path, "180\n", age_s=1.0)
    assert reader.read() == Fresh(180.0, 1.0)
    write(signal.path, text)
    reading = signal.read()
    assert isinstance(reading, Missing)
    assert reading.reason == f"{signal.path}: asked for at most 1e+12 W, found {text.strip()!r}"
    assert reader.read() == Fresh(180.0, 1.0)


@pytest.mark.parametrize(("text", "watts"), [("+1.5e2\r\n", 150.0), (".5", 0.5), ("7.", 7.0)])
def test_common_number_formats_are_read(signal: SignalFile, text: str, watts: float) -> None:
    write(signal.path, text, age_s=1.0)
    assert signal.read() == Fresh(watts, 1.0)


def test_a_number_that_may_be_partly_written_is_not_used_before_the_file_is_unchanged(
    signal: SignalFile, clock: Clock
) -> None:
    reader = SignalReader(signal, Clock())
    write(signal.path, "180\n", age_s=1.0)
    assert reader.read() == Fresh(180.0, 1.0)
    write(signal.path, "2")
    assert reader.read() == Fresh(180.0, 1.0)
    write(signal.path, "200")
    clock.now_s += 0.0625
    assert reader.read() == Fresh(200.0, 0.0625)


def test_a_number_without_a_newline_is_used_if_the_file_keeps_changing(
    signal: SignalFile,
) -> None:
    monotonic = Clock()
    reader = SignalReader(signal, monotonic)
    write(signal.path, "200")
    assert isinstance(reader.read(), Missing)
    monotonic.now_s += 0.0625
    write(signal.path, "")
    assert isinstance(reader.read(), Missing)
    write(signal.path, "210", age_s=0.03125)
    assert reader.read() == Fresh(210.0, 0.03125)
    write(signal.path, "220\n", age_s=1.0)
    assert reader.read() == Fresh(220.0, 1.0)
    write(signal.path, "23")
    assert reader.read() == Fresh(220.0, 1.0)


def test_a_file_with_a_time_slightly_ahead_is_fresh(signal: SignalFile) -> None:
    write(signal.path, "200", age_s=-0.01)
    assert signal.read() == Fresh(200.0, 0.0)


@pytest.mark.timeout(20)
def test_a_pipe_or_a_folder_is_missing_and_does_not_block(signal: SignalFile) -> None:
    os.mkfifo(signal.path)
    reading = signal.read()
    assert isinstance(reading, Missing)
    assert reading.reason == f"{signal.path}: asked for a file, found something else"
    signal.path.unlink()
    signal.path.mkdir()
    assert isinstance(signal.read(), Missing)


def test_bytes_that_are_not_utf8_are_missing(signal: SignalFile) -> None:
    signal.path.write_bytes(b"\xff\xfe")
    assert isinstance(signal.read(), Missing)


def test_an_absent_file_is_missing(signal: SignalFile) -> None:
    reading = signal.read()
    assert isinstance(reading, Missing)
    assert "No such file" in reading.reason


def test_a_file_from_the_far_future_is_missing_and_from_the_near_future_is_fresh(
    signal: SignalFile,
) -> None:
    write(signal.path, "5", age_s=-3600.0)
    reading = signal.read()
    assert isinstance(reading, Missing)
    assert "3600 s in the future" in reading.reason
    write(signal.path, "5", age_s=-2.0)
    assert signal.read() == Fresh(5.0, 0.0)


def test_an_unreadable_file_keeps_its_last_number_until_that_is_stale(
    signal: SignalFile, clock: Clock
) -> None:
    reader = SignalReader(signal)
    write(signal.path, "80", age_s=10.0)
    assert reader.read() == Fresh(80.0, 10.0)
    clock.now_s += 20.0
    write(signal.path, "")
    assert reader.read() == Fresh(80.0, 30.0)
    clock.now_s += 31.0
    assert isinstance(reader.read(), Missing)


@pytest.mark.parametrize("text", ["", "90"])
def test_a_kept_number_ages_even_if_the_wall_clock_is_set_back(
    signal: SignalFile, clock: Clock, text: str
) -> None:
    monotonic = Clock()
    reader = SignalReader(signal, monotonic)
    write(signal.path, "80", age_s=10.0)
    assert reader.read() == Fresh(80.0, 10.0)
    write(signal.path, text)
    clock.now_s -= 3600.0
    monotonic.now_s += 30.0
    assert reader.read() == Fresh(80.0, 40.0)
    monotonic.now_s += 21.0
    assert isinstance(reader.read(), Missing)


@pytest.mark.parametrize("set_back_s", [30.0, 3600.0])
def test_an_unchanged_file_ages_even_if_the_wall_clock_is_set_back(
    signal: SignalFile, clock: Clock, set_back_s: float
) -> None:
    monotonic = Clock()
    reader = SignalReader(signal, monotonic)
    write(signal.path, "80", age_s=10.0)
    assert reader.read() == Fresh(80.0, 10.0)
    clock.now_s -= set_back_s
    for _ in range(5):
        clock.now_s += 10.0
        monotonic.now_s += 10.0
    assert reader.read() == Fresh(80.0, 60.0)
    monotonic.now_s += 1.0
    assert not isinstance(reader.read(), Fresh)
    write(signal.path, "90\n", age_s=set_back_s - 50.0)
    assert reader.read() == Fresh(90.0, 0.0)


def test_a_file_from_the_future_ages_before_its_time(signal: SignalFile, clock: Clock) -> None:
    monotonic = Clock()
    reader = SignalReader(signal, monotonic)
    write(signal.path, "80\n", age_s=-3600.0)
    assert isinstance(reader.read(), Missing)
    monotonic.now_s += 61.0
    clock.now_s += 3600.0
    assert reader.read() == Stale(61.0)


def test_a_stale_number_is_not_kept(signal: SignalFile, clock: Clock) -> None:
    reader = SignalReader(signal)
    write(signal.path, "80\n")
    assert reader.read() == Fresh(80.0, 0.0)
    clock.now_s += 61.0
    assert reader.read() == Stale(61.0)


def test_a_signal_that_was_never_fresh_is_missing(signal: SignalFile) -> None:
    assert isinstance(SignalReader(signal).read(), Missing)
