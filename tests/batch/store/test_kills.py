"""A runner that is killed at any point loses no row and writes none twice."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
from tests.fixtures.killed_runner import GROUP, JOB

from steppe.batch.store.job_store import JobStore

ROWS, KILLS = 400, 12
RUNNER = Path(__file__).parents[2] / "fixtures" / "killed_runner.py"


def size(folder: Path) -> int:
    """Return what a runner has written, bytes: it tells how far it is."""
    return sum(path.stat().st_size for path in folder.glob("[eco]*") if path.is_file())


def run_until(folder: Path, more_bytes: int) -> bool:
    """Run until so much more is written, then kill; return whether it has ended by itself."""
    begin = size(folder)
    process = subprocess.Popen([sys.executable, str(RUNNER), str(folder), str(ROWS)])
    try:
        while size(folder) < begin + more_bytes and process.poll() is None:
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
    return (folder / "done").exists()


@pytest.mark.slow
def test_each_row_is_written_once_although_its_runner_is_killed(tmp_path: Path) -> None:
    rng = random.Random(4)
    kills = 0
    while not run_until(tmp_path, rng.randrange(4_500) if kills < KILLS else 1 << 40):
        kills += 1
        assert kills <= KILLS
    assert kills > 3
    with gzip.open(tmp_path / "out.jsonl.gz") as file:
        answers = [orjson.loads(line)["custom_id"] for line in file]
    errors = (tmp_path / "errors.jsonl").read_bytes().splitlines()
    failed = [orjson.loads(line)["custom_id"] for line in errors]
    assert sorted(answers + failed) == sorted(f"id-{number}" for number in range(ROWS))
    assert len(failed) == ROWS // 5
    computed = Counter((tmp_path / "computed").read_text().split())
    # Only what ran as a process was killed is computed again.
    assert sum(computed.values()) - len(computed) <= kills * GROUP
    store = JobStore(str(tmp_path / "jobs.db"))
    counts, totals = store.counts(JOB), store.totals(JOB)
    store.close()
    assert (counts.total, counts.completed, counts.failed) == (ROWS, len(answers), len(failed))
    assert totals.output_tokens == 3 * (ROWS - ROWS // 10)
