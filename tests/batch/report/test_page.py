from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.batch.report.jobs import MADE_S, FakeRecords, job, points, row

from steppe.batch.report.charts import nice_ticks
from steppe.batch.report.job_report import JobReport, report_of
from steppe.batch.report.page import html_page
from steppe.batch.report.write import write_report
from steppe.errors import UsageError

VOID = {"meta", "path", "br"}


class Balance(HTMLParser):
    """Notes elements that are not closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


@pytest.fixture
def report() -> JobReport:
    rows = [row(0, 100.0, 300.0, 20_000.0), row(1, 200.0, 300.0, 9_000.0, wasted_j=100.0)]
    timeline = points(supply_w={-1.0: 350.0}, draw_w=400.0)
    odd = job(model="<m>", metadata={"project": "<b>&"})
    return report_of(FakeRecords(odd, rows), "batch_1", timeline, MADE_S + 2000.0)


def test_the_page_is_one_whole_document_that_loads_nothing(report: JobReport) -> None:
    page, balance = html_page(report), Balance()
    balance.feed(page)
    assert (balance.open, balance.wrong) == ([], [])
    assert not re.search(r"https?:|<script|<link|url\(|src=", page)
    assert page.count("<svg") == 2
    assert not re.search(r"\bnan\b", page)


def test_text_of_clients_is_text(report: JobReport) -> None:
    page = html_page(report)
    assert "<m>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_every_joule_of_an_emulated_run_is_called_so(report: JobReport) -> None:
    page = html_page(report)
    body = page[page.index("<body>") : page.index("How the numbers are found")]
    for found in re.finditer(r"[\d.]+\s[kMG]?J\b|tokens per joule</?|[\d.]+ [kMG]?W,", body):
        after = body[found.end() : found.end() + 60]
        assert "emulated" in after or "tokens per joule" in found[0], (found[0], after)
    assert 'tokens per joule<span class="tag">emulated' in body


def test_a_measured_joule_has_no_notice() -> None:
    rows = [row(0, 100.0, 300.0, 20_000.0, energy_source="counter")]
    page = html_page(report_of(FakeRecords(job(), rows), "batch_1", [], MADE_S + 2000.0))
    assert 'class="tag"' not in page
    assert 'class="notice"' not in page


def test_a_job_without_rows_has_a_page_too() -> None:
    page = html_page(report_of(FakeRecords(job(), []), "batch_1", [], MADE_S))
    assert "no energy was metered" in page
    assert not re.search(r"\bnan\b", page)


def test_the_document_names_the_source_of_its_joules(report: JobReport, tmp_path: Path) -> None:
    _, path = write_report(report, tmp_path / "report.html")
    found = json.loads(path.read_text())
    for block in ("energy", "supply", "at_once", "timeline"):
        assert found[block]["energy_source"] == "emulated"
    assert found["energy"]["wasted_j"] == 100.0
    assert found["supply"]["surplus_share"] < found["supply"]["renewable_share"]
    steps = len(found["timeline"]["batch_w"])
    assert len(found["timeline"]["renewable_w"]) == steps == 360
    assert np.isclose(sum(found["timeline"]["batch_w"]) * found["timeline"]["step_s"], 29_100)


def test_a_report_that_cannot_be_written_is_one_clear_line(
    report: JobReport, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"asked for the report .*, found No such file"):
        write_report(report, tmp_path / "none" / "report.html")


@pytest.mark.parametrize("most", [1e-9, 0.3, 1.0, 7.0, 999.0, 1e7])
def test_ticks_are_few_round_numbers(most: float) -> None:
    ticks = nice_ticks(most)
    assert 2 <= len(ticks) <= 8
    assert ticks[-1] <= most * (1 + 1e-6)
