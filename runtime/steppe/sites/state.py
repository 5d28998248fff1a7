"""What the sites service of a run shows its gateways: all that they need to choose a site, as JSON.

`GET /sites/v1/state` of the service answers it, and each gateway asks about once a second. It has
ages in the place of times, so no clock of another process is read: the reader puts them on its own
monotonic clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from steppe.control.ticket import PRIORITIES
from steppe.sites.beats.fields import NAME, Fields, SiteMessageError
from steppe.sites.beats.message import view_of, view_values
from steppe.sites.beats.peers import Health
from steppe.sites.quotas import LONGEST_S, SHORTEST_S, QuotaLease
from steppe.sites.view import SiteView

PATH = "/sites/v1/state"
"""Where the service answers it, at its door for the gateways of its run."""
VERSION = 1
_MOST_SITES, _MOST_LEASES, _CHARS = 1024, 16_384, 256
_MOST_S, _MOST_TPS = 1e9, 1e12
_RUN = re.compile(r"[0-9a-f]{16}")
_HEALTH = re.compile("|".join(Health))
_PRIORITY = re.compile("|".join(PRIORITIES))


@dataclass(frozen=True, slots=True)
class PeerState:
    """Another site.

    Attributes:
        site: Its name, also that of its certificate.
        url: Where it listens for sites, `https://host:port`.
        region: Where it lies in law, as the configuration has it.
        health: Whether it may get work, and why not.
        rtt_s: Round trip to it, s: the least of the last 100, or what the configuration states.
        view: Its last heartbeat; None before the first one.
    """

    site: str
    url: str
    region: str
    health: Health
    rtt_s: float
    view: SiteView | None = None


@dataclass(frozen=True, slots=True)
class SitesState:
    """What the service knows of all sites.

    Attributes:
        site: Name of this site.
        run: 16 hexadecimal digits, by chance, of one run of the service.
        seq: Number of the last heartbeat of this site in that run, rising.
        period_s: Time between two heartbeats, s.
        here: What this site shows of itself; None before the first heartbeat.
        peers: The other sites.
        leases: What may be sent to them; their begin is on the clock of `read_state`.
        suspects: Sites that get no new work because of what they claimed, and until when, s on the
            same clock.
    """

    site: str
    run: str
    seq: int
    period_s: float
    here: SiteView | None
    peers: tuple[PeerState, ...]
    leases: tuple[QuotaLease, ...] = ()
    suspects: Mapping[str, float] = field(default_factory=dict)

    def usable(self, now_s: float) -> dict[str, SiteView]:
        """Return the last heartbeats of the sites that may get work, by name."""
        return {
            peer.site: peer.view
            for peer in self.peers
            if peer.health is Health.LIVE
            and peer.view is not None
            and self.suspects.get(peer.site, now_s) <= now_s
        }


def write_state(state: SitesState, now_s: float) -> bytes:
    """Return the state as JSON.

    Args:
        state: The state.
        now_s: Now, by the clock of its times, s.
    """
    return orjson.dumps(
        {
            "version": VERSION,
            "site": state.site,
            "run": state.run,
            "seq": state.seq,
            "period_s": state.period_s,
            "here": _written_view(state.here, now_s),
            "peers": [
                {
                    "site": peer.site,
                    "url": peer.url,
                    "region": peer.region,
                    "health": peer.health,
                    "rtt_s": peer.rtt_s,
                    "view": _written_view(peer.view, now_s),
                }
                for peer in state.peers
            ],
            "leases": [
                {
                    "site": lease.site,
                    "model": lease.model,
                    "priority": lease.priority,
                    "output_tps": lease.output_tps,
                    "ramp_tps2": lease.ramp_tps2,
                    "age_s": max(0.0, now_s - lease.granted_s),
                    "lasts_s": lease.lasts_s,
                }
                for lease in state.leases
            ],
            "suspects": [
                {"site": site, "left_s": until_s - now_s}
                for site, until_s in state.suspects.items()
                if until_s > now_s
            ],
        }
    )


def read_state(body: bytes, now_s: float) -> SitesState:
    """Return the state of a body.

    Args:
        body: What the service answered.
        now_s: When it was asked, by the monotonic clock of this process, s: all times are on it.
            What is older than it seems is safe, so it is the time before the call.

    Raises:
        MessageError: It is no state of this version, or a field is of another type or out of range.
    """
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SiteMessageError(f"state: asked for JSON, found {error}") from error
    state = Fields.of(values, "state")
    if (version := state.values.get("version")) != VERSION:
        raise SiteMessageError(f"state.version: asked for {VERSION}, found {version!r:.20}")
    suspects = (
        Fields.of(each, f"state.suspects[{i}]")
        for i, each in enumerate(state.items("suspects", _MOST_SITES))
    )
    return SitesState(
        site=state.text("site", 63, NAME),
        run=state.text("run", 16, _RUN),
        seq=state.integer("seq", 0, (1 << 53) - 1),
        period_s=state.number("period_s", 1e-3, _MOST_S),
        here=_view(state.values.get("here"), "state.here", now_s),
        peers=tuple(
            _peer(Fields.of(each, f"state.peers[{i}]"), now_s)
            for i, each in enumerate(state.items("peers", _MOST_SITES))
        ),
        leases=tuple(
            _lease(Fields.of(each, f"state.leases[{i}]"), now_s)
            for i, each in enumerate(state.items("leases", _MOST_LEASES))
        ),
        suspects={
            each.text("site", 63, NAME): now_s + each.number("left_s", 0, _MOST_S)
            for each in suspects
        },
    )


def _written_view(view: SiteView | None, now_s: float) -> dict[str, Any] | None:
    return (
        None if view is None else {"age_s": max(0.0, now_s - view.received_s), **view_values(view)}
    )


def _view(value: Any, where: str, now_s: float) -> SiteView | None:
    if value is None:
        return None
    fields = Fields.of(value, where)
    return view_of(fields, now_s - fields.number("age_s", 0, _MOST_S))


def _peer(fields: Fields, now_s: float) -> PeerState:
    return PeerState(
        site=fields.text("site", 63, NAME),
        url=fields.text("url", _CHARS),
        region=fields.text("region", _CHARS),
        health=Health(fields.text("health", _CHARS, _HEALTH)),
        rtt_s=fields.number("rtt_s", 0, _MOST_S),
        view=_view(fields.values.get("view"), f"{fields.where}.view", now_s),
    )


def _lease(fields: Fields, now_s: float) -> QuotaLease:
    return QuotaLease(
        site=fields.text("site", 63, NAME),
        model=fields.text("model", _CHARS),
        priority=fields.text("priority", _CHARS, _PRIORITY),
        output_tps=fields.number("output_tps", 0, _MOST_TPS),
        ramp_tps2=fields.number("ramp_tps2", 0, _MOST_TPS),
        granted_s=now_s - fields.number("age_s", 0, _MOST_S),
        lasts_s=fields.number("lasts_s", SHORTEST_S, LONGEST_S),
    )
