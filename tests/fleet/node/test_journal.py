from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.fleet_messages import node_report, replica_report

from steppe.control.measurements import ClockWork
from steppe.energy.node_rest import NodeRest
from steppe.fleet.node.journal import AssignmentRecord, NodeJournal, NodeRecord
from steppe.report.records import GpuEvent

REPORT = replica_report(
    draw_w=None,
    error_j=math.inf,
    quality="estimated",
    requests_uj={2**62: 5, 17: 6},
    tokens={17: (3, 4)},
    work=ClockWork(900, 20, 3, 60, 128, 9000, 0.5, 30.25),
)
REPLICA = AssignmentRecord(
    replica="replica-1",
    gpu_indices=(0, 1),
    phase="awake",
    clock_mhz=900,
    batch_limit=4,
    read_to=12345,
    output_tokens=99,
    reported_s=17.5,
    owed_j=0.125,
    counters_j={"GPU-1": 1000.0, "GPU-2": 2000.0},
    tokens_per_step=128,
    holds=False,
)


def test_the_journal_of_a_new_node_is_empty(tmp_path: Path) -> None:
    assert NodeJournal(tmp_path / "journal.json").read() == NodeRecord()


def test_a_journal_reads_exactly_what_was_written(tmp_path: Path) -> None:
    report = replace(
        node_report(6, REPORT),
        rest=NodeRest(1500.0, 450.0, "stated"),
        events=(GpuEvent("GPU-1", "xid", "Xid 79"),),
    )
    record = NodeRecord(7, (report,), (REPLICA,))
    NodeJournal(tmp_path / "journal.json").write(record)
    assert NodeJournal(tmp_path / "journal.json").read() == record


def test_the_last_write_counts_and_leaves_no_draft(tmp_path: Path) -> None:
    journal = NodeJournal(tmp_path / "journal.json")
    for number in (1, 2):
        journal.write(replace(NodeRecord(), number=number))
    assert journal.read().number == 2
    assert [path.name for path in tmp_path.iterdir()] == ["journal.json"]


def test_a_journal_that_cannot_be_written_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    journal = NodeJournal(folder / "journal.json")
    for number in (1, 2):
        journal.write(NodeRecord(number))
    assert [line.rpartition(": ")[0] for line in caplog.messages] == [
        f"{folder}/journal.json: cannot be written"
    ]
    folder.mkdir()
    journal.write(NodeRecord(3))
    assert journal.read().number == 3
