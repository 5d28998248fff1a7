from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.host_limits import HostLimits
from steppe.agent.lease import Peer
from steppe.agent.lease_server import LeaseServer
from steppe.agent.loss_policy import Restore
from steppe.agent.messages import FollowPowerLimits, SetClockLimit, TakeLease
from steppe.agent.metrics import WRITE_S, MetricsFile

ALICE = Peer(1, 101)


def values(text: str) -> dict[tuple[str, ...], float]:
    """Return the samples by name and label values."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_file_shows_who_holds_which_gpu_and_its_limits(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path
) -> None:
    server = LeaseServer(host_limits, Restore(), 1.0)
    uuid = host_limits.gpus[node.h100].held.uuid
    path = tmp_path / "agent.prom"
    metrics = MetricsFile(path, server.counts)
    for request in (
        TakeLease(1.0, "run a"),
        SetClockLimit(uuid, 900),
        FollowPowerLimits((0.0,), {uuid: (300.0,)}, 0.0),
        SetClockLimit("GPU-x", 900),
    ):
        server.answer(request, ALICE, node.now_s)
    metrics.write_if_due(server.status(node.now_s), node.now_s)
    found = values(path.read_text())
    assert found["steppe_agent_gpu_held", uuid, "run a"] == 1.0
    assert found["steppe_agent_gpu_clock_limit_hertz", uuid] == 900e6
    assert found["steppe_agent_gpu_power_limit_watts", uuid] == 300.0
    assert found["steppe_agent_lease_left_seconds", "run a"] == pytest.approx(0.9)
    assert found["steppe_agent_leases_total",] == found["steppe_agent_requests_refused_total",] == 1

    server.disconnect(ALICE, node.now_s)
    node.wait(1.0)
    server.pass_time(node.now_s)
    metrics.write_if_due(server.status(node.now_s), node.now_s)
    assert ("steppe_agent_gpu_held", uuid, "run a") in values(path.read_text()), "not due yet"
    node.wait(WRITE_S)
    metrics.write_if_due(server.status(node.now_s), node.now_s)
    found = values(path.read_text())
    assert found["steppe_agent_holders_lost_total",] == 1
    assert ("steppe_agent_gpu_held", uuid, "run a") not in found
    assert ("steppe_agent_gpu_clock_limit_hertz", uuid) not in found


def test_a_file_that_cannot_be_written_is_logged_once(
    host_limits: HostLimits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = LeaseServer(host_limits, Restore(), 1.0)
    metrics = MetricsFile(tmp_path / "missing" / "agent.prom", server.counts)
    for now_s in (0.0, WRITE_S):
        metrics.write_if_due(server.status(now_s), now_s)
    assert len(caplog.messages) == 1
    assert "metrics cannot be written" in caplog.messages[0]
    metrics.remove()
