from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.ray_actors import FakeCall

from steppe.errors import (
    BackendUnavailableError,
    ConfigError,
    EngineError,
    ReplicaError,
    StartError,
    UsageError,
)
from steppe.fleet import cluster
from steppe.fleet.cluster import (
    LOCAL,
    call_result,
    connect,
    free_gpus,
    gpu_machines,
    leave,
    leave_lost,
    refuse_unmatched_labels,
    share_of_cores,
)
from steppe.fleet.orphan_processes import (
    Process,
    has_title,
    process_of,
    processes_of,
    program_of,
)


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 70))
def test_engines_of_one_machine_share_its_cores(count: int, places: int) -> None:
    cores = tuple(range(100, 100 + count))
    shares = [share_of_cores(cores, place, places) for place in range(places)]
    assert all(shares)
    assert set().union(*shares) <= set(cores)
    if places <= count:
        assert len({core for share in shares for core in share}) == sum(map(len, shares))


def ray_node(address: str, gpus: float, *, alive: bool = True, **labels: str) -> dict[str, Any]:
    own = {"ray.io/node-id": f"id-of-{address}"}
    return {
        "NodeID": f"id-of-{address}",
        "NodeManagerAddress": address,
        "Alive": alive,
        "Resources": {"CPU": 8.0, **({"GPU": gpus} if gpus else {})},
        "Labels": {**own, **labels},
    }


@pytest.fixture
def four_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        ray_node("10.0.0.1", 8.0, zone="a", pool="llm"),
        ray_node("10.0.0.2", 8.0, zone="b"),
        ray_node("10.0.0.3", 0.0, zone="c"),
        ray_node("10.0.0.4", 8.0, alive=False, zone="c"),
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)


@pytest.mark.parametrize(
    ("labels", "addresses"),
    [
        ({}, ["10.0.0.1", "10.0.0.2"]),
        ({"zone": "a"}, ["10.0.0.1"]),
        ({"zone": "b", "pool": "llm"}, []),
    ],
)
def test_only_nodes_with_all_labels_are_used(
    four_nodes: None, labels: dict[str, str], addresses: list[str]
) -> None:
    assert [machine.address for machine in gpu_machines(False, labels)] == addresses


def test_labels_that_no_gpu_node_has_are_refused_with_those_that_were_found(
    four_nodes: None,
) -> None:
    refuse_unmatched_labels({"zone": "a"})
    with pytest.raises(ConfigError) as caught:
        refuse_unmatched_labels({"zone": "c"})
    assert str(caught.value) == (
        "fleet.node_labels: asked for GPU nodes with zone=c, found "
        "10.0.0.1 (pool=llm, zone=a), 10.0.0.2 (zone=b)"
    )


def test_gpus_that_another_job_holds_in_whole_or_in_part_are_not_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    available = {"n1": {"CPU": 1.0, "GPU": 2.5}, "n2": {"CPU": 1.0}}
    monkeypatch.setattr(cluster, "available_resources_per_node", lambda: available)
    assert free_gpus() == {"n1": 2, "n2": 0}


@dataclass
class FakeInit:
    """Stands for `ray.init`: raises these errors, one at each call, and succeeds afterwards."""

    errors: list[Exception]
    addresses: list[str] = field(default_factory=list)

    def __call__(self, address: str, **_: object) -> None:
        self.addresses.append(address)
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def failing_init(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., FakeInit]:
    """Return a function that lets `ray.init` fail with real errors of Ray."""

    def fail(*errors: Exception) -> FakeInit:
        made = FakeInit(list(errors))
        monkeypatch.setattr(ray, "init", made)
        return made

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(cluster, "_probe", lambda _: None)
    return fail


TIMED_OUT = Exception("The current node timed out during startup. This could happen because...")
"""What Ray 2.60 raises when its node is not up after 30 s."""
START_ERRORS = (
    TIMED_OUT,
    RuntimeError("Failed to start GCS.  Last 1 lines of error files:\nboom\n."),
    ray.exceptions.RaySystemError("Connection refused", "Traceback ..."),
    ray.exceptions.RpcError("the raylet is gone"),
    TimeoutError("Timed out after 30 seconds while waiting for node to startup"),
    OSError(98, "Address already in use"),
)


@pytest.mark.parametrize("error", START_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("address", [LOCAL, "10.0.0.1:6379"])
def test_a_start_of_ray_that_fails_twice_is_one_line_that_names_the_log(
    failing_init: Callable[..., FakeInit], tmp_path: Path, address: str, error: Exception
) -> None:
    session = tmp_path / "ray" / f"session_2026-01-01_00-00-00_000000_{os.getpid()}"
    session.mkdir(parents=True)
    init = failing_init(error, error)
    with pytest.raises(StartError) as caught:
        connect(address)
    assert init.addresses == [address, address]
    line = str(caught.value)
    assert "\n" not in line
    assert "Traceback" not in line
    assert line.endswith(f"; see {session}/logs")
    assert str(error).splitlines()[0] in line


def test_a_start_of_ray_that_fails_once_is_repeated_and_logged(
    failing_init: Callable[..., FakeInit], caplog: pytest.LogCaptureFixture
) -> None:
    init = failing_init(TIMED_OUT)
    connect(LOCAL)
    assert init.addresses == [LOCAL, LOCAL]
    (line,) = caplog.messages
    assert line.startswith("Ray did not start: The current node timed out during startup.")
    assert line.endswith("; trying once more")


def test_a_cluster_that_requires_another_token_is_not_tried_again(
    failing_init: Callable[..., FakeInit],
) -> None:
    init = failing_init(ray.exceptions.AuthenticationError("wrong token"))
    with pytest.raises(UsageError, match=r"^ray\.address: 'auto' requires another token: wrong"):
        connect("auto")
    assert init.addresses == ["auto"]


def test_a_dead_address_is_refused_without_waiting_for_ray(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "init", FakeInit([AssertionError("it would wait for minutes")]))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but it does not listen
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(StartError) as caught:
            connect(address)
    assert str(caught.value) == (
        f"ray.address: asked for the cluster '{address}', found none: Connection refused"
    )
    assert len(caplog.messages) == 1, "it was tried twice"


def died_in_constructor(cause: Exception) -> ray.exceptions.ActorDiedError:
    traceback = f"ray::Node.__init__()\n  File ...\nsteppe.errors.{type(cause).__name__}: {cause}"
    return ray.exceptions.ActorDiedError(ray.exceptions.RayTaskError("__init__", traceback, cause))


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (
            ray.exceptions.RayTaskError("start", "", EngineError("tiny: no weights")),
            ReplicaError,
            "replica-1: tiny: no weights",
        ),
        (
            ray.exceptions.RayTaskError("open", "", ConfigError("gateway.port: 80 is in use")),
            ConfigError,
            "gateway.port: 80 is in use",
        ),
        (
            died_in_constructor(BackendUnavailableError("libnvidia-ml.so.1: not found")),
            ReplicaError,
            "replica-1: libnvidia-ml.so.1: not found",
        ),
        (
            ray.exceptions.ActorDiedError(),
            ReplicaError,
            "replica-1: The actor died unexpectedly before finishing this task.",
        ),
        (
            ray.exceptions.ActorUnschedulableError("no node has 8 GPUs"),
            ReplicaError,
            "replica-1: The actor is not schedulable: no node has 8 GPUs",
        ),
        (ray.exceptions.GetTimeoutError("Get timed out"), ReplicaError, "replica-1: Get timed out"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_call_that_fails_is_one_line(
    fake_ray: None, error: Exception, kind: type[Exception], line: str
) -> None:
    with pytest.raises(kind) as caught:
        call_result(FakeCall(error), "replica-1", 1.0)
    assert str(caught.value) == line


def start_actor_that_hangs(said: Path) -> Any:
    """Start an actor whose process hangs in its exit, which it reports by making the file."""

    class Hanging:
        def hang_at_exit(self) -> int:
            import atexit
            import threading

            def hang() -> None:
                said.touch()
                threading.Event().wait(100)

            atexit.register(hang)
            return os.getpid()

    remote: Any = ray.remote(Hanging)
    return remote.options(num_cpus=0).remote()


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_an_actor_that_hangs_in_its_exit_does_not_outlive_our_cluster(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = tmp_path / "said"
    connect(LOCAL)
    session = ray.get_runtime_context().get_session_name()
    try:
        actor = start_actor_that_hangs(said)
        number = ray.get(actor.hang_at_exit.remote())
        del actor  # without a handle, the actor exits
        while not said.exists():
            time.sleep(0.05)
        (hanging,) = (p for p in processes_of(session) if p.number == number)
    finally:
        leave(LOCAL, wait_s=1.0)
    assert not hanging.is_alive
    assert processes_of(session) == frozenset()
    assert "outlived the Ray cluster of this run" in caplog.text


def test_a_shutdown_that_waits_for_a_stopped_server_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed = threading.Event()
    session = SimpleNamespace(get_session_name=lambda: "session")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: session)
    monkeypatch.setattr(ray, "shutdown", lambda: killed.wait(20))
    monkeypatch.setattr(cluster, "LONGEST_SHUTDOWN_S", 0.05)
    monkeypatch.setattr(cluster, "processes_of", lambda _: frozenset())
    monkeypatch.setattr(cluster, "end_orphan_processes", lambda *_: 0)
    monkeypatch.setattr(cluster, "kill_processes", lambda _: killed.set())
    leave(LOCAL)
    assert killed.is_set()


def test_a_lost_cluster_ends_replicas_first_and_what_holds_the_gateway_up_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raylet = shutil.copy(Path("/bin/sleep").resolve(), tmp_path / "raylet")
    commands = {
        "raylet": [str(raylet), "600"],
        "gateway": ["ray::GatewayActor", "600"],
        "replica": ["ray::ReplicaActor", "600"],
    }
    started = {
        name: subprocess.Popen(command, executable=raylet if name == "raylet" else "/bin/sleep")
        for name, command in commands.items()
    }
    processes = {name: process_of(process.pid) for name, process in started.items()}
    alive: list[set[str]] = []
    events = SimpleNamespace(
        sleep=lambda _: alive.append({n for n, p in processes.items() if p.is_alive})
    )
    try:
        deadline_s = time.monotonic() + 30.0
        while not all(_is_ready(name, process) for name, process in processes.items()):
            assert time.monotonic() < deadline_s
        monkeypatch.setattr(cluster, "time", events)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        leave_lost(frozenset(processes.values()))
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    assert alive == [{"raylet", "gateway"}]


def _is_ready(name: str, process: Process) -> bool:
    """Return whether a process runs its program, and has its title."""
    return program_of(process) == name if name == "raylet" else has_title(process, "ray::")
