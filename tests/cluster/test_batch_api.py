"""A run with a Batch API whose service, gateway and run end in the middle of a job."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch
from tests.fixtures.serving import MODEL, START_S, Serving, free_port, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

SERVICE, GATEWAY = "ray::ServiceActor", "ray::GatewayActor"
ROWS = 320
"""So many that the job is not done while its service and its gateway come back."""


def lines() -> bytes:
    body = {"model": MODEL, "max_tokens": 10, "ignore_eos": True}
    made = [
        {
            "custom_id": f"id-{n}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {**body, "prompt": f"The wind {n}"},
        }
        for n in range(ROWS)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in made)


def client_of(fleet: Serving) -> openai.OpenAI:
    """Return the client as people use it: it tries again on a 503 and a lost connection."""
    return openai.OpenAI(base_url=fleet.url + "/v1", api_key="-", max_retries=20, timeout=60)


def completed(batch: Batch) -> int:
    return 0 if batch.request_counts is None else int(batch.request_counts.completed)


def kill(fleet: Serving, title: str) -> None:
    (pid,) = before = fleet.pids(title)
    os.kill(pid, signal.SIGKILL)
    fleet.wait_for_another(title, before)


def test_a_batch_outlives_its_service_its_gateway_and_its_run(
    serve: Callable[..., Serving],
    one_gpu: dict[str, Any],
    synthetic: dict[str, Any],
    tmp_path: Path,
) -> None:
    sections = {"batch": {"folder": str(tmp_path / "batch")}, "gateway": {"port": free_port()}}
    fleet = serve(**sections, **one_gpu, **synthetic)
    fleet.wait_for_words("serving on")
    with client_of(fleet) as client:
        file = client.files.create(file=("in.jsonl", lines()), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="1h"
        )

        def has_more_than(count: int) -> bool:
            return completed(client.batches.retrieve(batch.id)) > count

        wait_until(lambda: has_more_than(4), "some rows")
        kill(fleet, SERVICE)
        so_far = completed(client.batches.retrieve(batch.id))
        assert 4 < so_far < ROWS
        wait_until(lambda: has_more_than(so_far + 4), "rows after the kill of the service")
        kill(fleet, GATEWAY)
        so_far = completed(client.batches.retrieve(batch.id))
        wait_until(lambda: has_more_than(so_far + 4), "rows after the kill of the gateway")
        assert fleet.end() == 0
        wait_until(lambda: not fleet.alive(), "no process is left")

        again = serve(**sections, **one_gpu, **synthetic)
        again.wait_for_words("serving on")
        batch = client.batches.retrieve(batch.id)
        assert batch.status == "in_progress"
        wait_until(
            lambda: client.batches.retrieve(batch.id).status == "completed",
            "the end of the job",
            START_S,
        )
        ended = client.batches.retrieve(batch.id)
        assert (completed(ended), ended.error_file_id) == (ROWS, None)
        assert ended.output_file_id is not None
        output = client.files.content(ended.output_file_id).text
    found = [json.loads(line) for line in output.splitlines()]
    assert sorted(each["custom_id"] for each in found) == sorted(f"id-{n}" for n in range(ROWS))
    assert {each["response"]["body"]["usage"]["completion_tokens"] for each in found} == {10}
    assert again.end() == 0
