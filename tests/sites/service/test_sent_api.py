from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from steppe.services.application import build_application
from steppe.sites.service.note_book import US_PER_DAY, SentBook
from steppe.sites.service.sent_api import MOST_NOTES, PATH, SentApi, write_sent
from steppe.sites.settlement.sent import Sent

NOW_US = 20_000 * US_PER_DAY
SENT = Sent("e1.1", "shanghai", "acme", "m", 10, 20, NOW_US, NOW_US, "served", 200, 10**9)


def answers(folder: Path, *bodies: bytes) -> list[tuple[int, Any]]:
    """Return the status and JSON of the answer to each body."""

    async def ask() -> list[tuple[int, Any]]:
        api = SentApi(SentBook(folder, NOW_US))
        application = build_application([api], lambda: b"", "")
        found = []
        async with TestClient(TestServer(application)) as client:
            for body in bodies:
                async with client.post(PATH, data=body) as answer:
                    found.append((answer.status, await answer.json()))
        return found

    return asyncio.run(ask())


def test_notes_are_on_disk_when_the_answer_comes(tmp_path: Path) -> None:
    body = write_sent([SENT])
    (first, again) = answers(tmp_path, body, body)
    assert first == (200, {"object": "steppe.sites.sent", "new": 1})
    assert again[1]["new"] == 0
    assert SentBook(tmp_path, NOW_US).between(NOW_US, NOW_US + 1) == [SENT]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "asked for JSON"),
        (b"[]", "sent: asked for a list"),
        (json.dumps({"sent": [{}] * (MOST_NOTES + 1)}).encode(), "found 1001"),
        (json.dumps({"sent": [SENT.values | {"end": "well"}]}).encode(), "sent.end"),
    ],
)
def test_a_body_that_is_no_list_of_notes_is_a_400(
    tmp_path: Path, body: bytes, message: str
) -> None:
    ((status, found),) = answers(tmp_path, body)
    assert status == 400
    assert message in found["error"]["message"]
    assert not list(tmp_path.glob("*.jsonl"))
