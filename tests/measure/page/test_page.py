from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from steppe.measure.page.page import BenchReport, bench_page
from steppe.measure.statistics import Interval
from steppe.measure.sweep.result import Flag, Phase
from steppe.measure.sweep.summary import PointSummary


def summary(clock: int, batch: int, phase: Phase = Phase.MIXED) -> PointSummary:
    tps = clock / 100 * batch**0.7
    draw_w = 20 + (clock / 300) ** 2 + batch / 2

    def about(value: float) -> Interval:
        return Interval(value, 0.97 * value, 1.03 * value)

    return PointSummary(
        phase=phase,
        clock_mhz=clock,
        batch_limit=batch,
        prompt_tokens=144,
        output_tokens=1 if phase is Phase.PREFILL else 26,
        output_tps=about(tps),
        energy_per_output_token=about(draw_w / tps),
        energy_per_prompt_token=about(draw_w / tps / 50),
        draw_w=about(draw_w),
        window_s=10.0,
        tpot_s=None if phase is Phase.PREFILL else batch / tps,
        itl_p50_s=batch / tps,
        itl_p99_s=2 * batch / tps,
        flags=(),
        is_sound=True,
    )


@pytest.fixture
def report() -> BenchReport:
    points = [summary(clock, batch) for clock in (1000, 1500, 2000) for batch in (1, 4, 16)]
    apart = (Phase.PREFILL, Phase.DECODE)
    points += [summary(clock, 16, phase) for clock in (1000, 2000) for phase in apart]
    points.append(replace(summary(2000, 8), flags=(Flag.THROTTLED,), is_sound=False))
    return BenchReport(
        title="small & <fast> on NVIDIA L4",
        points=tuple(points),
        slo_s=0.2,
        settle_s=15.0,
        rest_w={"bare": 12.0, "asleep": None},
        facts={"driver": "580"},
        is_emulated=True,
        notice="Not an MLPerf Power result.",
    )


class Tags(HTMLParser):
    """Checks that every tag is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """A tag that closes itself stays nowhere open."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(report: BenchReport) -> None:
    page = bench_page(report)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not re.search(r"https?://|<script|<link|<img|@import|url\(", page)


def test_the_page_recommends_a_point_for_each_aim(report: BenchReport) -> None:
    page = bench_page(report)
    for aim in ("fewest joules per token", "most tokens per second", "at most 200 ms between"):
        assert aim in page
    assert "2000 MHz, batch limit 16" in page


def test_the_page_says_that_emulated_joules_are_a_model(
    report: BenchReport,
) -> None:
    page = bench_page(report)
    assert "<b>Emulated.</b>" in page
    assert "Not an MLPerf Power result." in page
    assert "Emulated." not in bench_page(replace(report, is_emulated=False))


def test_titles_are_escaped(report: BenchReport) -> None:
    assert "small &amp; &lt;fast&gt; on NVIDIA L4" in bench_page(report)


def test_every_chart_is_well_formed_and_keeps_inside_its_frame(report: BenchReport) -> None:
    charts = re.findall(r"<svg.*?</svg>", bench_page(report), re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        root = ElementTree.fromstring(chart)
        _, _, width, height = (float(v) for v in root.attrib["viewBox"].split())
        for dot in root.iter("circle"):
            assert 0 <= float(dot.attrib["cx"]) <= width
            assert 0 <= float(dot.attrib["cy"]) <= height
        assert sum(1 for _ in root.iter("circle")) >= 9


def test_flagged_points_are_struck_out_and_named(report: BenchReport) -> None:
    page = bench_page(report)
    assert page.count("<tr class='bad'>") == 1
    assert "throttled" in page


def test_without_a_sound_point_the_page_says_so(report: BenchReport) -> None:
    unsound = tuple(replace(point, is_sound=False) for point in report.points)
    page = bench_page(replace(report, points=unsound))
    assert "No sound point was measured" in page
    assert "<svg" not in page


def test_a_sweep_of_one_point_still_has_its_charts(report: BenchReport) -> None:
    page = bench_page(replace(report, points=(replace(summary(1000, 8), clock_mhz=0),)))
    assert page.count("<svg") == 4
    assert "batch limit 8" in page
