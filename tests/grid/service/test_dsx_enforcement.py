"""What the infrastructure did about a breach, as the DSX link shows it."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.dsx import FEED, ISV, SITE, content_of, set_target, signer_of
from tests.fixtures.grid_fleet import GridFleet, Times

from steppe.config import GridSection
from steppe.grid.dsx.envelope import time_of
from steppe.grid.dsx.load_target import LoadTarget
from steppe.grid.dsx.seal import seal
from steppe.grid.dsx.topics import ENFORCEMENT, enforcement_topic
from steppe.grid.links.mqtt import Connected, Message
from steppe.grid.service.dsx_part import DsxPart
from steppe.grid.service.dsx_settings import dsx_settings
from steppe.grid.service.links import links_of
from steppe.grid.service.refusals import Refusals

INFRA = signer_of("infra", "racks")


def section_of(folder: Path) -> GridSection:
    for name, pem in (
        ("isv", ISV.public_key().pem),
        ("infra", INFRA.public_key().pem),
        ("site", SITE.pem),
    ):
        (folder / f"{name}.pem").write_text(pem)
    dsx = {
        "agent": "steppe",
        "broker": {"host": "127.0.0.1", "port": 1883},
        "kid": SITE.kid,
        "private_key_file": "site.pem",
        "isvs": [{"id": "acme", "kid": ISV.kid, "public_key_file": "isv.pem"}],
        "infra": [{"id": "racks", "kid": INFRA.kid, "public_key_file": "infra.pem"}],
        "feeds": [{"tag": FEED.tag, "maximum_w": 1.2e5, "default_w": 1e5}],
    }
    return GridSection.model_validate({"dsx": dsx}, strict=False).resolved(folder)


async def test_what_was_done_about_a_breach_is_shown_and_lifts_nothing(tmp_path: Path) -> None:
    section = section_of(tmp_path)
    assert section.dsx is not None
    now_s = Times()
    fleet, refusals = GridFleet(tmp_path, links_of(section), now_s), Refusals(now_s)
    part = DsxPart(dsx_settings(section.dsx), fleet, refusals, now_s)
    now_s.now_s += 1
    part.take(Connected())
    target = set_target(LoadTarget(5e4), now_s=now_s())
    part.take(Message(target.topic, target.payload))
    await part.see(await fleet.view(0))
    part._agent.step({FEED.tag: 9e4}, now_s())
    (alert,) = part._agent.step({FEED.tag: 9e4}, now_s() + 41)
    breach_id = content_of(alert)[1]["breach"]["breach_id"]
    now_s.now_s += 42
    content = {
        "breach_id": breach_id,
        "feed_tag": FEED.tag,
        "action": "applied",
        "code": "error",
        "diag_msg": "BMC unreachable",
        "results": [],
        "timestamp": time_of(now_s()),
    }
    message = seal(INFRA, ENFORCEMENT, content, now_s()).to_bytes()
    part.take(Message(enforcement_topic("racks"), message))
    await part.see(await fleet.view(0))
    assert part.shown["enforced"].endswith("applied, error (no resources): BMC unreachable")
    assert not refusals.newest
    found = fleet.limits.in_force()
    assert found is not None
    assert found.watts == 5e4
