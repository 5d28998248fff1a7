"""A job at a gateway whose process gets a signal."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.fixtures.batch_gateway import FakeGateway, completion, in_a_thread

WITHIN_S = 50.0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_job_so_that_it_can_go_on(tmp_path: Path, number: signal.Signals) -> None:
    lines = [{"messages": [{"role": "user", "content": str(each)}]} for each in range(40)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    may_end = asyncio.Event()

    async def hold(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(gateway.seen) > 10:
            await may_end.wait()
        return web.json_response(completion())

    with in_a_thread(FakeGateway(every=hold)) as gateway:
        command = ["run", "in.jsonl", "-o", "out.jsonl", "--url", gateway.url, "--outstanding", "2"]
        with subprocess.Popen(
            [sys.executable, "-m", "steppe", "batch", *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            give_up_s = time.monotonic() + WITHIN_S
            while len(gateway.seen) < 12:
                assert time.monotonic() < give_up_s
                time.sleep(0.01)
            process.send_signal(number)
            said, _ = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 1
    assert "rows left; `steppe batch resume out.jsonl.job` goes on" in said
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) >= 10
