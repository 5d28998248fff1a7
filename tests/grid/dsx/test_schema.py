"""Our messages against the published AsyncAPI document of DSX Flex 1.7.0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from tests.fixtures.dsx import ISV, NOW_S, agent_of, content_of, set_target

from steppe.grid.dsx.load_target import LoadTarget
from steppe.grid.dsx.topics import Publication

DOCUMENT = Path(__file__).parents[4] / "shared/data/interfaces/dsx-flex.asyncapi.yaml"
jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
pytestmark = pytest.mark.skipif(not DOCUMENT.is_file(), reason=f"{DOCUMENT.name} is absent")


@pytest.fixture(scope="module")
def components() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(DOCUMENT.read_text(), yaml.CSafeLoader)["components"]
    return found


def check(components: dict[str, Any], name: str, found: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    jsonschema_rs.validate(schema, found, validate_formats=True)


def check_message(
    components: dict[str, Any], name: str, sent: Publication, content: dict[str, Any]
) -> None:
    check(components, f"{name}Event", orjson.loads(sent.payload))
    check(components, f"{name}Data", content)


def test_a_load_target_is_as_published(components: dict[str, Any]) -> None:
    targets = LoadTarget(5e4, NOW_S, NOW_S + 60, ("main-a",)), LoadTarget(None)
    sent = set_target(*targets)
    content = content_of(sent, ISV)[1]
    check(components, "SetLoadTargetData", content)
    check(components, "LoadTargetSetEvent", orjson.loads(sent.payload))


def test_status_and_alerts_are_as_published(components: dict[str, Any]) -> None:
    agent = agent_of()
    sent = set_target(LoadTarget(5e4), LoadTarget(6e4, NOW_S + 500, NOW_S + 900))
    first = agent.status({"main-a": 9e4}, NOW_S, "periodic")
    agent.received(sent.topic, sent.payload, NOW_S)
    due = [first, agent.status({"main-a": 9e4}, NOW_S, "target_set")]
    for after_s, load_w in [(0, 9e4), (40, 5.5e4), (41, 9e4), (42, 5e4), (1000, 5e4)]:
        due += agent.step({"main-a": load_w}, NOW_S + after_s)
    names = []
    for each in due:
        name = "PowerStateStatus" if each.qos == 1 else "PowerBreachAlert"
        check_message(components, name, each, content_of(each)[1])
        names.append(name)
    assert names.count("PowerBreachAlert") == 3
    assert names.count("PowerStateStatus") >= 4
