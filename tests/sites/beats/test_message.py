from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.beating_sites import run_of, view_of

from steppe.sites.beats.fields import SiteMessageError
from steppe.sites.beats.message import (
    BODY_BYTES,
    Origin,
    read_beat,
    write_beat,
    write_snapshot,
)
from steppe.sites.view import Demand

BODY = write_beat(write_snapshot(view_of("hohhot"), run_of("hohhot"), 1), "shanghai")
VALUES: dict[str, Any] = json.loads(BODY)


def refusal(body: bytes) -> str:
    """Return why a body is refused; an empty text if it is read."""
    try:
        read_beat(body, 0.0)
    except SiteMessageError as error:
        return str(error)
    return ""


def changed(**changes: Any) -> bytes:
    return json.dumps(VALUES | changes).encode()


def test_a_beat_is_read_as_it_was_written() -> None:
    view = view_of("hohhot", seq=7)
    snapshot = write_snapshot(view, run_of("hohhot"), at_us=5, ttl_ms=2500)
    beat = read_beat(
        write_beat(snapshot, "shanghai", Origin("0" * 16, 41), 0.0213), view.received_s
    )
    assert beat.view == view
    assert (beat.to, beat.origin) == ("shanghai", Origin(run_of("hohhot"), 7))
    assert (beat.heard, beat.rtt_s) == (Origin("0" * 16, 41), 0.0213)
    assert (beat.at_us, beat.ttl_s) == (5, 2.5)


def test_a_beat_with_one_pool_has_about_two_kilobytes() -> None:
    assert len(BODY) < 2300


def test_unknown_fields_are_ignored() -> None:
    later = changed(battery_kind="LFP", pools={"chat": VALUES["pools"]["chat"] | {"kv": 0.5}})
    assert read_beat(later, 0.0) == read_beat(BODY, 0.0)


def test_a_round_trip_that_took_too_long_is_left_out() -> None:
    snapshot = write_snapshot(view_of("hohhot"), run_of("hohhot"), 1)
    assert read_beat(write_beat(snapshot, "shanghai", rtt_s=11.0), 0.0).rtt_s is None


def test_prices_may_be_below_zero() -> None:
    assert read_beat(changed(price_micro=[-20]), 0.0).view.price_micro == (-20,)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"version": 2}, "beat.version: asked for 1, found 2"),
        ({"seq": True}, "beat.seq: asked for an integer of 0 to 9007199254740991, found True"),
        ({"seq": 1.0}, "beat.seq"),
        ({"seq": -1}, "beat.seq"),
        ({"run": "0123"}, "beat.run"),
        ({"site": "Hohhot"}, "beat.site"),
        ({"site": "a" * 64}, "beat.site"),
        ({"site": None}, "beat.site"),
        ({"to": "shanghai.example"}, "beat.to"),
        ({"at_us": "today"}, "beat.at_us"),
        ({"ttl_ms": 0}, "beat.ttl_ms"),
        ({"ttl_ms": 60_001}, "beat.ttl_ms"),
        ({"budget_w": "1000"}, "beat.budget_w: asked for a number of 0 to 1e+12, found '1000'"),
        ({"budget_w": -1}, "beat.budget_w"),
        ({"draw_w": 1e300}, "beat.draw_w"),
        ({"draw_w": True}, "beat.draw_w"),
        ({"surplus_w": None}, "beat.surplus_w: asked for a number of 0 to 1e+12, found nothing"),
        ({"surplus_w": -5}, "beat.surplus_w"),
        ({"forecast": [[0, 1, 2]]}, "beat.forecast[0]: asked for 4 numbers"),
        ({"forecast": [[0, 3, 2, 4]]}, "beat.forecast[0]: asked for rising quantiles"),
        ({"forecast": [[0, 1, 2, 3]] * 97}, "beat.forecast: asked for a list of at most 96"),
        ({"price_micro": [1.5]}, "beat.price_micro[0]: asked for an integer"),
        ({"price_micro": "cheap"}, "beat.price_micro: asked for a list"),
        ({"gco2": [-1]}, "beat.gco2[0]"),
        ({"currency": "yuan"}, "beat.currency"),
        ({"region": "a\nb"}, "beat.region"),
        ({"data_classes": [""]}, "beat.data_classes.0"),
        ({"data_classes": ["x"] * 33}, "beat.data_classes"),
        ({"pools": []}, "beat.pools: asked for at most 64 pools, found []"),
        ({"pools": {"": VALUES["pools"]["chat"]}}, "beat.pools: name."),
        ({"pools": {"chat": 1}}, "beat.pools.chat: asked for an object, found 1"),
        ({"pools": {"chat": VALUES["pools"]["chat"] | {"points": [[1, 2]] * 9}}}, "chat.points"),
        ({"pools": {"chat": VALUES["pools"]["chat"] | {"points": [[1]]}}}, "chat.points[0]"),
        ({"pools": {"chat": VALUES["pools"]["chat"] | {"waiting": 0.5}}}, "chat.waiting"),
        ({"heard": 3}, "beat.heard: asked for an object"),
        ({"heard": {"run": "0" * 16, "seq": "1"}}, "beat.heard.seq"),
        ({"rtt_us": -1}, "beat.rtt_us"),
    ],
)
def test_a_field_that_is_wrong_is_named(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(SiteMessageError) as error:
        read_beat(changed(**changes), 0.0)
    assert found in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["version", "site", "run", "seq", "to", "budget_w", "currency"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    values = {key: value for key, value in VALUES.items() if key != name}
    with pytest.raises(SiteMessageError, match=f"beat.{name}: asked for"):
        read_beat(json.dumps(values).encode(), 0.0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"version":1e400}',
        BODY.replace(b"700.0", b"NaN"),
        BODY.replace(b"700.0", b"1e400"),
        BODY.replace(b"700.0", b"9" * 5000),
        b"[" * 60_000,
        b'{"a":' * 10_000,
        BODY[:-1],
        BODY + b" " * BODY_BYTES,
    ],
)
def test_what_is_no_beat_is_refused(body: bytes) -> None:
    with pytest.raises(SiteMessageError):
        read_beat(body, 0.0)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(sorted(VALUES)), JSON_VALUES, min_size=1))
def test_any_value_in_any_field_is_read_or_refused_in_one_line(changes: dict[str, Any]) -> None:
    assert "\n" not in refusal(changed(**changes))


@given(st.binary(max_size=200), st.integers(0, len(BODY)))
def test_any_bytes_are_read_or_refused_in_one_line(noise: bytes, place: int) -> None:
    assert "\n" not in refusal(BODY[:place] + noise + BODY[place:])


def test_a_beat_shows_what_the_customers_of_its_site_ask_for() -> None:
    asked = Demand("qwen3-8b", "deferrable", frozenset({"cn", "eu"}), "general", 120.5)
    view = replace(view_of("hohhot"), demand=(asked,))
    body = write_beat(write_snapshot(view, run_of("hohhot"), 1), "shanghai")
    assert read_beat(body, 0.0).view.demand == (asked,)
    assert read_beat(BODY, 0.0).view.demand == ()


def test_a_beat_grants_deferrable_work_to_its_receiver() -> None:
    snapshot = write_snapshot(view_of("hohhot"), run_of("hohhot"), 1)
    body = write_beat(snapshot, "shanghai", grants={"qwen3-8b": 90.0})
    assert read_beat(body, 0.0).grants == {"qwen3-8b": 90.0}
    assert read_beat(BODY, 0.0).grants == {}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"demand": [["m", "standard", ["cn"], "general"]]}, "beat.demand[0]: asked for 5 values"),
        ({"demand": [["m", "soon", ["cn"], "general", 1]]}, "beat.demand[0].priority"),
        ({"demand": [["m", "standard", "cn", "general", 1]]}, "beat.demand[0].regions"),
        ({"demand": [["m", "standard", ["cn"], "general", -1]]}, "beat.demand[0].output_tps"),
        ({"grants": []}, "beat.grants: asked for an object"),
        ({"grants": {"m": -1}}, "beat.grants.m"),
    ],
)
def test_wrong_demand_and_grants_are_named(changes: dict[str, Any], named: str) -> None:
    assert named in refusal(changed(**changes))
