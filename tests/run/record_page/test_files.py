"""A record as a page: its numbers are those of the record."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.made_record import write_record

from steppe.errors import UsageError
from steppe.page.quantities import GROUPS
from steppe.run.record_page.files import page_of, read_shown_run, write_page


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_record(tmp_path_factory.mktemp("runs") / "monday")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_record(tmp_path_factory.mktemp("runs") / "tuesday", seed=7)


def summary_of(record: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((record / "summary.json").read_text())
    return found


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def values_of(page: bytes, prefix: str = "figure-") -> dict[str, str]:
    found = re.findall(rf'id="{prefix}([^"]+)" data-value="([^"]*)"', page.decode())
    return dict(found)


def test_every_figure_is_the_number_of_the_summary(record: Path) -> None:
    values = values_of(page_of([record])["index.html"])
    summary = summary_of(record)
    for quantity in (each for group in GROUPS for each in group.quantities):
        expected: Any = summary
        for key in quantity.path.split("."):
            expected = expected[key]
        found = values.pop(quantity.id)
        assert (float(found) if found else None) == expected, quantity.path
    assert values == {}


def test_the_charts_have_each_tick_of_a_short_run(record: Path) -> None:
    run = read_shown_run(record, "monday")
    ticks = lines_of(record / "record.jsonl")
    assert run.columns["t_s"] == [tick["t_s"] for tick in ticks]
    assert run.columns["draw_w"] == [round(tick["draw_w"], 4) for tick in ticks]
    assert run.columns["budget_w"] == [round(tick["budget_w"], 4) for tick in ticks]


def test_the_energy_of_replicas_and_of_tenants_is_that_of_the_record(record: Path) -> None:
    run = read_shown_run(record, "monday")
    requests = lines_of(record / "requests.jsonl")
    (tenant,) = run.tables["tenants"]
    assert tenant[1] == f"{len(requests):,}"
    assert tenant[4] == f"{sum(each['output_tokens'] for each in requests):,}"
    assert len(run.tables["replicas"]) == 2


def test_two_runs_stand_side_by_side_with_their_difference(record: Path, other: Path) -> None:
    page = page_of([record, other])["index.html"]
    first, second = summary_of(record), summary_of(other)
    assert float(values_of(page, "figure-0-")["energy_j"]) == first["energy_j"]
    assert float(values_of(page, "figure-1-")["energy_j"]) == second["energy_j"]
    assert f"{100 * (second['energy_j'] / first['energy_j'] - 1):+.1f} %" in html.unescape(
        page.decode()
    )
    assert b"monday: Draw" in page
    assert b"tuesday: Draw" in page


def test_two_records_of_the_same_name_are_told_apart(tmp_path: Path, record: Path) -> None:
    twin = write_record(tmp_path / "b" / record.name)
    page = page_of([record, twin])["index.html"].decode()
    assert f"b/{record.name}" in page
    assert f"{record.parent.name}/{record.name}" in page


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(tmp_path: Path, record: Path) -> None:
    lines = (record / "record.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "record.jsonl").write_bytes(b"".join(lines[:50]) + lines[50][:40])
    run = read_shown_run(tmp_path, "now")
    assert len(run.columns["t_s"]) == 50
    assert run.note.startswith("This run has no summary")
    ticks = [json.loads(line) for line in lines[:50]]
    assert run.summary["energy_j"] == pytest.approx(sum(tick["energy_j"] for tick in ticks))
    assert run.summary["output_tokens"] == sum(tick["output_tokens"] for tick in ticks)
    assert values_of(page_of([tmp_path])["index.html"])["slo_attainment"] == ""


def test_a_folder_has_all_that_the_page_needs(tmp_path: Path, record: Path) -> None:
    index = write_page([record], tmp_path / "out")
    page = index.read_text()
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert (tmp_path / "out" / name).is_file(), name
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert "MIT" in (tmp_path / "out" / "uPlot.LICENSE").read_text()


def test_markup_in_a_record_stays_text(tmp_path: Path, record: Path) -> None:
    evil = "<script>alert(1)</script>"
    lines = (record / "record.jsonl").read_text().replace("replica-", evil)
    (tmp_path / "record.jsonl").write_text(lines)
    files = page_of([tmp_path])
    assert evil not in files["index.html"].decode()
    assert html.escape(evil, quote=False) in files["index.html"].decode()


def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"asked for the folder of a record, found no record\.jso"):
        page_of([tmp_path])
    (tmp_path / "record.jsonl").write_text('{"t_s": 1.0}\n')
    with pytest.raises(UsageError, match=r"record\.jsonl:1: asked for a line of a record, found"):
        page_of([tmp_path])
    (tmp_path / "record.jsonl").write_text("")
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(UsageError, match="asked for a summary, found list"):
        page_of([tmp_path])
