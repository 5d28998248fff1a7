"""A start of which not everything succeeds: the fleet serves with what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.fixtures.serving import MODEL, START_S, Serving, wait_until

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
    wait_until(lambda: "quarantined" in fleet.states(), "the quarantine in the record")
    assert fleet.states()[0] in ("asleep", "awake")
    asked = {"model": MODEL, "prompt": "The wind", "max_tokens": 4}
    answer = httpx.post(fleet.url + "/v1/completions", json=asked, timeout=START_S)
    assert answer.json()["usage"]["completion_tokens"] == 4
    (lost,) = (r for r in fleet.ticks()[-1].replicas if r.state == "quarantined")
    assert "2 uncorrectable memory errors" in lost.fault
    assert "steppe_replica_quarantined" in httpx.get(fleet.url + "/metrics").text
    assert fleet.end() == 0
