"""What an earlier release wrote is read, or refused in one line.

`record_of_0_2_0` is the begin of a simulated record of Steppe 0.2.0 and of its operating points.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from steppe.errors import UsageError
from steppe.frontier.file import read_frontier
from steppe.report.continued import CARRIED_ON
from steppe.report.record_folder import SUMMARY_FILE, Recorder, earlier_run, read_run
from steppe.run.record_page.files import write_page

WRITTEN = Path(__file__).parents[1] / "fixtures" / "record_of_0_2_0"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WRITTEN, tmp_path / "record"))


def test_a_record_of_0_2_0_is_read(record: Path) -> None:
    run = read_run(record)
    assert len(run.ticks) == 5
    assert run.ticks[-1].replicas[0].id == "replica-1"
    assert {request.outcome for request in run.requests} <= {"completed", "cancelled"}
    assert run.summary is not None
    assert run.summary["versions"] == {"steppe": "0.2.0"}


def test_a_record_of_0_2_0_opens_as_a_page(record: Path, tmp_path: Path) -> None:
    page = write_page([record], tmp_path / "page")
    assert "replica-1" in page.read_text()


def test_a_run_does_not_go_on_with_a_record_of_0_2_0_and_leaves_it_as_it_is(record: Path) -> None:
    before = (record / SUMMARY_FILE).read_bytes()
    with pytest.raises(UsageError) as caught:
        Recorder(record, resume=True)
    (line,) = str(caught.value).splitlines()
    assert "in that of steppe 0.2.0: record in a new folder" in line
    assert "unclaimed_energy_j" in line
    assert (record / SUMMARY_FILE).read_bytes() == before


@pytest.mark.parametrize("name", CARRIED_ON)
def test_a_summary_without_what_is_carried_on_is_refused(record: Path, name: str) -> None:
    summary = orjson.loads((record / SUMMARY_FILE).read_bytes())
    whole = dict.fromkeys(CARRIED_ON, 0.0) | summary
    (record / SUMMARY_FILE).write_bytes(orjson.dumps(whole))
    assert earlier_run(record) is not None
    (record / SUMMARY_FILE).write_bytes(orjson.dumps({k: whole[k] for k in whole if k != name}))
    with pytest.raises(UsageError, match=f"found no {name} in that of steppe"):
        earlier_run(record)


def test_operating_points_of_0_2_0_are_read() -> None:
    points = read_frontier(WRITTEN / "frontier.yaml").points
    assert [point.clock_mhz for point in points] == [990, 1042]
