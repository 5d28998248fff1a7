"""The fleet of a run that another driver has begun."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from steppe.config import load_config, shipped_config
from steppe.errors import StartError
from steppe.fleet import stale_runs
from steppe.report.live import RunSoFar
from steppe.run import running_fleet as fleets
from steppe.run.cleanup import CleanupPipe
from steppe.run.live_frontiers import FrontiersState
from steppe.run.run_state import RunState
from steppe.run.running_fleet import DriverOfTwo, become_active, taken_over_fleet
from steppe.run.shared_run import SharedRun

RUN = "4000000-ab12"


class Driver:
    """A driver that notes what it does, in a cluster that may not answer."""

    def __init__(self, *, answers: bool) -> None:
        self.answers, self.done = answers, list[str]()

    def take_over(self, address: str, known: bytes) -> None:
        self.done.append(f"take over {known.decode()} at {address}")
        if not self.answers:
            raise StartError("the cluster does not answer")

    def stop(self) -> None:
        self.done.append("stop")


STATE = RunState(
    config=load_config(Path(shipped_config("demo.yaml"))),
    address="192.0.2.1:6379",
    driver=b"the fleet",
    begun_s=1.0,
    so_far=RunSoFar(None, "emulated", "gpu"),
    record=None,
    frontiers=FrontiersState({}, {}, None),
)


@pytest.fixture
def of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DriverOfTwo, int]:
    """What two drivers share, after one of them has died, and the read end of their pipe."""
    monkeypatch.setattr(stale_runs, "state_folder", lambda: tmp_path)
    monkeypatch.setattr(fleets, "gpus_file", lambda process: tmp_path / f"gpus-{process}")
    monkeypatch.setattr(fleets, "remove_files", lambda *_, **__: None)
    read, write = os.pipe()
    os.set_blocking(read, False)
    shared = SharedRun(RUN)
    shared.write(STATE.write())
    found, known = become_active(RUN, write)
    assert found is not None
    assert known == STATE
    return DriverOfTwo(shared, CleanupPipe(write)), read


def test_a_fleet_that_is_taken_over_is_stopped_at_the_end_of_the_run(
    of_two: tuple[DriverOfTwo, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    two, read = of_two
    made = Driver(answers=True)
    monkeypatch.setattr(fleets, "FleetDriver", lambda *_, **__: made)
    with taken_over_fleet(STATE, two) as driver:
        found: Any = driver
        assert found is made
        assert not two.shared.has_ended
    assert made.done == ["take over the fleet at 192.0.2.1:6379", "stop"]
    assert os.read(read, 100) == b'{"done": ""}\n'
    assert SharedRun.find(RUN) is None


def test_a_fleet_that_cannot_be_taken_over_is_left_to_the_process_that_cleans_up(
    of_two: tuple[DriverOfTwo, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    two, read = of_two
    made = Driver(answers=False)
    monkeypatch.setattr(fleets, "FleetDriver", lambda *_, **__: made)
    with pytest.raises(StartError), taken_over_fleet(STATE, two):
        pass
    assert made.done == ["take over the fleet at 192.0.2.1:6379"]
    with pytest.raises(BlockingIOError):
        os.read(read, 100)
    assert two.shared.has_ended
