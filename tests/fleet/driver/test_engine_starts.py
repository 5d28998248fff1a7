from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor

from steppe.config import FleetSection
from steppe.errors import ConfigError, EngineError, ReplicaError, notes_of
from steppe.fleet.driver.engine_starts import EngineStarts
from steppe.fleet.messages import Placement

FLEET = FleetSection(start_s=600.0, wait_s=60.0)


@dataclass
class Scene:
    """Three replicas on one node; a look at the clock takes ten seconds."""

    starts: EngineStarts
    node: FakeActor
    replicas: dict[str, FakeActor]
    lines: list[str] = field(default_factory=list)

    def wait(self) -> None:
        self.starts.wait(self.lines.append, lambda: "")


def failure(message: str) -> ray.exceptions.RayTaskError:
    return ray.exceptions.RayTaskError("start", "", EngineError(message))


@pytest.fixture
def make(fake_ray: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(**answers: Any) -> Scene:
        times: Iterator[int] = count(0, 10)
        starts = EngineStarts(FLEET, lambda: float(next(times)))
        node, replicas = FakeActor({"last_log_lines": ""}), dict[str, FakeActor]()
        for name, answer in answers.items():
            ready = answer != "starting"
            replicas[name] = FakeActor({"start": answer}, ready=ready)
            place = Placement(name.replace("_", "-"), replicas[name], "n", node, [0], ())
            starts.start(place, "folder")
        return Scene(starts, node, replicas)

    return made


def test_a_start_ends_when_every_engine_serves(make: Any) -> None:
    scene = make(replica_1=None, replica_2=None)
    scene.wait()
    assert scene.starts.ready == {"replica-1", "replica-2"}
    assert scene.lines[-1] == "2 of 2 replicas serve"
    assert scene.replicas["replica_1"].args("start")[0][-1] == "folder"


def test_the_run_begins_with_the_replicas_that_start(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make(replica_1=failure("no memory"), replica_2=None)
    scene.node.answers["last_log_lines"] = "CUDA error\nout of memory"
    scene.wait()
    assert scene.starts.ready == {"replica-2"}
    assert caplog.messages == [
        "replica-1: no memory\nlast lines of the log of replica-1:\nCUDA error\nout of memory"
    ]


def test_a_slow_replica_is_waited_for_a_while_and_then_left_to_the_controller(make: Any) -> None:
    scene = make(replica_1=None, replica_2="starting")
    scene.wait()
    assert len(scene.lines) == 6, "60 s at 10 s a look"
    assert list(scene.starts.running()) == ["replica-2"]
    scene.replicas["replica_2"].calls[-1].ready = True
    assert scene.starts.running() == {}


def test_a_run_whose_engines_all_fail_ends_with_the_last_lines_of_a_log(make: Any) -> None:
    scene = make(replica_1=failure("no memory"), replica_2=failure("no memory"))
    scene.node.answers["last_log_lines"] = "CUDA error"
    with pytest.raises(ReplicaError) as caught:
        scene.wait()
    assert str(caught.value) == "replica-1: no memory"
    assert notes_of(caught.value) == ("last lines of the log of replica-1:\nCUDA error",)


def test_a_configuration_that_no_engine_can_run_is_one_line(make: Any) -> None:
    error = ray.exceptions.RayTaskError("start", "", ConfigError("engine.args: no such thing"))
    scene = make(replica_1=error)
    scene.node.answers["last_log_lines"] = "not asked for"
    with pytest.raises(ConfigError, match=r"^engine\.args: no such thing$"):
        scene.wait()


def test_a_start_beyond_its_limit_ends_the_run(make: Any) -> None:
    scene = make(replica_1="starting")
    with pytest.raises(ReplicaError, match=r"no replica serves after 600 s \(fleet\.start_s\)"):
        scene.wait()
