"""`steppe batch run --config`: a fleet for one job, from its start to the last file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fixtures.serving import START_S, wait_until

from steppe.batch.local.folder import open_folder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

ROWS = 150


def write_input(folder: Path) -> None:
    lines = [
        json.dumps({"prompt": f"The wind of day {number}", "max_tokens": 10 + number % 10})
        for number in range(ROWS)
    ]
    lines.append(json.dumps({"prompt": "The wind", "model": "no-such-model"}))
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "steppe", "batch", *arguments]
    return subprocess.Popen(
        [*command, "--config", str(folder / "run.yaml"), "--json"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished_rows(place: Path) -> int:
    if not place.exists():
        return 0
    with open_folder(place) as folder:
        return folder.store.counts(folder.job().id).finished


def test_a_job_has_a_fleet_is_stopped_and_goes_on_with_another(
    make_config: Callable[..., dict[str, Any]], synthetic: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(make_config(**synthetic)))
    write_input(tmp_path)
    place = tmp_path / "out.jsonl.job"
    first = start(tmp_path, "run", "in.jsonl", "-o", "out.jsonl", "--when", "now")
    wait_until(lambda: finished_rows(place) > 5 or first.poll() is not None, "rows", START_S)
    os.killpg(first.pid, signal.SIGTERM)
    said, problem = first.communicate(timeout=START_S)
    assert first.returncode == 1, problem
    stopped = json.loads(said)
    assert stopped["state"] == "in_progress"
    assert 5 < stopped["rows"]["completed"] < ROWS
    second = start(tmp_path, "resume", "out.jsonl.job")
    said, problem = second.communicate(timeout=START_S)
    assert second.returncode == 0, problem
    ended = json.loads(said)
    assert (ended["state"], ended["rows"]["total"]) == ("completed", ROWS + 1)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len({line["custom_id"] for line in lines}) == len(lines) == ROWS
    assert sum(line["steppe"]["energy_j"] for line in lines) == pytest.approx(ended["energy_j"])
    sources = Counter(line["steppe"]["energy_source"] for line in lines)
    assert sources.keys() <= {"emulated", "estimated", ""}  # on a busy machine some are late
    assert sources["emulated"] > ROWS / 2
    assert {line["steppe"]["replica"] for line in lines} <= {"replica-1", "replica-2"}
    assert ended["output_tokens"] >= ROWS * 10
    (error,) = (tmp_path / "out.errors.jsonl").read_text().splitlines()
    assert json.loads(error)["custom_id"] == f"row-{ROWS}"
