from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from tests.fixtures.dsx import FEED, ISV, NOW_S, SITE, content_of, set_target, signer_of

from steppe.grid.dsx.agent import AgentTerms, Enforced, FlexAgent, Refused, Repeated
from steppe.grid.dsx.enforcement import parse_enforcement
from steppe.grid.dsx.envelope import MessageError, time_of
from steppe.grid.dsx.jws import KeyRing, Signer
from steppe.grid.dsx.load_target import LoadTarget
from steppe.grid.dsx.seal import seal
from steppe.grid.dsx.topics import ENFORCEMENT, LOAD_TARGET, enforcement_topic

INFRA = signer_of("infra", "rack-control")
TOPIC = enforcement_topic("rack-control")
DOCUMENT = Path(__file__).parents[4] / "shared/data/interfaces/dsx-flex.asyncapi.yaml"


def enforced(breach_id: str, **fields: Any) -> dict[str, Any]:
    result = {
        "resource_id": "node-1",
        "resource_type": "node",
        "requested_action": "power_cap",
        "code": "applied",
        "applied_power": {"value": 9.0, "unit": "kilowatt"},
    }
    return {
        "breach_id": breach_id,
        "feed_tag": FEED.tag,
        "action": "applied",
        "code": "success",
        "results": [result],
        "timestamp": time_of(NOW_S + 45),
        **fields,
    }


def sent(content: dict[str, Any], signer: Signer = INFRA, kind: str = ENFORCEMENT) -> bytes:
    return seal(signer, kind, content, NOW_S + 45).to_bytes()


@pytest.fixture
def agent() -> FlexAgent:
    terms = AgentTerms("steppe", ("acme",), infras=("rack-control",))
    keys = KeyRing([ISV.public_key(), INFRA.public_key()])
    return FlexAgent(terms, [FEED], keys, SITE, NOW_S - 60)


@pytest.fixture
def breach_id(agent: FlexAgent) -> str:
    """Return the breach of a site that draws 90 kW where 50 kW are allowed."""
    target = set_target(LoadTarget(5e4))
    agent.received(target.topic, target.payload, NOW_S)
    agent.step({FEED.tag: 9e4}, NOW_S)
    (alert,) = agent.step({FEED.tag: 9e4}, NOW_S + 41)
    return str(content_of(alert)[1]["breach"]["breach_id"])


def test_what_the_infrastructure_did_is_heard_once_and_changes_no_limit(
    agent: FlexAgent, breach_id: str
) -> None:
    assert TOPIC in agent.topics
    before = agent.limits(NOW_S + 45)
    message = sent(enforced(breach_id, diag_msg="capped\nby hand"))
    found = agent.received(TOPIC, message, NOW_S + 45)
    assert isinstance(found, Enforced)
    assert found.enforcement.results[0].applied_w == 9e3
    assert found.enforcement.line == (
        f"feed main-a: breach {breach_id}: applied, success (1 applied): capped by hand"
    )
    assert isinstance(agent.received(TOPIC, message, NOW_S + 46), Repeated)
    assert agent.limits(NOW_S + 45) == before


def test_a_breach_that_is_not_of_this_site_is_refused(agent: FlexAgent, breach_id: str) -> None:
    for content in (enforced(str(uuid4())), enforced(breach_id, feed_tag="main-b")):
        found = agent.received(TOPIC, sent(content), NOW_S + 45)
        assert isinstance(found, Refused)
        assert "asked for a breach of feed" in found.reason


def test_only_the_infrastructure_may_say_so(agent: FlexAgent, breach_id: str) -> None:
    content = enforced(breach_id)
    for message in (sent(content, ISV), sent(content, kind=LOAD_TARGET)):
        assert isinstance(agent.received(TOPIC, message, NOW_S + 45), Refused)
    target = seal(INFRA, LOAD_TARGET, {"targets": []}, NOW_S + 45).to_bytes()
    assert isinstance(agent.received(agent.topics[0], target, NOW_S + 45), Refused)


@pytest.mark.parametrize(
    "fields",
    [
        {"breach_id": "b1"},
        {"feed_tag": ""},
        {"action": "undone"},
        {"code": 0},
        {"results": None},
        {"results": ["node-1"]},
        {"results": [{"resource_id": "n", "resource_type": "rack"}]},
        {"timestamp": "soon"},
        {"diag_msg": 7},
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match=next(iter(fields)).split("_")[0]):
        parse_enforcement({**enforced(str(uuid4())), **fields})


@pytest.mark.skipif(not DOCUMENT.is_file(), reason=f"{DOCUMENT.name} is absent")
def test_the_message_of_these_tests_is_as_published() -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    components = yaml.load(DOCUMENT.read_text(), yaml.CSafeLoader)["components"]
    schema = {"$ref": "#/components/schemas/PowerBreachEnforcementData", "components": components}
    jsonschema_rs.validate(schema, enforced(str(uuid4())), validate_formats=True)
