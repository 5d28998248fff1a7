"""Limits of a host that keep a fleet from running, or from running well."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.run.doctor.made_up import GIB, HOST, only, serious

from steppe.config import GatewaySection
from steppe.run.doctor.finding import Level
from steppe.run.doctor.host import check_host, check_port, free_bytes, read_host

MIB = 1 << 20


@pytest.mark.parametrize(
    ("changes", "gpus_per_replica", "check", "level"),
    [
        ({}, 8, "shared memory", Level.OK),
        ({"shared_bytes": 64 * MIB, "shared_free_bytes": 64 * MIB}, 1, "shared memory", "warning"),
        ({"shared_bytes": 64 * MIB, "shared_free_bytes": 64 * MIB}, 2, "shared memory", "fatal"),
        ({"shared_free_bytes": GIB // 2}, 2, "shared memory", "warning"),
        ({"files": None}, 1, "open files", "ok"),
        ({"files": 4096}, 1, "open files", "warning"),
        ({"files": 256}, 1, "open files", "fatal"),
        ({"has_infiniband": True, "locked_bytes": 8 * MIB}, 1, "locked memory", "warning"),
    ],
)
def test_limits_are_judged_by_what_a_fleet_needs(
    changes: dict[str, Any], gpus_per_replica: int, check: str, level: str
) -> None:
    finding = only(check_host(replace(HOST, **changes), gpus_per_replica=gpus_per_replica), check)
    assert finding.level == level
    assert bool(finding.advice) == (level != "ok")


def test_locked_memory_matters_with_infiniband_only() -> None:
    assert serious(check_host(replace(HOST, locked_bytes=8 * MIB), gpus_per_replica=8)) == []


def test_this_host_is_read(tmp_path: Path) -> None:
    found = read_host()
    assert found.name
    assert found.shared_bytes >= found.shared_free_bytes > 0
    assert read_host(tmp_path / "nowhere").shared_bytes == 0
    assert free_bytes(tmp_path / "not" / "made" / "yet") == pytest.approx(free_bytes(tmp_path), 0.1)


def test_a_port_in_use_is_fatal() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        finding = check_port(GatewaySection(port=port))
    assert finding.level is Level.FATAL
    assert str(port) in finding.found
    assert check_port(GatewaySection(port=0)).level is Level.OK
