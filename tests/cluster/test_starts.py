"""A start of which not everything succeeds, and replicas that sleep so deep that they restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fixtures.serving import FULL_W, MODEL, START_S, PowerSignal, Serving, wait_until

from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.fleet.stale_runs import gpus_file

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def test_a_fleet_serves_without_the_replica_whose_gpu_has_memory_errors(
    serve: Callable[..., Serving], synthetic: dict[str, Any]
) -> None:
    fleet = serve(**synthetic)
    fleet.wait_for_words("opening the GPUs")
    Emulator.attach(build_library(), gpus_file(fleet.pid)).set_fault(1, "ecc", 2)
    fleet.wait_for_words("replica-2 is quarantined: GPU 1")
    states = ({"asleep", "quarantined"}, {"awake", "quarantined"})
    tick = fleet.wait_for_tick(lambda t: {r.state for r in t.replicas} in states, "the quarantine")
    asked = {"model": MODEL, "prompt": "The wind", "max_tokens": 4}
    answer = httpx.post(fleet.url + "/v1/completions", json=asked, timeout=START_S)
    assert answer.json()["usage"]["completion_tokens"] == 4
    (lost,) = (r for r in tick.replicas if r.state == "quarantined")
    assert "2 uncorrectable memory errors" in lost.fault
    name = "steppe_replica_quarantined"
    wait_until(lambda: name in httpx.get(fleet.url + "/metrics").text, "the quarantine as a metric")
    assert fleet.end() == 0


def test_replicas_without_power_are_stopped_and_their_node_is_switched_off_and_on(
    serve: Callable[..., Serving],
    synthetic: dict[str, Any],
    power_signal: PowerSignal,
    tmp_path: Path,
) -> None:
    log = tmp_path / "nodes"
    fleet = serve(
        **synthetic,
        fleet={
            "replicas": 2,
            "sleep": [
                {"kind": "stopped", "gpu_w": 1.0, "wake_s": 0.2, "sleep_s": 0.1},
                {"kind": "node_off", "gpu_w": 0.0, "wake_s": 0.4, "sleep_s": 0.1},
            ],
            "node_off_command": f"sh -c 'echo off {{node}} >> {log}'",
            "node_on_command": f"sh -c 'echo on {{node}} >> {log}'",
        },
        power={
            "supply": [{"kind": "signal", "path": str(power_signal.path)}],
            "stale_s": 60.0,
            "fallback_w": 0.0,
        },
    )
    power_signal.set(FULL_W)
    fleet.wait_for_awake()
    gpus = Emulator.attach(build_library(), gpus_file(fleet.pid))
    power_signal.set(0.0)
    wait_until(
        lambda: depths(fleet) == ["node_off", "node_off"], "both replicas at the deepest", START_S
    )
    # The shell makes the file before it writes the line.
    wait_until(lambda: log.exists() and log.read_text(), "the line of the command", START_S)
    assert log.read_text() == "off 127.0.0.1\n"
    assert [gpus.snapshot(index).contexts for index in (0, 1)] == [0, 0]
    bare_w = fleet.next_tick().draw_w
    power_signal.set(FULL_W)
    asked = {"model": MODEL, "prompt": "The wind", "max_tokens": 4}
    answer = httpx.post(fleet.url + "/v1/completions", json=asked, timeout=START_S)
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert log.read_text() == "off 127.0.0.1\non 127.0.0.1\n"
    wake = 'steppe_wake_seconds{depth="node_off",quantile="0.5"}'
    wait_until(lambda: wake in httpx.get(fleet.url + "/metrics").text, "the time of the wake")
    paused = [t for t in fleet.ticks() if all(r.depth == "paused" for r in t.replicas)]
    assert not paused or bare_w < paused[-1].draw_w
    assert fleet.end() == 0


def depths(fleet: Serving) -> list[str]:
    return sorted(replica.depth for replica in fleet.last_tick().replicas)
