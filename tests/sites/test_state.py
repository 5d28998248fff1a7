from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.beating_sites import run_of, view_of

from steppe.sites.beats.fields import SiteMessageError
from steppe.sites.beats.peers import Health
from steppe.sites.quotas import QuotaLease
from steppe.sites.state import PeerState, SitesState, read_state, write_state

WRITTEN_S = 1000.0
"""When the state was written, by the clock of the service, s."""
STATE = SitesState(
    site="hohhot",
    run=run_of("hohhot"),
    seq=7,
    period_s=1.0,
    here=replace(view_of("hohhot"), received_s=WRITTEN_S - 0.25),
    peers=(
        PeerState(
            "shanghai", "https://10.0.0.2:8443", "cn", Health.LIVE, 0.02,
            replace(view_of("shanghai"), received_s=WRITTEN_S - 0.5),
        ),
        PeerState("guizhou", "https://10.0.0.3:8443", "cn", Health.UNHEARD, 0.05),
    ),
    leases=(QuotaLease("shanghai", "m", "standard", 300.0, 20.0, WRITTEN_S - 12.0, 60.0),),
    suspects={"guizhou": WRITTEN_S + 600.0},
)  # fmt: skip
VALUES: dict[str, Any] = json.loads(write_state(STATE, WRITTEN_S))


def changed(**changes: Any) -> bytes:
    return json.dumps(VALUES | changes).encode()


def test_a_state_is_read_as_it_was_written_on_the_clock_of_the_reader() -> None:
    assert read_state(write_state(STATE, WRITTEN_S), WRITTEN_S) == STATE
    found = read_state(write_state(STATE, WRITTEN_S), now_s=50.0)
    assert found.here is not None
    assert found.here.received_s == 49.75
    assert found.peers[0].view is not None
    assert found.peers[0].view.received_s == 49.5
    assert found.leases[0].granted_s == 38.0
    assert found.suspects == {"guizhou": 650.0}


def test_a_state_has_no_time_of_the_clock_of_its_writer() -> None:
    later_s = 77_777.0
    moved = replace(
        STATE,
        here=replace(view_of("hohhot"), received_s=later_s - 0.25),
        peers=(
            replace(STATE.peers[0], view=replace(view_of("shanghai"), received_s=later_s - 0.5)),
            STATE.peers[1],
        ),
        leases=(replace(STATE.leases[0], granted_s=later_s - 12.0),),
        suspects={"guizhou": later_s + 600.0},
    )
    assert write_state(moved, later_s) == write_state(STATE, WRITTEN_S)


def test_before_its_first_heartbeat_a_site_shows_none() -> None:
    assert read_state(write_state(replace(STATE, here=None), WRITTEN_S), 0.0).here is None


def test_only_sites_that_are_live_and_not_suspect_may_get_work() -> None:
    assert set(STATE.usable(WRITTEN_S)) == {"shanghai"}
    lost = replace(STATE, peers=(replace(STATE.peers[0], health=Health.LOST),))
    assert not lost.usable(WRITTEN_S)
    suspect = replace(STATE, suspects={"shanghai": WRITTEN_S + 1.0})
    assert not suspect.usable(WRITTEN_S)
    assert set(suspect.usable(WRITTEN_S + 1.0)) == {"shanghai"}


def test_a_suspect_whose_time_is_over_is_left_out() -> None:
    assert not read_state(write_state(STATE, WRITTEN_S + 601.0), 0.0).suspects


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "asked for JSON"),
        (b"[]", "asked for an object"),
        (changed(version=2), "state.version: asked for 1, found 2"),
        (changed(seq=-1), "state.seq"),
        (changed(peers=[VALUES["peers"][0] | {"health": "well"}]), "state.peers[0].health"),
        (changed(leases=[VALUES["leases"][0] | {"priority": "high"}]), "state.leases[0].priority"),
        (changed(leases=[VALUES["leases"][0] | {"lasts_s": 5}]), "state.leases[0].lasts_s"),
        (changed(here=VALUES["here"] | {"pools": []}), "state.here.pools"),
    ],
)  # fmt: skip
def test_a_state_that_is_not_as_it_should_be_is_refused_in_one_line(
    body: bytes, named: str
) -> None:
    with pytest.raises(SiteMessageError, match=r".") as error:
        read_state(body, 0.0)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
