"""The page of an event, and its figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.grid.verify.made_report import ASKED, LOAD, START_S, TIMES, made_report, named

from steppe.grid.verify.delivery import Direction
from steppe.grid.verify.figure import HEIGHT, MOST_STEPS, STEP, figure_html
from steppe.grid.verify.load import Load
from steppe.grid.verify.page import MOST_ROWS, page_html
from steppe.grid.verify.report import EventReport, Metered
from steppe.grid.verify.stated import FirmLevel

BAD = "<script>x</script>\"'&\x00"


class Seen(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(report: EventReport) -> Seen:
    parser = Seen()
    parser.feed(page_html(report))
    assert parser.open == []
    return parser


def by_the_second(watts: int = 700) -> EventReport:
    """Return the report of an event of an hour by the second."""
    times = replace(TIMES, end_s=START_S + 3600, before_s=60, after_s=60)
    load = Load(START_S - 60, 1, (watts,) * 3720)
    return made_report(
        times=times,
        baseline=FirmLevel(1000, 700, 1),
        metered=Metered(load, "counter", "site"),
        committed=[300] * 3600,
        terms=None,
        following=None,
        regulation=None,
    )


def test_no_text_of_others_becomes_an_element() -> None:
    report = made_report(asked=named(id=BAD, program=BAD, kind=BAD, source=BAD, site=BAD))
    found = seen(report)
    assert "script" not in found.elements
    assert not any(name.startswith("on") for name in found.attributes)
    page = page_html(report)
    assert "\x00" not in page
    assert "src=" not in page
    assert "href=" not in page


def test_the_page_says_what_was_delivered_and_how_sure_that_is() -> None:
    report = made_report()
    text = seen(report).text
    assert f"Event {ASKED.id} at {ASKED.site}" in text
    assert "2026-06-26 14:00:00 for 3 h; could be foreseen 10 min before" in text
    assert "placebo days" in text
    assert "CVRMSE" in text
    assert "1 interval without a reading" in text
    assert "in the band after 8 s" in text
    assert "1 critical breach" in text
    assert "correlation 0.980, delay 0.950, precision 0.961" in text
    assert report.baseline.sha256 in text
    assert report.load_sha256 in text
    assert "emulated" in text
    assert "Its days: 2026-06-25," in text


def test_every_interval_has_a_row() -> None:
    page = page_html(made_report())
    assert page.count("<tr><td>") == 12
    assert "<tr><td>14:00</td>" in page
    assert "no reading" in page


def test_what_is_not_known_is_called_unknown() -> None:
    text = seen(by_the_second()).text
    assert "its error on days without an event is not known" in text
    assert "Net" not in text
    assert "Regulation" not in text


def test_the_figure_stays_within_its_box() -> None:
    figure = figure_html(made_report())
    width = int(re.findall(r'viewBox="0 0 (\d+) 1000"', figure)[0])
    assert width == (4 + 12 + 8) * STEP
    line = re.findall(r'class="line load" d="([^"]+)"', figure)[0]
    points = [(int(x), int(y)) for x, y in re.findall(r"[ML](\d+) (\d+)", line)]
    assert len(points) == 23
    assert all(0 <= x < width and 0 <= y <= HEIGHT for x, y in points)


def test_a_line_is_broken_where_there_is_no_reading() -> None:
    line = re.findall(r'class="line load" d="([^"]+)"', figure_html(made_report()))[0]
    assert line.count("M") == 2


def test_a_long_event_is_shown_in_means() -> None:
    report = by_the_second()
    figure, page = figure_html(report), page_html(report)
    line = re.findall(r'class="line load" d="([^"]+)"', figure)[0]
    assert len(re.findall(r"[ML]", line)) <= MOST_STEPS
    assert "Each step is the mean of 7 s." in figure
    assert page.count("<tr><td>") <= MOST_ROWS
    assert "Each row is the mean of 36 intervals" in page


@pytest.mark.parametrize("direction", Direction)
def test_a_site_that_feeds_the_grid_has_a_figure(direction: Direction) -> None:
    load = LOAD.part(START_S - 4 * 3600, START_S + 6 * 3600)
    below = tuple(-200_000 if w is not None and w < 700_000 else w for w in load.watts)
    metered = Metered(replace(load, watts=below), "counter", "site")
    figure = figure_html(made_report(metered=metered, direction=direction))
    assert "-200" in figure
    assert 'class="given"' in figure


def test_nothing_drawn_and_nothing_promised_still_has_a_page() -> None:
    report = made_report(
        metered=Metered(Load(START_S - 3600, 900, ()), "counter", "site"), committed=[0] * 12
    )
    text = seen(report).text
    assert "nothing was promised" in text
    assert "12 intervals without a reading" in text
