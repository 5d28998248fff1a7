"""What is malformed, huge or absurd is refused at the doors, and changes no limit."""

from __future__ import annotations

import pytest
from tests.grid.service.conftest import Site, SiteFactory

LIMIT, EVENT = "/steppe/v1/budget", "/steppe/v1/grid/events/e2"
DEEP = "[" * 100_000

BODIES = [
    "",
    "null",
    "[]",
    '"limit"',
    DEEP,
    '{"limit_w": NaN}',
    '{"limit_w": Infinity}',
    '{"limit_w": 1e999}',
    '{"limit_w": 1e308}',
    '{"limit_w": -1}',
    '{"limit_w": true}',
    '{"limit_w": "100"}',
    '{"limit_w": null}',
    '{"limit_w": ' + "9" * 400 + "}",
    '{"limit_w": 900, "schedule": [{"from": 0, "limit_w": 900}]}',
    '{"schedule": []}',
    '{"schedule": [{"from": 1e300, "limit_w": 900}]}',
    '{"schedule": [{"from": "9999-12-31T23:59:59-14:00", "limit_w": 900}]}',
    '{"schedule": [{"from": "0001-01-01T00:00:00+14:00", "limit_w": 900}]}',
    '{"schedule": [{"from": "2030-01-01T00:00:00", "limit_w": 900}]}',
    '{"limit_w": 900, "expires": 1}',
    '{"limit_w": 900, "expires": -1}',
    '{"limit_w": 900, "issued": 1}',
    '{"limit_w": 900, "issued": 1e300}',
    '{"limit_w": 900, "issued": "0001-01-01T00:00:00+14:00"}',
    '{"limit_w": 900, "name": ""}',
    '{"limit_w": 900, "name": "a\\nb"}',
    '{"limit_w": 900, "name": "' + "n" * 129 + '"}',
    '{"limit_w": 900, "name": 7}',
    '{"limit_w": 900, "source": "openadr"}',
    '{"limit_w": 900, "default_w": 1e9}',
]
EVENTS = [
    *BODIES,
    '{"hold_s": 60}',
    '{"hold_s": 60, "share": 2}',
    '{"hold_s": 60, "share": -0.1}',
    '{"hold_s": 60, "share": 0.5, "limit_w": 500}',
    '{"hold_s": 1e300, "share": 0.5}',
    '{"hold_s": -60, "share": 0.5}',
    '{"hold_s": 0, "share": 0.5}',
    '{"hold_s": 60, "share": 0.5, "notice_s": 1e300}',
    '{"hold_s": 60, "share": 0.5, "ramp_down_s": 1e300}',
    '{"hold_s": 60, "share": 0.5, "starts": 1}',
    '{"hold_s": 60, "share": 0.5, "starts": 1e300}',
    '{"hold_s": 60, "share": 0.5, "priority": -1}',
    '{"hold_s": 60, "share": 0.5, "priority": 1e3}',
    '{"hold_s": 60, "share": 0.5, "source": "openadr"}',
]


async def put(site: Site, path: str, body: str) -> int:
    async with site.session.put(site.url + path, data=body) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize(("path", "bodies"), [(LIMIT, BODIES), (EVENT, EVENTS)])
async def test_bad_bodies_are_refused_and_change_nothing(
    open_site: SiteFactory, path: str, bodies: list[str]
) -> None:
    site = await open_site()
    assert (await site.ask("PUT", LIMIT, {"limit_w": 300.0}))[0] == 200
    event = {"limit_w": 400.0, "hold_s": 600.0}
    assert (await site.ask("PUT", "/steppe/v1/grid/events/e1", event))[0] == 200
    held = site.fleet.limits._held
    for body in bodies:
        status = await put(site, path, body)
        assert 400 <= status < 500, f"{body[:80]}: found {status}"
        after = site.fleet.limits._held
        assert (after.limits, after.events) == (held.limits, held.events), body[:80]


@pytest.mark.parametrize("id_", ["%0a", "a%0Ab", "e" * 129, "%00", "a%2F..%2Fb%07"])
async def test_bad_names_of_events_are_refused(open_site: SiteFactory, id_: str) -> None:
    site = await open_site()
    body = '{"hold_s": 60, "share": 0.5}'
    assert 400 <= await put(site, f"/steppe/v1/grid/events/{id_}", body) < 500
    assert not site.fleet.limits._held.events
