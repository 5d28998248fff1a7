"""A meter that is read in a thread of its own."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import pytest
from tests.grid.meters.conftest import Wait

from steppe.errors import TransientDeviceError
from steppe.grid.meters.polled import IDLE_S, PolledMeter
from steppe.grid.meters.readings import Measured
from steppe.grid.meters.settings import MeterSettings
from steppe.power.signal import Fresh, Missing, Signal, Stale


@dataclass
class Clock:
    """A clock that a test sets."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Fake:
    """A meter of which a test says what it reads; it blocks while it is not open."""

    watts: float = 500.0
    fault: str = ""
    reads: int = 0
    closed: int = 0
    open: threading.Event = field(default_factory=threading.Event)

    def read(self) -> Measured:
        self.reads += 1
        if self.fault:
            raise TransientDeviceError(self.fault)
        return Measured(self.watts)

    def close(self) -> None:
        self.closed += 1


class Slow(Fake):
    def read(self) -> Measured:
        self.reads += 1
        self.open.wait(20)
        return Measured(self.watts)


def polled(meter: Fake, clock: Clock, unit_w: float = 1.0) -> PolledMeter:
    settings = MeterSettings(period_s=0.1, stale_s=30.0, watts_per_unit=unit_w)
    return PolledMeter(meter, settings, "the meter", clock)


def test_it_is_a_signal() -> None:
    assert isinstance(polled(Fake(), Clock()), Signal)


def test_the_first_call_starts_to_read_and_later_ones_return_the_reading(wait_for: Wait) -> None:
    meter = Fake()
    signal = polled(meter, Clock())
    assert meter.reads == 0
    assert signal.at(0.0) == Missing("the meter: no reading yet") or meter.reads
    wait_for(lambda: signal.at(0.0) == Fresh(500.0, 0.0))
    signal.stop()
    assert meter.closed == 1


def test_a_reading_ages_and_is_stale_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    clock, meter = Clock(), Fake()
    signal = polled(meter, clock)
    signal.read()
    meter.fault = "no connection"
    clock.now_s += 30
    with caplog.at_level(logging.WARNING):
        signal.read()
        signal.read()
    assert signal.at(0.0) == Fresh(500.0, 30.0)
    clock.now_s += 1
    assert signal.at(0.0) == Stale(31.0)
    meter.fault = ""
    signal.read()
    assert signal.at(0.0) == Fresh(500.0, 0.0)
    signal.stop()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "the meter gives no reading that can be used: no connection"
    assert lines[1:2] in ([], ["the meter gives readings again"])


def test_a_fault_closes_the_connection() -> None:
    meter = Fake(fault="no answer")
    signal = polled(meter, Clock())
    signal.read()
    assert meter.closed == 1


def test_a_slow_meter_blocks_no_caller_and_its_reading_is_as_old_as_the_question(
    wait_for: Wait,
) -> None:
    clock, meter = Clock(), Slow()
    signal = polled(meter, clock)
    assert signal.at(0.0) == Missing("the meter: no reading yet")
    wait_for(lambda: meter.reads)
    clock.now_s += 7
    assert signal.at(0.0) == Missing("the meter: no reading yet")
    meter.open.set()
    wait_for(lambda: isinstance(signal.at(0.0), Fresh))
    signal.stop()


def test_a_meter_that_is_asked_for_nothing_is_left_alone_and_found_again(wait_for: Wait) -> None:
    clock, meter = Clock(), Fake()
    signal = polled(meter, clock)
    signal.at(0.0)
    wait_for(lambda: meter.reads)
    clock.now_s += IDLE_S
    wait_for(lambda: meter.closed)
    reads = meter.reads
    signal.at(0.0)
    wait_for(lambda: meter.reads > reads)
    signal.stop()


def test_nothing_starts_after_the_stop() -> None:
    meter = Fake()
    signal = polled(meter, Clock())
    signal.stop()
    assert signal.at(0.0) == Missing("the meter: no reading yet")
    assert meter.reads == 0


def test_a_unit_turns_the_direction_of_the_meter() -> None:
    signal = polled(Fake(watts=-0.4), Clock(), unit_w=-1000.0)
    signal.read()
    assert signal.at(0.0) == Fresh(400.0, 0.0)
    signal.stop()
