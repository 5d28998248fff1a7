"""Made-up states of a fleet, as a controller sends them to its gateways."""

from __future__ import annotations

import json
from typing import Any


def fleet_state(t_s: float, **power: Any) -> dict[str, Any]:
    """Return the state after a tick of 1 s: two replicas awake, one asleep."""
    replicas = [
        {
            "replica": f"replica-{index}",
            "pool": None,
            "state": "awake" if index < 2 else "asleep",
            "depth": None if index < 2 else "offloaded",
            "fault": None,
            "conditions": ["thermal"] if index == 1 else [],
            "clock_mhz": 900 + 300 * index,
            "batch_limit": 16,
            "draw_w": 200.0 if index < 2 else 14.0,
            "output_tps": 400.0 if index < 2 else 0.0,
        }
        for index in range(3)
    ]
    return {
        "at": 1_800_000_000.0 + t_s,
        "t_s": t_s,
        "tick": {
            "demand_tps": 900.0,
            "output_tps": 800.0,
            "energy_j": 414.25,
            "output_tokens": 800,
            "waiting": 7,
            "running": 32,
            "bound": None,
        },
        "power": {
            "budget_w": 500.0,
            "budget_source": "wind",
            "draw_w": 414.25,
            "headroom_w": 85.75,
            "supply_w": 612.5,
            "surplus_w": 85.75,
            "curtailed_w": 112.5,
            "stale": False,
            "battery": {"share": 0.5, "power_w": -20.0},
            "energy_source": "emulated",
            "boundary": "gpu",
            **power,
        },
        "models": {
            "m": {
                "state": "awake",
                "replicas": 3,
                "output_tps": 800.0,
                "headroom_tps": 50.0,
                "draw_w": 414.25,
            }
        },
        "plan": replicas,
        "shortages": [{"of": "demand", "short_w": 40.0, "begins_in_s": 90.0, "ends_in_s": None}],
        "forecast": [{"in_s": 300.0 * step, "budget_w": 500.0 - step} for step in range(3)],
        "batch": {
            "acme/job": {
                "tokens_per_s": 40.0,
                "share": 0.5,
                "reason": "waits_for_surplus",
                "finish_in_s": 600.0,
                "sure": 0.9,
            }
        },
        "grid": None,
        "sources": [
            {
                "kind": "supply",
                "name": "wind",
                "state": "fresh",
                "watts": 612.5,
                "age_s": 1.0,
                "reason": "",
            }
        ],
    }


def sent(t_s: float, **power: Any) -> bytes:
    """Return it as the controller sends it."""
    return json.dumps(fleet_state(t_s, **power)).encode()


def status(t_s: float = 60.0, **power: Any) -> dict[str, Any]:
    """Return what the status call of a gateway answers after such a tick."""
    state = fleet_state(t_s, **power)
    own = {"awake": 2, "waiting": 7, "joules_per_token": 0.5}
    models = {name: {**own, **model} for name, model in state["models"].items()}
    return {**state, "models": models, "controller": {"age_s": 0.2, "stale": False}}
