"""What the page shows of a status."""

from __future__ import annotations

from typing import Any

import pytest
from tests.page.ticks import status

from steppe.page.history import Totals
from steppe.page.view import live_view, tenant_rows

NOW_S = 1_800_000_060.0


def view(found: dict[str, Any], **values: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"jobs": {}, "sites": None, "now_s": NOW_S, **values}
    return live_view(found, given.pop("totals", Totals()), **given)


def text(cell: Any) -> str:
    found: str = cell if isinstance(cell, str) else cell["text"]
    return found


def test_a_figure_has_the_number_of_the_status_and_its_text() -> None:
    figures = view(status(draw_w=414.253))["figures"]
    assert figures["draw_w"] == {
        "value": 414.253,
        "text": "414.3 W",
        "note": "83 % of the budget",
    }
    assert figures["budget_w"] == {"value": 500.0, "text": "500 W", "note": "set by wind"}
    assert figures["battery"] == {"value": 0.5, "text": "50 %", "note": "takes 20 W"}
    assert figures["awake"]["text"] == "2 of 3"
    assert figures["batch_limit"] == {"value": 32, "text": "32", "note": "16 a replica"}
    assert figures["clock_mhz"]["note"] == "900 to 1,200 MHz"
    assert figures["joules_per_token"]["value"] == pytest.approx(414.25 / 800)


def test_what_the_joules_are_is_always_said() -> None:
    found = view(status())
    assert (found["source"], found["boundary"]) == ("emulated", "gpu")


def test_rows_have_a_cell_for_each_column() -> None:
    from steppe.page.layout import LIVE_TABLES

    found = view(status(), jobs={"acme/job": 12})["tables"]
    widths = {table.key: len(table.columns) for table in LIVE_TABLES}
    for key, rows in found.items():
        assert all(len(row) == widths[key] for row in rows), key
    assert [text(cell) for cell in found["batch"][0]] == [
        "acme/job",
        "waits for surplus",
        "12",
        "40",
        "10 min",
        "90 %",
    ]
    assert [text(row[0]) for row in found["replicas"]] == ["replica-0", "replica-1", "replica-2"]
    assert [row[7] for row in found["replicas"]] == ["", "thermal", "offloaded"]
    assert view(status())["forecast"] == {"in_s": [0, 300, 600], "budget_w": [500, 499, 498]}
    assert found["shortages"] == [
        ["the demand at the SLO", "40 W", "in 1 min 30 s", "not foreseen"]
    ]


def test_before_the_first_tick_nothing_is_made_up() -> None:
    models = {"m": {"awake": 0, "waiting": 0, "joules_per_token": None}}
    found = view({"controller": {"age_s": None, "stale": False}, "models": models})
    assert found["state"]["text"] == "starting"
    assert found["figures"]["draw_w"] == {"value": None, "text": "–", "note": ""}
    assert found["summary"] == "No tick yet."


@pytest.mark.parametrize(
    ("controller", "power", "expected"),
    [
        ({"age_s": 9.0, "stale": True}, {}, "the controller is silent for 9 s"),
        ({"age_s": 0.1, "stale": False}, {"stale": True}, "a supply is stale: the fallback holds"),
        ({"age_s": 0.1, "stale": False}, {}, "follows the budget"),
    ],
)
def test_the_state_says_what_is_wrong(
    controller: dict[str, Any], power: dict[str, Any], expected: str
) -> None:
    found = {**status(**power), "controller": controller}
    assert text(view(found)["state"]) == expected


def test_grid_events_say_when_and_whether_the_site_complies() -> None:
    event = {
        "id": "e1",
        "link": "openadr",
        "starts_s": NOW_S + 120,
        "ends_s": NOW_S + 600,
        "baseline_w": 1000.0,
        "hold_w": 300.0,
        "target_w": None,
        "delivered_w": None,
        "can_comply": False,
        "reason": "120 W are missing",
    }
    over = {**event, "id": "e0", "starts_s": NOW_S - 600, "ends_s": NOW_S - 1}
    grid = {"limit": "http/limit", "limit_w": 700.0, "lost": ["dsx"], "events": [event, over]}
    rows = view({**status(), "grid": grid})["tables"]["grid"]
    assert [[text(cell) for cell in row] for row in rows] == [
        ["openadr/e1", "in 2 min", "1,000 W", "300 W", "–", "no", "120 W are missing"],
        ["openadr/e0", "over", "1,000 W", "300 W", "–", "no", "120 W are missing"],
        ["http/limit", "limit, holds now", "–", "700 W", "–", "–", ""],
        ["dsx", "lost", "–", "–", "–", "–", "the link is lost"],
    ]


def test_sites_are_in_a_table_and_on_a_map() -> None:
    seen = {"budget_w": 900.0, "draw_w": 500.0, "headroom_w": 400.0, "surplus_w": 10.0}
    sites = {
        "site": "north",
        "here": None,
        "peers": [
            {"site": "south", "health": "live", "rtt_s": 0.012, "view": {**seen, "pools": {}}},
            {"site": "west", "health": "lost", "rtt_s": 0.08, "view": None},
            {"site": "east", "health": "live", "rtt_s": 0.03, "view": None},
        ],
        "suspects": [{"site": "east", "left_s": 60.0}],
    }
    found = view(status(), sites=sites)
    rows = [[text(cell) for cell in row] for row in found["tables"]["sites"]]
    assert rows[0] == ["north", "here", "–", "500 W", "414.2 W", "85.8 W", "85.8 W", "m"]
    assert [row[:3] for row in rows[1:]] == [
        ["south", "live", "12.0 ms"],
        ["west", "lost", "80.0 ms"],
        ["east", "suspect", "30.0 ms"],
    ]
    assert [place["state"] for place in found["map"]] == ["good", "bad", "bad"]


def test_the_usage_of_a_tenant_is_summed_over_models_and_hours() -> None:
    row = {
        "tenant": "b",
        "requests": 2,
        "completed": 1,
        "prompt_tokens": 30,
        "output_tokens": 100,
        "energy_j": 50.0,
    }
    rows = tenant_rows([row, {**row, "tenant": "a", "output_tokens": 0}, row])
    assert rows == [
        ["a", "2", "1", "30", "0", "50 J", "–"],
        ["b", "4", "2", "60", "200", "100 J", "0.500 J"],
    ]
