"""Limits and events of an operator, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from tests.grid.service.conftest import SiteFactory

from steppe.config import GridSection

BUDGET, EVENTS = "/steppe/v1/budget", "/steppe/v1/grid/events"


async def test_a_limit_is_in_force_at_once_and_until_it_is_lifted(open_site: SiteFactory) -> None:
    site = await open_site()
    assert (await site.ask("GET", BUDGET))[1]["in_force"] is None
    status, found = await site.ask("PUT", BUDGET, {"limit_w": 700})
    assert status == 200
    assert found["in_force"] == {"name": "http/limit", "limit_w": 700}
    assert (found["budget_w"], found["budget_source"]) == (700, "http/limit")
    site.now_s.now_s += 1
    assert (await site.ask("DELETE", BUDGET))[1]["in_force"] is None


async def test_a_schedule_follows_its_times_and_ends(open_site: SiteFactory) -> None:
    site = await open_site(GridSection.model_validate({"http": {"default_w": 900}}))
    now_s = site.now_s()
    steps = [{"from": now_s + 60, "limit_w": 300}, {"from": now_s + 120, "limit_w": 500}]
    asked = {"schedule": steps, "expires": now_s + 180, "name": "evening"}
    in_force = (await site.ask("PUT", BUDGET, asked))[1]["in_force"]
    assert in_force == {"name": "http/evening/default", "limit_w": 900}
    for after_s, name, watts in ((60, "evening", 300), (120, "evening", 500)):
        site.now_s.now_s = now_s + after_s
        in_force = (await site.ask("GET", BUDGET))[1]["in_force"]
        assert in_force == {"name": f"http/{name}", "limit_w": watts}
    site.now_s.now_s = now_s + 180
    assert (await site.ask("GET", BUDGET))[1]["in_force"]["limit_w"] == 900


async def test_times_are_numbers_or_text(open_site: SiteFactory) -> None:
    site = await open_site()
    site.now_s.now_s = 1_789_900_000.0
    asked = {"limit_w": 700, "expires": "2026-09-21T20:00:00+08:00"}
    found = (await site.ask("PUT", BUDGET, asked))[1]
    assert found["limits"][0]["expires"] == 1_789_992_000.0


async def test_an_older_limit_is_refused_and_the_newer_one_holds(open_site: SiteFactory) -> None:
    site = await open_site()
    now_s = site.now_s()
    await site.ask("PUT", BUDGET, {"limit_w": 700, "issued": now_s})
    status, found = await site.ask("PUT", BUDGET, {"limit_w": 1900, "issued": now_s - 10})
    assert (status, found["error"]["code"]) == (409, "refused")
    assert "asked for a version newer than that of" in found["error"]["message"]
    assert (await site.ask("GET", BUDGET))[1]["in_force"]["limit_w"] == 700
    refused = (await site.grid())["refused"]
    assert [each["link"] for each in refused] == ["http"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "asked for limit_w or schedule, found neither"),
        ({"limit_w": -1}, "limit_w: asked for a number of at least 0, found -1"),
        ({"limit_w": 1, "schedule": [{"from": 1, "limit_w": 1}]}, "found both"),
        ({"schedule": [{"limit_w": 1}]}, "schedule.0: asked for from and limit_w"),
        ({"limit_w": 1, "expires": "2026-01-01T00:00:00"}, "a time with an offset"),
        ({"limit_w": 1, "expires": "soon"}, "asked for a time in ISO 8601"),
        ({"limit": 1}, "limit: unknown key, did you mean limit_w?"),
        ([], "body: asked for an object"),
    ],
)
async def test_a_bad_limit_is_refused_with_one_line(
    open_site: SiteFactory, body: Any, message: str
) -> None:
    site = await open_site()
    status, found = await site.ask("PUT", BUDGET, body)
    assert status == 400
    assert message in found["error"]["message"]
    assert site.fleet.taken == []


async def test_without_the_controller_nothing_is_accepted(open_site: SiteFactory) -> None:
    site = await open_site()
    site.fleet.away = True
    status, found = await site.ask("PUT", BUDGET, {"limit_w": 1})
    assert (status, found["error"]["code"]) == (503, "controller_unavailable")
    await site.look()
    assert (await site.grid())["away"] == "the controller does not answer"


async def test_an_event_has_a_shape_and_can_be_cancelled(open_site: SiteFactory) -> None:
    site = await open_site()
    now_s = site.now_s()
    asked = {"notice_s": 40, "ramp_down_s": 10, "hold_s": 180, "ramp_up_s": 20, "share": 0.7}
    status, found = await site.ask("PUT", EVENTS + "/e1", asked)
    assert status == 200
    assert (found["starts"], found["hold_until"]) == (now_s + 40, now_s + 230)
    assert (found["baseline_w"], found["target_w"]) == (1000, None)
    site.now_s.now_s = now_s + 60
    found = (await site.ask("GET", BUDGET))[1]
    assert found["in_force"] == {"name": "http/e1", "limit_w": 700}
    assert (await site.ask("DELETE", EVENTS + "/e1"))[0] == 200
    site.now_s.now_s = now_s + 90
    assert (await site.ask("GET", BUDGET))[1]["in_force"] is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"hold_s": 5}, "asked for share or limit_w, found neither"),
        ({"hold_s": 5, "share": 1.5}, "share: asked for a number of at most 1, found 1.5"),
        ({"hold_s": 5, "share": 0.5, "starts": 1, "notice_s": 5}, "found both"),
    ],
)
async def test_a_bad_event_is_refused_with_one_line(
    open_site: SiteFactory, body: Any, message: str
) -> None:
    site = await open_site()
    status, found = await site.ask("PUT", EVENTS + "/e1", body)
    assert (status, message in found["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"hold_s": 5, "share": 0.5, "starts": 1_000.0}, "asked for an end in the future"),
        ({"hold_s": 5, "share": 0.5, "notice_s": 8e5}, "s ahead"),
        ({"hold_s": 5e5, "share": 0.5}, "asked for a duration above 0 and up to 172800 s"),
    ],
)
async def test_events_of_other_times_are_refused(
    open_site: SiteFactory, body: Any, message: str
) -> None:
    site = await open_site()
    status, found = await site.ask("PUT", EVENTS + "/e1", body)
    assert (status, found["error"]["code"]) == (409, "refused"), found
    assert message in found["error"]["message"]
    assert (await site.ask("GET", BUDGET))[1]["in_force"] is None


async def test_an_event_that_is_not_there_is_named(open_site: SiteFactory) -> None:
    site = await open_site()
    for method in ("GET", "DELETE"):
        status, found = await site.ask(method, EVENTS + "/e9")
        assert (status, found["error"]["code"]) == (404, "event_not_found")
