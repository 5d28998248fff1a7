"""The benchmark of the viewers of a page."""

from __future__ import annotations

import json

import pytest

from page_viewers import PHASES, fleet_state, means, measure
from steppe.page.history import Totals
from steppe.page.view import live_view


def test_the_state_of_the_benchmark_is_one_that_the_page_shows() -> None:
    found = json.loads(fleet_state(3.0, replicas=4))
    models = {"m": {"awake": 4, "waiting": 0, "joules_per_token": None, **found["models"]["m"]}}
    view = live_view({**found, "models": models}, Totals(), jobs={}, sites=None, now_s=0.0)
    assert view["figures"]["awake"]["text"] == "4 of 4"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_viewer_that_reads_gets_the_events() -> None:
    found = means(measure(viewers=3, replicas=2, seconds=4.0, repeats=1))
    assert set(found) == set(PHASES)
    assert found["none"]["events_per_viewer"] == 0
    for name in ("reading", "stalled"):
        assert found[name]["events_per_viewer"] >= 1
