from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.fleet_messages import tick_record

from steppe.config import RunConfig
from steppe.fleet.driver.power_totals import PowerTotals
from steppe.ledger.booking import BookedTotals
from steppe.power.battery import Charge

BATTERY = {"capacity_wh": 36.0, "max_charge_w": 50.0, "max_discharge_w": 50.0}


def totals_of(boundary: str = "gpu", **power: Any) -> PowerTotals:
    supply = {"supply": [{"kind": "constant", "watts": 100.0}]}
    config = RunConfig.model_validate(
        {
            "model": {"name": "none"},
            "device": {"kind": "emulated"},
            "power": supply | power,
            "site": {"boundary": boundary, "node_rest_w": 10.0},
        }
    )
    return PowerTotals.of(config)


def test_each_tick_counts_once_from_the_end_of_the_one_before() -> None:
    totals = totals_of()
    first = tick_record(2.0, sources_w={"wind": 30.0, "grid": 60.0}, site_w=100.0)
    totals.add([first])
    totals.add([first, tick_record(5.0, sources_w={"wind": 10.0}, site_w=95.0)])
    assert totals.supply_uj == {"wind": 90_000_000, "grid": 120_000_000}
    assert totals.beside_uj == 2 * 10_000_000 + 3 * 5_000_000


def test_the_charge_of_a_battery_is_in_seconds_of_the_run() -> None:
    totals = totals_of(battery=BATTERY, speedup=360.0)
    charged = Charge(share=0.5, power_w=-20.0)
    totals.add([tick_record(1.0, battery=charged), tick_record(2.0, battery=Charge(0.25, 10.0))])
    assert totals.charged_uj == 20_000_000
    assert totals.stored_uj == 90_000_000  # a quarter of 36 Wh of trace time


@pytest.mark.parametrize(("boundary", "beside_j"), [("gpu", 30), ("node", 20), ("site", 0)])
def test_the_site_used_what_its_meters_count_and_what_is_beside_them(
    boundary: str, beside_j: int
) -> None:
    totals = totals_of(boundary)
    totals.add([tick_record(1.0, draw_w=70.0, node_rest_w=10.0, site_w=100.0)])
    found = totals.with_books(BookedTotals(meters={"a": 5, "b": 7}, idle_uj=3, unclaimed_uj=2))
    assert found.site_uj == 12 + beside_j * 1_000_000
    assert (found.meters, found.idle_uj, found.unclaimed_uj) == ({"a": 5, "b": 7}, 3, 2)
