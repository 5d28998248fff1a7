"""A replica of a simulated fleet goes to another model: load time, energy and books."""

from __future__ import annotations

import math
from typing import Any

import pytest

import steppe
from steppe.errors import ConfigError

LOAD_S = 2.0
IDLE: dict[str, Any] = {
    "name": "none",
    "served_name": "idle",
    "replicas": 3,
    "least_replicas": 0,
    "load": {"length_scale": 0.125, "utilisation": 0},
}
BUSY: dict[str, Any] = {
    "name": "none",
    "served_name": "busy",
    "replicas": 1,
    "most_replicas": 3,
    "load_s": LOAD_S,
    "load": {"length_scale": 0.125, "utilisation": 3.5},
}
CONFIG: dict[str, Any] = {
    "models": [IDLE, BUSY],
    "engine": {"kind": "synthetic", "max_batch_limit": 16},
    "device": {"kind": "emulated", "profile": "l4", "count": 4},
    "power": {"supply": [{"kind": "constant", "watts": 400}]},
    "frontier": {"sweep": {"prompt_tokens": 144, "output_tokens": 26, "batch_limits": [8, 16]}},
    "sim": {"duration_s": 60, "sleep_s": 0.2},
}


@pytest.fixture(scope="module")
def result() -> steppe.RunResult:
    return steppe.simulate(CONFIG)


def homes(tick: Any) -> dict[str, str]:
    return {replica.id: replica.pool for replica in tick.replicas}


def test_replicas_go_to_the_model_that_is_asked_for_up_to_its_most(
    result: steppe.RunResult,
) -> None:
    counts = [list(homes(tick).values()).count("busy") for tick in result.tick_records]
    assert (counts[0], counts[-1]) == (1, 3)
    assert counts == sorted(counts)
    served = {request.replica for request in result.request_records if request.output_tokens}
    assert len(served) == 3
    assert all(len(tick.replicas) == 4 for tick in result.tick_records)


def test_a_load_takes_its_time_and_its_energy_is_that_of_a_transition(
    result: steppe.RunResult,
) -> None:
    moved = next(
        name
        for name, pool in homes(result.tick_records[-1]).items()
        if pool == "busy" and homes(result.tick_records[0])[name] == "idle"
    )
    states = [
        (tick.t_s, replica.state)
        for tick in result.tick_records
        for replica in tick.replicas
        if replica.id == moved and replica.pool == "busy"
    ]
    starting_s = [at_s for at_s, state in states if state == "starting"]
    assert LOAD_S - 1.0 <= len(starting_s) <= LOAD_S + 1.0
    assert states[-1][1] in ("awake", "asleep", "draining")
    assert result.summary["transition_energy_j"] > 0


def test_no_joule_is_lost_or_counted_twice_when_replicas_move(result: steppe.RunResult) -> None:
    summary = result.summary
    charged_j = math.fsum(request.energy_j or 0.0 for request in result.request_records)
    parts_j = summary["idle_energy_j"] + summary["transition_energy_j"]
    assert charged_j + parts_j == pytest.approx(summary["energy_j"])
    for tick in result.tick_records:
        assert sum(replica.draw_w for replica in tick.replicas) == pytest.approx(tick.draw_w)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"least_replicas": 4}, "replicas: asked for 4 to 3"),
        ({"most_replicas": 2}, "replicas: asked for 0 to 2"),
    ],
)
def test_bounds_that_exclude_the_number_of_replicas_are_refused(
    change: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        steppe.simulate(CONFIG | {"models": [IDLE | change, BUSY]})


def test_nodes_that_are_switched_off_keep_their_model() -> None:
    sleep = [{"kind": "stopped"}, {"kind": "node_off"}]
    with pytest.raises(ConfigError, match="node_off needs replicas that stay"):
        steppe.simulate(CONFIG | {"fleet": {"sleep": sleep}})
