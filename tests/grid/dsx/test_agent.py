from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.dsx import COMMAND, FEED, ISV, NOW_S, SITE, agent_of, content_of, set_target

from steppe.errors import UsageError
from steppe.grid.dsx.agent import Accepted, AgentTerms, FlexAgent, Refused, Repeated
from steppe.grid.dsx.envelope import parse_envelope
from steppe.grid.dsx.jws import KeyRing
from steppe.grid.dsx.load_target import LoadTarget
from steppe.grid.dsx.schedule import Feed
from steppe.grid.dsx.seal import seal
from steppe.grid.dsx.topics import LOAD_TARGET, Publication, load_target_topic

OTHER = Feed("main-b", 0.0, 60_000.0, 50_000.0)


def take(agent: FlexAgent, sent: Publication, now_s: float = NOW_S) -> object:
    return agent.received(sent.topic, sent.payload, now_s)


def watts_of(agent: FlexAgent, now_s: float = NOW_S) -> list[float]:
    return [each.watts for each in agent.limits(now_s).values()]


def events_of(publications: list[Publication]) -> list[Any]:
    """Return the trigger of each status, and the status of each alert."""
    contents = [content_of(each)[1] for each in publications]
    return [each.get("status") or each["feeds"]["main-a"]["event"] for each in contents]


def test_a_target_is_taken_and_answered() -> None:
    agent = agent_of()
    sent = set_target(LoadTarget(50_000.0))
    assert isinstance(take(agent, sent), Accepted)
    assert watts_of(agent) == [5e4]
    envelope, content = content_of(agent.status({"main-a": 70_000.0}, NOW_S, "target_set"))
    assert envelope.correlation_id == COMMAND
    assert envelope.traceparent[:35] == parse_envelope(sent.payload).traceparent[:35]
    feed = content["feeds"]["main-a"]
    assert (feed["event"], feed["compliant"]) == ("target_set", False)
    assert feed["targets"][0]["correlation_id"] == COMMAND


def test_a_message_that_arrives_twice_changes_nothing() -> None:
    agent = agent_of()
    first = set_target(LoadTarget(50_000.0))
    take(agent, first)
    take(agent, set_target(LoadTarget(60_000.0)))
    before = dict(agent.schedules)
    assert isinstance(take(agent, first), Repeated)
    assert agent.schedules == before
    assert watts_of(agent) == [6e4]


def test_targets_go_to_the_feeds_that_they_name() -> None:
    agent = agent_of(FEED, OTHER)
    take(agent, set_target(LoadTarget(20_000.0, feeds=("main-b",))))
    assert watts_of(agent) == [1e5, 2e4]
    take(agent, set_target(LoadTarget(10_000.0)))
    assert watts_of(agent) == [1e4, 1e4]


def test_a_message_with_one_wrong_target_changes_nothing() -> None:
    agent = agent_of()
    answer = take(agent, set_target(LoadTarget(1.0), LoadTarget(1.0, feeds=("main-x",))))
    assert answer == Refused("feed_tags: asked for one of main-a, found 'main-x'")
    assert watts_of(agent) == [1e5]


@pytest.mark.parametrize(
    ("topic", "kind", "found"),
    [
        ("grid/v1/isv/other/loadtarget/set", LOAD_TARGET, "topic: asked for one of"),
        (load_target_topic("acme"), "grid.other.set.v1", "type: asked for grid.loadtarget"),
    ],
)
def test_a_message_on_a_wrong_topic_or_of_a_wrong_type_is_refused(
    topic: str, kind: str, found: str
) -> None:
    answer = agent_of().received(topic, seal(ISV, kind, {}, NOW_S).to_bytes(), NOW_S)
    assert isinstance(answer, Refused)
    assert answer.reason.startswith(found)


def test_a_source_that_is_not_that_of_the_topic_is_refused() -> None:
    payload = seal(SITE, LOAD_TARGET, {}, NOW_S).to_bytes()
    answer = agent_of().received(load_target_topic("acme"), payload, NOW_S)
    assert isinstance(answer, Refused)
    assert answer.reason.startswith("source: asked for //grid/v1/isv/acme on grid/v1/isv/acme/")


def test_after_the_link_comes_back_the_default_holds_until_the_target_is_repeated() -> None:
    agent = agent_of(lost_s=0.0)
    take(agent, set_target(LoadTarget(50_000.0)))
    agent.lost(NOW_S + 10)
    agent.connected(NOW_S + 20)
    assert watts_of(agent, NOW_S + 20) == [1e5]
    take(agent, set_target(LoadTarget(50_000.0), now_s=NOW_S + 21), NOW_S + 21)
    assert watts_of(agent, NOW_S + 21) == [5e4]


def test_a_short_loss_lifts_no_limit() -> None:
    agent = agent_of(lost_s=300.0)
    take(agent, set_target(LoadTarget(50_000.0)))
    agent.lost(NOW_S + 10)
    agent.connected(NOW_S + 11)
    assert watts_of(agent, NOW_S + 309.9) == [5e4]
    assert watts_of(agent, NOW_S + 310) == [1e5]


def test_a_connection_that_was_never_lost_keeps_no_target_for_ever() -> None:
    agent = agent_of(lost_s=300.0)
    agent.connected(NOW_S)
    take(agent, set_target(LoadTarget(50_000.0)))
    agent.connected(NOW_S + 11)
    assert watts_of(agent, NOW_S + 310.9) == [5e4]
    assert watts_of(agent, NOW_S + 311) == [1e5]


def test_a_target_that_comes_before_the_link_is_whole_is_a_repetition() -> None:
    agent = agent_of(lost_s=0.0)
    agent.connected(NOW_S)
    take(agent, set_target(LoadTarget(50_000.0)))
    agent.lost(NOW_S + 10)
    take(agent, set_target(LoadTarget(50_000.0), now_s=NOW_S + 20), NOW_S + 20)
    agent.connected(NOW_S + 20)
    assert watts_of(agent, NOW_S + 21) == [5e4]


def test_a_cut_is_reported_from_its_start_to_its_end() -> None:
    agent = agent_of()
    take(agent, set_target(LoadTarget(50_000.0, NOW_S + 10, NOW_S + 100)))
    found = [
        events_of(agent.step({"main-a": load_w}, NOW_S + after_s))
        for after_s, load_w in [
            (0, 9e4), (10, 9e4), (20, 7e4), (30, 5e4),
            (40, 5e4), (100, 5e4), (120, 9e4), (160, 9e4),
        ]
    ]  # fmt: skip
    assert found == [
        [], ["start_ramp_down"], [], ["end_ramp_down"], [], ["start_ramp_up"], [], ["end_ramp_up"],
    ]  # fmt: skip


def test_a_draw_above_the_target_is_a_breach_after_the_time_of_the_ramp() -> None:
    agent = agent_of()
    take(agent, set_target(LoadTarget(50_000.0)))
    found = [
        events_of(agent.step({"main-a": load_w}, NOW_S + after_s))
        for after_s, load_w in [(0, 9e4), (39, 9e4), (40, 5.5e4), (41, 9e4), (42, 5e4)]
    ]
    assert found == [
        ["start_ramp_down"], [], ["active"], ["escalated"], ["end_ramp_down", "resolved"],
    ]  # fmt: skip


def test_an_alert_is_sent_exactly_once_by_the_protocol() -> None:
    agent = agent_of()
    take(agent, set_target(LoadTarget(50_000.0)))
    agent.step({"main-a": 9e4}, NOW_S)
    (alert,) = agent.step({"main-a": 9e4}, NOW_S + 60)
    assert (alert.topic, alert.qos) == ("grid/v1/dsx-flex-agent/steppe/powerbreach", 2)


def test_an_agent_has_feeds_and_a_key_of_its_own() -> None:
    keys = KeyRing([])
    terms = AgentTerms("steppe", ("acme",))
    with pytest.raises(UsageError, match="feeds: asked for one or more"):
        FlexAgent(terms, [FEED, FEED], keys, SITE, NOW_S)
    with pytest.raises(UsageError, match="signer: asked for a key of //grid/v1/dsx-flex-agent/"):
        FlexAgent(terms, [FEED], keys, ISV, NOW_S)
