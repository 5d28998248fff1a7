from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.dsx import NOW_S

from steppe.grid.dsx.envelope import MessageError, time_of
from steppe.grid.dsx.load_target import LoadTarget, load_target_content, parse_load_targets

FULL = LoadTarget(50_000.0, NOW_S, NOW_S + 3600, ("main-a", "main-b"), best_effort=True)


@pytest.mark.parametrize("target", [FULL, LoadTarget(None), LoadTarget(0.0, feeds=("x",))])
def test_what_is_written_is_read(target: LoadTarget) -> None:
    assert parse_load_targets(load_target_content(target)) == (target,)


@pytest.mark.parametrize(("unit", "watts"), [("watt", 2.0), ("kilowatt", 2e3), ("megawatt", 2e6)])
def test_units_become_watts(unit: str, watts: float) -> None:
    item = {"interval": {}, "load_constraint": {"value": 2, "unit": unit}}
    assert parse_load_targets({"targets": [item]}) == (LoadTarget(watts),)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"interval": None}, r"targets\[1\].interval: asked for an object"),
        ({"interval": {"start_time": 5}}, r"targets\[1\].interval.start_time: asked for a time"),
        ({"load_constraint": {"value": -1, "unit": "watt"}}, "asked for 0 to 1e"),
        ({"load_constraint": {"value": True, "unit": "watt"}}, "asked for a number, found True"),
        ({"load_constraint": {"value": 1, "unit": "kW"}}, "asked for one of watt, kilowatt"),
        ({"load_constraint": {"value": 1e9, "unit": "megawatt"}}, "asked for 0 to 1e"),
        ({"load_constraint": 5}, "asked for a value and a unit, found 5"),
        ({"feed_tags": "main-a"}, "asked for a list of names"),
        ({"strategy": {"best_effort": 1}}, "asked for true or false, found 1"),
        ({"interval": {"start_time": time_of(5), "end_time": time_of(5)}}, "an end after the star"),
    ],
)
def test_one_wrong_target_refuses_the_message(change: dict[str, Any], found: str) -> None:
    content = load_target_content(FULL, FULL)
    content["targets"][1] |= change
    with pytest.raises(MessageError, match=found):
        parse_load_targets(content)


@pytest.mark.parametrize("name", ["interval", "load_constraint"])
def test_what_a_target_must_have_is_asked_for(name: str) -> None:
    content = load_target_content(FULL)
    del content["targets"][0][name]
    with pytest.raises(MessageError, match=rf"targets\[0\]: asked for {name}, found none"):
        parse_load_targets(content)


@pytest.mark.parametrize("targets", [[], None, "x", [{}] * 257])
def test_the_number_of_targets_has_bounds(targets: object) -> None:
    with pytest.raises(MessageError, match="targets: asked for a list of 1 to 256"):
        parse_load_targets({"targets": targets})
