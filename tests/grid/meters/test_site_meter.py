"""The meter of the site beside the draw that Steppe computes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import pytest

from steppe.config.site_meter import SiteMeterSection
from steppe.errors import ConfigError
from steppe.grid.meters.part import SiteMeterPart
from steppe.grid.meters.site_meter import MeteredDraw, SiteMeter
from steppe.grid.service.seam import GridView
from steppe.power.signal import Fresh, Missing, Reading, Stale

HERE = f"{__name__}:Given"


class Given:
    """A signal of which a test says what it gives."""

    reading: ClassVar[Reading] = Fresh(1000.0)
    stopped: ClassVar[int] = 0

    def at(self, _time_s: float) -> Reading:
        return self.reading

    def stop(self) -> None:
        type(self).stopped += 1


class NoMethod:
    """A class without a method `at`."""


@dataclass
class Clock:
    """A clock that a test sets."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    Given.reading, Given.stopped = Fresh(1000.0, 2.0), 0
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> SiteMeter:
    return SiteMeter(
        SiteMeterSection(signal=HERE, settings={}, difference=0.05, lasts_s=60.0), clock
    )


def test_the_metered_draw_stands_beside_the_computed_one(meter: SiteMeter) -> None:
    draw = meter.beside(950.0)
    assert draw == MeteredDraw(1000.0, 2.0, 950.0)
    assert draw.difference == pytest.approx(-0.05)


def test_a_difference_that_lasts_is_logged_once(
    meter: SiteMeter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(200):
        meter.beside(800.0)
        clock.now_s += 1
    assert [record.getMessage() for record in caplog.records] == [
        "the meter of the site reads 1000 W, and the draw that Steppe computes is 800 W, "
        "-20.0 %: check site.pue, site.overhead_w and site.node_rest_w"
    ]


def test_a_difference_that_passes_is_not_logged(
    meter: SiteMeter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(200):
        meter.beside(1000.0 if second % 50 == 0 else 1200.0)
        clock.now_s += 1
    assert not caplog.records


def test_a_meter_that_reads_nothing_differs_from_a_site_that_draws(meter: SiteMeter) -> None:
    Given.reading = Fresh(0.0)
    assert meter.beside(500.0).difference == 1.0
    assert meter.beside(0.0).difference is None


def test_a_stale_meter_gives_no_draw_and_says_why(meter: SiteMeter) -> None:
    Given.reading = Stale(70.0)
    draw = meter.beside(500.0)
    assert draw == MeteredDraw(None, 70.0, 500.0, "its last reading is 70 s old")
    assert draw.difference is None


def test_a_meter_without_a_reading_says_why(
    meter: SiteMeter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        Given.reading = Missing("no connection")
        assert meter.beside(500.0) == MeteredDraw(None, None, 500.0, "no connection")


def test_the_stop_ends_the_thread_of_the_meter(meter: SiteMeter) -> None:
    meter.stop()
    assert Given.stopped == 1


async def test_the_grid_service_shows_both_draws(meter: SiteMeter) -> None:
    part = SiteMeterPart(meter)
    await part.start()
    await part.see(GridView(0.0, None, None, "", None, "emulated"))
    assert part.shown == {}
    await part.see(GridView(0.0, None, None, "", 950.0, "emulated"))
    assert part.shown == {
        "watts": 1000.0,
        "age_s": 2.0,
        "computed_w": 950.0,
        "missing": "",
        "difference": pytest.approx(-0.05),
    }
    await part.stop()
    assert Given.stopped == 1


def test_a_class_without_the_method_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError) as error:
        SiteMeter(SiteMeterSection(signal=f"{__name__}:NoMethod", settings={}))
    found = f"asked for a method `at` of {__name__}:NoMethod, found none"
    assert str(error.value) == f"grid.site_meter: {found}"
