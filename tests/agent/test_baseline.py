"""What GPUs return to when their limits are undone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.baseline import Baseline
from steppe.agent.host_limits import HostLimits, undo_lease
from steppe.agent.lease import Peer
from steppe.agent.lease_file import owned_lease_file, read_lease_file
from steppe.agent.lease_server import LeaseServer
from steppe.agent.loss_policy import Restore
from steppe.agent.messages import Release, SetClockLimit, SetPowerLimit, TakeLease
from steppe.device.nvml import open_gpus

ALICE, BASELINE = Peer(1, 101), Baseline(1200, 500.0)


def limits(node: EmulatedNode) -> tuple[int | None, float]:
    node.wait(0.1)
    truth = node.truth()
    return truth.clock_lock_mhz and truth.clock_lock_mhz[1], truth.power_limit_w


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_gpu_returns_to_the_baseline_of_the_site(
    node: EmulatedNode, tmp_path: Path, is_lost: bool
) -> None:
    with owned_lease_file(tmp_path / "lease.json") as file:
        host = HostLimits(open_gpus(), file, BASELINE)
        server = LeaseServer(host, Restore(), 1.0)
        uuid = host.gpus[node.h100].held.uuid
        for request in (TakeLease(1.0), SetClockLimit(uuid, 900), SetPowerLimit(uuid, 300.0)):
            server.answer(request, ALICE, node.now_s)
        assert limits(node) == (900, 300.0)
        if is_lost:
            server.disconnect(ALICE, node.now_s)
        else:
            server.answer(Release(), ALICE, node.now_s)
        assert limits(node) == (1200, 500.0)
        assert node.truth(node.spare).clock_lock_mhz is None, "it was not limited"
    assert read_lease_file(tmp_path / "lease.json") == ()


def test_what_a_killed_agent_left_is_undone_to_the_baseline(
    node: EmulatedNode, tmp_path: Path
) -> None:
    with owned_lease_file(tmp_path / "lease.json") as file:
        HostLimits(open_gpus(), file).gpus[node.h100].request_clock_limit(900, node.now_s)
    assert undo_lease(tmp_path / "lease.json", BASELINE) == ()
    assert limits(node) == (1200, 700.0)
