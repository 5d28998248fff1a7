"""A run whose Ray GCS is killed, and that goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from tests.fixtures.serving import Load, Serving, assert_books_balance, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

GCS = "gcs_server"
RESTARTED = "Ray's GCS has died, and was started again"


def gcs_of(fleet: Serving) -> set[int]:
    return {pid for pid, line in fleet.alive().items() if line.split(" ")[0].endswith(f"/{GCS}")}


def test_no_stream_ends_with_a_gcs_that_dies_and_comes_back(
    serve: Callable[..., Serving], one_gpu: dict[str, Any], synthetic: dict[str, Any]
) -> None:
    fleet = serve(ray={"restart_gcs": True}, **one_gpu, **synthetic)
    fleet.wait_for_words("serving on")
    with Load(fleet, 2) as load:
        load.wait_for(2)
        for restarts in (1, 2):
            (gcs,) = gcs_of(fleet)
            os.kill(gcs, signal.SIGKILL)
            wait_until(lambda: fleet.log.read_text().count(RESTARTED) == restarts, "another GCS")  # noqa: B023
            load.wait_for(4)
        # Ray restarts actors again: the tables are there.
        (controller,) = fleet.pids("ray::Controller")
        os.kill(controller, signal.SIGKILL)
        fleet.wait_for_another("ray::Controller", {controller})
        fleet.next_tick()
        load.wait_for(2)
    assert not load.failed
    assert fleet.end() == 0
    wait_until(lambda: not fleet.alive(), "no process is left")
    assert fleet.files() == []
    assert_books_balance(fleet)
    assert fleet.log.read_text().count(RESTARTED) == 2
