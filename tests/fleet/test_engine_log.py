from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steppe.fleet import engine_log
from steppe.fleet.engine_log import LAST_LINES, LogPart, engine_log_path, last_lines, read_log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


def test_all_output_of_a_process_and_of_its_children_goes_to_its_log(
    log: Path, tmp_path: Path
) -> None:
    program = (
        "import subprocess, sys; from pathlib import Path;"
        "from steppe.fleet.engine_log import engine_log_path, redirect_output;"
        "path = engine_log_path('run', 'replica-1'); redirect_output(path);"
        "print('from the actor', flush=True);"
        "subprocess.run(['sh', '-c', 'echo from the engine >&2'])"
    )
    out = tmp_path / "worker.out"
    with out.open("w") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True)
    found = (tmp_path / "steppe-run-replica-1.log").read_text()
    assert found == "from the actor\nfrom the engine\n"
    assert out.read_text() == ""


def test_a_process_whose_output_is_no_file_has_no_log() -> None:
    program = (
        "from steppe.fleet.engine_log import engine_log_path;"
        "print(engine_log_path('run', 'replica-1'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"None\n"
    assert os.readlink("/proc/self/fd/1") is not None
    assert engine_log_path("run", "x") is None or engine_log_path("run", "x") != Path("run")


def test_a_log_is_read_in_parts(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_log, "MOST_READ_BYTES", 4)
    assert read_log(log, 0) == LogPart(b"", 0)
    log.write_bytes(b"123456")
    assert read_log(log, 0) == LogPart(b"1234", 4)
    assert read_log(log, 4) == LogPart(b"56", 6)
    assert read_log(log, 6) == LogPart(b"", 6)


def test_a_log_that_has_grown_too_large_is_emptied_once_it_was_read(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_log, "MOST_BYTES", 4)
    log.write_bytes(b"123456")
    assert read_log(log, 0) == LogPart(b"123456", 0)
    log.write_bytes(b"7")
    assert read_log(log, 0) == LogPart(b"7", 1)


def test_a_log_that_was_emptied_meanwhile_is_read_from_its_begin(log: Path) -> None:
    log.write_bytes(b"12")
    assert read_log(log, 500) == LogPart(b"12", 2)


def test_an_error_shows_the_last_lines(log: Path) -> None:
    assert last_lines(log) == ""
    log.write_text("".join(f"line {number}\n\n" for number in range(100)))
    shown = last_lines(log).splitlines()
    assert (len(shown), shown[-1]) == (LAST_LINES, "line 99")
