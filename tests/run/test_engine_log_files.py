from __future__ import annotations

from pathlib import Path

import pytest

from steppe.run import engine_log_files
from steppe.run.engine_log_files import EngineLogFiles


def test_each_replica_has_a_log_in_the_record(tmp_path: Path) -> None:
    logs = EngineLogFiles(tmp_path)
    logs.append({})
    assert list(tmp_path.iterdir()) == []
    logs.append({"replica-1": b"one\n", "replica-2": b"two\n"})
    logs.append({"replica-1": b"more\n"})
    assert (tmp_path / "engines" / "replica-1.log").read_text() == "one\nmore\n"
    assert (tmp_path / "engines" / "replica-2.log").read_text() == "two\n"


def test_a_log_and_the_one_before_it_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_log_files, "MOST_BYTES", 10)
    logs = EngineLogFiles(tmp_path)
    for number in range(5):
        logs.append({"replica-1": f"line {number}\n".encode()})
    found = {path.name: path.read_text() for path in (tmp_path / "engines").iterdir()}
    assert found == {"replica-1.log": "line 4\n", "replica-1.log.1": "line 3\n"}


def test_a_record_that_cannot_be_written_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "engines").write_text("in the way")
    logs = EngineLogFiles(tmp_path)
    for _ in range(3):
        logs.append({"replica-1": b"text"})
    assert len(caplog.messages) == 1
