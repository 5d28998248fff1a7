"""Runners declare what may wait, and learn how many rows may be open."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.gateway.site import Clock, Site, SiteFactory

from steppe.control.batch_work import When
from steppe.gateway.work_api import BODY_BYTES

DECLARED: dict[str, Any] = {"model": "m", "rows": 90, "prompt_tokens": 9000, "output_tokens": 4500}


async def declare(site: Site, id_: str = "j", **changes: Any) -> tuple[int, dict[str, Any]]:
    url = f"{site.url}/steppe/v1/work/{id_}"
    async with site.client.put(url, json=DECLARED | changes) as answer:
        return answer.status, await answer.json()


def set_pace(site: Site, key: str = "default/j", **pace: Any) -> None:
    usual = {"tokens_per_s": 50.0, "share": 1.0, "reason": "surplus"}
    usual |= {"finish_in_s": None, "sure": None}
    site.gateway.set_fleet_state(json.dumps({"batch": {key: usual | pace}}).encode())


async def test_declared_work_reaches_the_controller_until_it_is_withdrawn(site: Site) -> None:
    in_an_hour = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    status, _ = await declare(site, deadline=in_an_hour, when="deadline")
    (work,) = site.gateway.status().work
    assert (status, work.key, work.rows, work.output_tokens) == (200, "default/j", 90, 4500)
    assert work.when is When.DEADLINE
    assert work.due_in_s == pytest.approx(3600, abs=30)
    async with site.client.delete(f"{site.url}/steppe/v1/work/j") as answer:
        assert (answer.status, (await answer.json())["deleted"]) == (200, True)
    assert site.gateway.status().work == ()
    async with site.client.delete(f"{site.url}/steppe/v1/work/j") as answer:
        assert answer.status == 404


async def test_work_is_forgotten_after_its_time_to_live(open_site: SiteFactory) -> None:
    clock = Clock()
    site = await open_site(now_s=clock)
    await declare(site, ttl_s=5)
    clock.now_s += 4
    assert len(site.gateway.status().work) == 1
    clock.now_s += 2
    assert site.gateway.status().work == ()


async def test_the_answer_is_the_pace_of_the_controller(site: Site) -> None:
    await site.awake_replica()
    set_pace(site, finish_in_s=60.0, sure=0.9)
    _, found = await declare(site)
    assert (found["object"], found["id"], found["reason"]) == ("steppe.work", "j", "surplus")
    assert (found["outstanding"], found["tokens_per_s"], found["sure"]) == (10, 50.0, 0.9)
    ends = datetime.fromisoformat(found["expected_finish"]) - datetime.now(UTC)
    assert 0 < ends.total_seconds() < 61


async def test_a_job_that_waits_may_have_no_row_open(site: Site) -> None:
    await site.awake_replica()
    set_pace(site, tokens_per_s=0.0, share=0.0, reason="waits_for_surplus")
    _, found = await declare(site)
    assert (found["outstanding"], found["tokens_per_s"]) == (0, 0.0)
    assert found["reason"] == "waits_for_surplus"


async def test_before_its_first_plan_only_a_job_for_now_runs(site: Site) -> None:
    await site.awake_replica()
    site.gateway.set_fleet_state(b'{"batch":{}}')
    assert (await declare(site))[1]["outstanding"] == 0
    assert (await declare(site, when="now"))[1]["outstanding"] == 10


async def test_without_a_plan_of_batch_work_rows_fill_the_headroom(site: Site) -> None:
    await site.awake_replica()
    _, found = await declare(site)
    assert (found["outstanding"], found["reason"]) == (10, "headroom")


async def test_firm_requests_keep_their_places(site: Site) -> None:
    replica = await site.awake_replica(answers=False)
    set_pace(site)
    firm = asyncio.create_task(site.post())
    rows = asyncio.create_task(site.post(x_steppe_priority="deferrable"))
    await site.until(lambda: len(replica.received) == 2)
    assert (await declare(site))[1]["outstanding"] == 9
    replica.may_answer.set()
    await asyncio.gather(firm, rows)
    assert (await declare(site))[1]["outstanding"] == 10


async def test_no_row_is_sent_while_the_controller_is_silent(open_site: SiteFactory) -> None:
    clock = Clock()
    site = await open_site(now_s=clock)
    await site.awake_replica()
    set_pace(site)
    clock.now_s += 60
    _, found = await declare(site)
    assert (found["outstanding"], found["reason"]) == (0, "no_power")


@pytest.mark.parametrize(
    ("changes", "param", "found"),
    [
        ({"rows": -1}, "rows", "found -1"),
        ({"rows": "many"}, "rows", "found 'many'"),
        ({"output_tokens": None}, "output_tokens", "found None"),
        ({"deadline": "tomorrow"}, "deadline", "found 'tomorrow'"),
        ({"when": "later"}, "when", "found 'later'"),
        ({"ttl_s": 0}, "ttl_s", "asked for 1 to 600 s, found 0"),
        ({"model": 3}, "model", "found 3"),
    ],
)
async def test_a_declaration_that_is_not_valid_names_its_field(
    site: Site, changes: dict[str, Any], param: str, found: str
) -> None:
    status, body = await declare(site, **changes)
    assert (status, body["error"]["param"]) == (400, param)
    assert found in body["error"]["message"]
    assert site.gateway.status().work == ()


async def test_a_long_body_is_refused_before_all_of_it_is_read(site: Site) -> None:
    status, found = await declare(site, note="a" * BODY_BYTES)
    assert status == 400
    assert found["error"]["message"] == f"body: asked for at most {BODY_BYTES} bytes, found more"
    assert site.gateway.status().work == ()


async def test_a_body_that_is_no_object_is_refused(site: Site) -> None:
    for body in (b"{", b"[]"):
        async with site.client.put(f"{site.url}/steppe/v1/work/j", data=body) as answer:
            assert answer.status == 400
            assert "asked for a JSON object" in (await answer.json())["error"]["message"]
