"""`steppe grid events|report|audit`: from the folder of a run, without a service."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.fixtures.grid_run import START_S, GridRun, asked, one_event

from steppe.cli import main
from steppe.grid.verify.report import EventReport


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["grid", *map(str, arguments)], prog_name="steppe")


def document(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_event(tmp_path_factory.mktemp("made")).folder


@pytest.fixture
def record(made: Path, tmp_path: Path) -> Path:
    """A copy of the record, which a test may damage."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def report_of(record: Path) -> Path:
    (path,) = record.glob("grid/events/*/report.json")
    return path


def test_events_are_listed_with_their_energy_source(made: Path) -> None:
    for place in (made, made / "grid"):
        found = run("events", place)
        assert (found.exit_code, found.stderr) == (0, "")
        assert "2026-06-26 13:59:00" in found.stdout
        assert all(name in found.stdout for name in ("e1", "openadr", "logged", "emulated"))
    (event,) = document("events", made)["data"]
    assert (event["id"], event["state"], event["energy_source"]) == ("e1", "logged", "emulated")


def test_an_event_that_is_not_over_shows_when_its_report_is_due(tmp_path: Path) -> None:
    site = GridRun(tmp_path, START_S - 7200)
    site.draw(START_S - 600, lambda _: 1000.0)
    site.note(asked())
    assert "report due 2026-06-26 18:05:00" in run("events", tmp_path).stdout.replace("\n", "")
    found = run("report", tmp_path, "e1")
    assert found.exit_code == 2
    assert "found none: its report is due at 2026-06-26 18:05:00 UTC" in found.stderr


def test_a_report_is_shown_in_lines(made: Path) -> None:
    found = run("report", made, "openadr/e1")
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[1] == "delivered 2,232,000 J of 2,160,000 J promised: 100.0 % (emulated)"
    assert lines[4].startswith("in place of 10-in-10: asked for 10 like days in the 45 days")
    assert lines[-1].startswith("page: ")
    assert Path(lines[-1].removeprefix("page: ")).exists()


def test_a_report_is_shown_as_its_bytes(made: Path) -> None:
    found = run("report", made, "e1", "--json").stdout.strip().encode()
    assert EventReport.read(found).asked.id == "e1"


def test_an_unknown_event_is_named_with_those_that_there_are(made: Path) -> None:
    found = run("report", made, "e2")
    assert found.exit_code == 2
    assert "asked for event e2, found e1" in found.stderr


@pytest.mark.parametrize("command", [("events",), ("audit",)])
def test_a_folder_without_a_grid_is_refused(tmp_path: Path, command: tuple[str]) -> None:
    found = run(*command, tmp_path)
    assert found.exit_code == 2
    assert "asked for the record of a run with a grid" in found.stderr


def test_an_audit_of_reports_that_hold(made: Path) -> None:
    found = run("audit", made)
    assert (found.exit_code, found.stderr) == (0, "")
    (name,) = (path.name for path in (made / "grid" / "events").iterdir())
    assert found.stdout.splitlines() == [f"{name}: holds", "All of it holds."]


def test_an_audit_names_each_thing_that_was_changed(record: Path) -> None:
    path = report_of(record)
    path.write_bytes(path.read_bytes().replace(b'"delivered_j":2232000', b'"delivered_j":2232001'))
    found = run("audit", record)
    assert found.exit_code == 1
    assert "sums: asked for" in found.stderr
    assert "log: asked for its entry, found none with these bytes" in found.stderr
    assert document("audit", record)["data"][0]["has_report"]


def test_an_audit_without_a_ledger_says_so(record: Path) -> None:
    shutil.rmtree(record / "ledger")
    found = run("audit", record)
    assert found.exit_code == 0
    assert "holds (found no ledger to compare it with)" in found.stdout


def test_an_audit_of_inputs_that_were_changed(record: Path) -> None:
    path = report_of(record).with_name("baseline.json")
    path.write_bytes(path.read_bytes().replace(b'"stated_w":1000', b'"stated_w":1001'))
    found = run("audit", record)
    assert found.exit_code == 1
    assert "inputs of the baseline: asked for" in found.stderr
