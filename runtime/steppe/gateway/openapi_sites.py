"""The part of the OpenAPI document with what is known of other sites."""

from __future__ import annotations

from steppe.gateway.openapi_schemas import (
    COUNT,
    NUMBER,
    TEXT,
    Json,
    list_of,
    nullable,
    object_of,
    operation,
    ref,
)
from steppe.sites.beats.peers import Health

_READ = (404, 503)


def sites_schemas() -> Json:
    """Return the schemas of this site, other sites and leases."""
    view = object_of(
        {
            "site": TEXT,
            "seq": COUNT,
            "age_s": NUMBER,
            "budget_w": NUMBER,
            "draw_w": NUMBER,
            "headroom_w": NUMBER,
            "surplus_w": NUMBER,
            "storage_wh": NUMBER,
            "region": TEXT,
            "pools": {"type": "object", "additionalProperties": ref("SitePool")},
        }
    )
    peer = object_of(
        {
            "site": TEXT,
            "url": TEXT,
            "region": TEXT,
            "health": {"enum": [str(each) for each in Health]},
            "rtt_s": NUMBER,
            "view": nullable(ref("SiteView")),
        }
    )
    lease = object_of(
        {
            "site": TEXT,
            "model": TEXT,
            "priority": TEXT,
            "output_tps": NUMBER,
            "ramp_tps2": NUMBER,
            "age_s": NUMBER,
            "lasts_s": NUMBER,
        }
    )
    pool = {
        "model": TEXT,
        "revision": TEXT,
        "free_tps": NUMBER,
        "waiting": COUNT,
        "ttft_s": NUMBER,
        "tpot_s": NUMBER,
        "uj_per_token": NUMBER,
    }
    sites = {
        "version": COUNT,
        "site": TEXT,
        "run": TEXT,
        "seq": COUNT,
        "period_s": NUMBER,
        "here": nullable(ref("SiteView")),
        "peers": list_of(peer),
        "leases": list_of(lease),
        "suspects": list_of(object_of({"site": TEXT, "left_s": NUMBER})),
    }
    found = {"SiteView": view, "SitePool": object_of(pool), "Sites": object_of(sites)}
    return {**found, "Settlements": _settlements()}


def sites_paths() -> Json:
    """Return the paths of what is known of other sites."""
    settlements = operation("settlements", ref("Settlements"), errors=(400, 403, *_READ))
    return {
        "/steppe/v1/sites": {"get": operation("sites", ref("Sites"), errors=_READ)},
        "/steppe/v1/sites/settlements": {"get": settlements},
    }


def _settlements() -> Json:
    mismatch = object_of({"what": TEXT, "request": TEXT, "receipt": TEXT, "text": TEXT})
    counts = (
        "end_s",
        "receipts",
        "output_tokens",
        "energy_uj",
        "owed_uj",
        "claimed_uj",
        "agrees",
        "is_logged",
        "mismatches_all",
    )
    fields = {"home": TEXT, "target": TEXT, **dict.fromkeys(counts, COUNT)}
    one = object_of({**fields, "mismatches": list_of(mismatch)})
    problems = {"type": "object", "additionalProperties": TEXT}
    return object_of({"object": TEXT, "data": list_of(one), "problems": problems})
