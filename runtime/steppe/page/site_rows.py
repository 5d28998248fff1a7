"""What the page shows of several sites: rows of a table, and a map of distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steppe.page.amounts import NONE, milliseconds, watts

Json = Mapping[str, Any]


def site_rows(sites: Json | None, own: Json) -> list[list[str | Mapping[str, str]]]:
    """Return a row for this site and for each other one.

    Args:
        sites: What the sites service answers to `/sites/v1/state`; None without one.
        own: Power and pools of this site, of the last tick.
    """
    if sites is None:
        return []
    here = _row(sites["site"], {"text": "here", "state": "good"}, None, own)
    return [here, *(_peer(peer, sites) for peer in sites["peers"])]


def map_of(sites: Json | None) -> list[dict[str, Any]]:
    """Return the places of a map: each other site with its distance, the round trip to it, s."""
    if sites is None:
        return []
    return [
        {
            "site": peer["site"],
            "rtt_s": peer["rtt_s"],
            "text": milliseconds(peer["rtt_s"]),
            "state": _health(peer, sites)["state"],
        }
        for peer in sites["peers"]
    ]


def _peer(peer: Json, sites: Json) -> list[str | Mapping[str, str]]:
    return _row(peer["site"], _health(peer, sites), peer["rtt_s"], peer.get("view"))


def _health(peer: Json, sites: Json) -> dict[str, str]:
    if any(each["site"] == peer["site"] for each in sites.get("suspects", ())):
        return {"text": "suspect", "state": "bad"}
    return {"text": peer["health"], "state": "good" if peer["health"] == "live" else "bad"}


def _row(
    name: str, state: Mapping[str, str], rtt_s: float | None, view: Json | None
) -> list[str | Mapping[str, str]]:
    seen = view or {}
    power = ("budget_w", "draw_w", "headroom_w", "surplus_w")
    models = ", ".join(seen.get("pools", ()))
    return [
        name,
        state,
        milliseconds(rtt_s),
        *(watts(seen.get(key)) for key in power),
        models or NONE,
    ]
