from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.site import SiteFactory

from steppe.errors import UsageError
from steppe.gateway.access_log import AccessLog, AccessLogSettings
from steppe.gateway.json_lines import REQUEST_OF_LOGS, JsonFormatter


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Undo what a JSON log changes for the other loggers."""
    logger = logging.getLogger("steppe.gateway")
    handlers, propagates = list(logger.handlers), logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagates


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_a_line_says_what_a_request_was_and_became(
    open_site: SiteFactory, tmp_path: Path
) -> None:
    file = tmp_path / "access.jsonl"
    site = await open_site(access_log=AccessLogSettings("json", file))
    await site.awake_replica()
    await site.post(X_Request_Id="mine", X_Steppe_Tenant="lab", Authorization="Bearer secret")
    await site.get("/v1/models/other?key=secret")
    generated, listed = lines(file)
    times = {key: generated.pop(key) for key in ("time", "duration_s", "wait_s")}
    assert generated == {
        "remote": "127.0.0.1",
        "tenant": "lab",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "request_id": "mine",
        "model": "m",
        "replica": "r0",
        "finish": "length",
        "prompt_tokens": 11,
        "output_tokens": 2,
    }
    assert times["time"].endswith("Z")
    assert 0 <= times["wait_s"] < times["duration_s"]
    assert (listed["method"], listed["path"], listed["status"]) == ("GET", "/v1/models/other", 404)
    assert "secret" not in file.read_text()


async def test_a_client_that_leaves_is_in_the_log(open_site: SiteFactory, tmp_path: Path) -> None:
    file = tmp_path / "access.jsonl"
    site = await open_site(access_log=AccessLogSettings("json", file))
    asked = asyncio.create_task(site.post())
    await site.until(lambda: site.gateway.status().waiting == 1)
    asked.cancel()
    await site.until(lambda: file.read_text() != "")
    (line,) = lines(file)
    assert (line["status"], line["finish"]) == (499, "cancelled")


async def test_a_log_for_people_has_one_line_a_request_whatever_its_path(
    open_site: SiteFactory, tmp_path: Path
) -> None:
    file = tmp_path / "access.log"
    site = await open_site(access_log=AccessLogSettings("text", file))
    await site.awake_replica()
    await site.post()
    await site.get("/a%0Ab%22c")
    first, second = file.read_text().splitlines()
    assert ' default "POST /v1/chat/completions" 200 0.' in first
    assert first.endswith("prompt_tokens=11 output_tokens=2")
    assert '"GET /a?b?c" 404' in second


async def test_a_file_that_was_moved_away_is_begun_anew(
    open_site: SiteFactory, tmp_path: Path
) -> None:
    file = tmp_path / "access.jsonl"
    site = await open_site(access_log=AccessLogSettings("json", file))
    await site.get("/health/live")
    file.rename(tmp_path / "access.jsonl.1")
    await site.get("/health/live")
    assert len(lines(file)) == 1


def test_a_file_that_cannot_be_written_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        AccessLog(AccessLogSettings("text", tmp_path / "none" / "access.log"))


def test_other_lines_are_json_with_the_id_of_their_request() -> None:
    record = logging.LogRecord("steppe.x", logging.WARNING, "", 0, "%s is %d", ("a", 1), None)
    REQUEST_OF_LOGS.set("mine")
    line = json.loads(JsonFormatter().format(record))
    REQUEST_OF_LOGS.set("")
    assert (line["level"], line["logger"], line["message"]) == ("warning", "steppe.x", "a is 1")
    assert line["request_id"] == "mine"
    assert "request_id" not in json.loads(JsonFormatter().format(record))
