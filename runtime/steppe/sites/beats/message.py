"""A heartbeat: what a site shows of itself to another one each second, as JSON.

It is a full snapshot, some 1.7 kB with one pool. `at_us` is for people: no receiver compares the
clock of another host with its own. The receiver orders beats by `run` and `seq`, and measures age
from the time at which it received them.

A field that a reader does not know is ignored. `version` rises when a field changes its meaning,
and a reader refuses versions that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from steppe.control.ticket import PRIORITIES
from steppe.sites.beats.fields import NAME, Fields, SiteMessageError, flat_numbers
from steppe.sites.view import Demand, Expected, PoolPoint, PoolView, SiteView

VERSION = 1
BODY_BYTES = 1 << 16
"""Largest beat, bytes."""
TTL_MS = 10_000
"""Usual time after which a receiver forgets a beat, ms."""
_MOST_SEQ = (1 << 53) - 1
MOST_TTL_MS = 60_000
"""Longest time after which a receiver forgets a beat, ms."""
_MOST_RTT_US = 10_000_000
_MOST_US = (1 << 63) - 1
_MOST = 1e12
"""Largest power, energy or rate: 1 TW."""
_RUN = re.compile(r"[0-9a-f]{16}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_PRIORITY = re.compile("|".join(PRIORITIES))
_FORECAST, _HOURS, _CLASSES, _POOLS, _POINTS, _CHARS = 96, 48, 32, 64, 8, 128
MOST_DEMAND = 64
"""Most kinds of requests that a beat shows."""
_REGIONS = 256
NO_GRANTS: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Origin:
    """Which beat of a site this is.

    Attributes:
        run: 16 hexadecimal digits, by chance, of one run of its sites process: with a new run `seq`
            begins anew.
        seq: Its number in that run, rising.
    """

    run: str
    seq: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat, as it was received.

    Attributes:
        to: The site it was made for.
        origin: Which beat of its sender it is.
        heard: The newest beat of the receiver that the sender has; None if it has none.
        rtt_s: Least round trip from the sender to the receiver, s; None if not measured.
        at_us: Clock of the sender, us since the Unix epoch; only shown.
        ttl_s: It is forgotten this long after it was received, s.
        view: What it shows.
        grants: Deferrable work that the sender takes from the receiver on its surplus, output
            tokens per second by model.
    """

    to: str
    origin: Origin
    heard: Origin | None
    rtt_s: float | None
    at_us: int
    ttl_s: float
    view: SiteView
    grants: Mapping[str, float] = field(default_factory=dict)

    @property
    def site(self) -> str:
        """Its sender."""
        return self.view.site


def write_snapshot(view: SiteView, run: str, at_us: int, ttl_ms: int = TTL_MS) -> bytes:
    """Return the part of a beat that all receivers get, as a JSON object."""
    values = {
        "version": VERSION,
        "run": run,
        "at_us": at_us,
        "ttl_ms": ttl_ms,
        **view_values(view),
    }
    return orjson.dumps(values)


def view_values(view: SiteView) -> dict[str, Any]:
    """Return a view as the fields of a JSON object; the time at which it came is none of them."""
    return {
        "site": view.site,
        "seq": view.seq,
        "budget_w": view.budget_w,
        "draw_w": view.draw_w,
        "headroom_w": view.headroom_w,
        "surplus_w": view.surplus_w,
        "storage_wh": view.storage_wh,
        "forecast": [list(each) for each in view.forecast],
        "price_micro": list(view.price_micro),
        "gco2": list(view.gco2),
        "currency": view.currency,
        "region": view.region,
        "data_classes": sorted(view.data_classes),
        "pools": {name: _written_pool(pool) for name, pool in view.pools.items()},
        "demand": [[*each[:2], sorted(each.regions), *each[3:]] for each in view.demand],
    }


def write_beat(
    snapshot: bytes,
    to: str,
    heard: Origin | None = None,
    rtt_s: float | None = None,
    grants: Mapping[str, float] = NO_GRANTS,
) -> bytes:
    """Return the beat for one receiver; `snapshot` is from `write_snapshot`."""
    own: dict[str, Any] = {"to": to}
    if heard is not None:
        own["heard"] = {"run": heard.run, "seq": heard.seq}
    if rtt_s is not None and (rtt_us := round(rtt_s * 1e6)) <= _MOST_RTT_US:
        own["rtt_us"] = rtt_us
    if grants:
        own["grants"] = grants
    return orjson.dumps(own)[:-1] + b"," + snapshot[1:]


def read_beat(body: bytes, received_s: float) -> Beat:
    """Return the beat of a body.

    Args:
        body: What was received.
        received_s: When, by the monotonic clock of this host, s.

    Raises:
        MessageError: It is no beat of this version, or a field is of another type or out of range.
    """
    if len(body) > BODY_BYTES:
        raise SiteMessageError(f"beat: asked for at most {BODY_BYTES} bytes, found {len(body)}")
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SiteMessageError(f"beat: asked for JSON, found {error}") from error
    beat = Fields.of(values, "beat")
    if (version := beat.integer("version", 0, _MOST_SEQ)) != VERSION:
        raise SiteMessageError(f"beat.version: asked for {VERSION}, found {version}")
    heard = beat.values.get("heard")
    rtt_us = beat.values.get("rtt_us")
    return Beat(
        beat.text("to", 63, NAME),
        _origin(beat),
        None if heard is None else _origin(Fields.of(heard, "beat.heard")),
        None if rtt_us is None else beat.number("rtt_us", 0, _MOST_RTT_US) / 1e6,
        beat.integer("at_us", -_MOST_US, _MOST_US),
        beat.integer("ttl_ms", 1, MOST_TTL_MS) / 1e3,
        view_of(beat, received_s),
        _grants(beat),
    )


def _origin(fields: Fields) -> Origin:
    return Origin(fields.text("run", 16, _RUN), fields.integer("seq", 0, _MOST_SEQ))


def view_of(fields: Fields, received_s: float) -> SiteView:
    """Return the view of the fields of `view_values`.

    Args:
        fields: The fields; others are ignored.
        received_s: When they came, by the monotonic clock of this host, s.

    Raises:
        MessageError: A field is of another type or out of range.
    """
    classes = _listed(fields, "data_classes", _CLASSES)
    return SiteView(
        site=fields.text("site", 63, NAME),
        seq=fields.integer("seq", 0, _MOST_SEQ),
        received_s=received_s,
        budget_w=fields.number("budget_w", 0, _MOST),
        draw_w=fields.number("draw_w", 0, _MOST),
        headroom_w=fields.number("headroom_w", -_MOST, _MOST),
        surplus_w=fields.number("surplus_w", 0, _MOST),
        storage_wh=fields.number("storage_wh", 0, _MOST),
        forecast=_forecast(fields),
        price_micro=fields.integers("price_micro", _HOURS, -_MOST_US, _MOST_US),
        gco2=fields.numbers("gco2", _HOURS, 0, 1e6),
        currency=fields.text("currency", 3, _CURRENCY),
        region=fields.text("region", _CHARS),
        data_classes=frozenset(classes.text(i, _CHARS) for i in classes.values),
        pools=_pools(fields.values.get("pools", {}), f"{fields.where}.pools"),
        demand=tuple(
            _demand(row, f"{fields.where}.demand[{i}]")
            for i, row in enumerate(fields.items("demand", MOST_DEMAND))
        ),
    )


def _listed(fields: Fields, name: str, most: int) -> Fields:
    """Return the items of a list as fields, by their place."""
    items = fields.items(name, most)
    return Fields({str(i): each for i, each in enumerate(items)}, f"{fields.where}.{name}")


def _grants(beat: Fields) -> Mapping[str, float]:
    if "grants" not in beat.values:
        return NO_GRANTS
    grants = Fields.of(beat.values["grants"], "beat.grants")
    if len(grants.values) > _POOLS:
        raise SiteMessageError(
            f"beat.grants: asked for at most {_POOLS}, found {len(grants.values)}"
        )
    return {name: grants.number(name, 0, _MOST) for name in grants.values}


def _demand(row: Any, where: str) -> Demand:
    if not isinstance(row, list) or len(row) != len(Demand._fields):
        raise SiteMessageError(
            f"{where}: asked for {len(Demand._fields)} values, found {row!r:.60}"
        )
    fields = Fields(dict(zip(Demand._fields, row, strict=True)), where)
    regions = _listed(fields, "regions", _REGIONS)
    return Demand(
        fields.text("model", 2 * _CHARS),
        fields.text("priority", _CHARS, _PRIORITY),
        frozenset(regions.text(i, _CHARS) for i in regions.values),
        fields.text("data_class", _CHARS),
        fields.number("output_tps", 0, _MOST),
    )


def _forecast(fields: Fields) -> tuple[Expected, ...]:
    rows = fields.items("forecast", _FORECAST)
    are_good = flat_numbers(rows, len(Expected._fields), 0, _MOST)
    if are_good and all(low <= middle <= high for _, low, middle, high in rows):
        return tuple([Expected(*map(float, row)) for row in rows])
    return tuple(_expected(row, f"{fields.where}.forecast[{i}]") for i, row in enumerate(rows))


def _points(fields: Fields) -> tuple[PoolPoint, ...]:
    rows = fields.items("points", _POINTS)
    if flat_numbers(rows, len(PoolPoint._fields), 0, _MOST):
        return tuple([PoolPoint(*map(float, row)) for row in rows])
    return tuple(_point(row, f"{fields.where}.points[{i}]") for i, row in enumerate(rows))


def _expected(row: Any, where: str) -> Expected:
    if not isinstance(row, list) or len(row) != len(Expected._fields):
        asked = f"asked for {len(Expected._fields)} numbers"
        raise SiteMessageError(f"{where}: {asked}, found {row!r:.60}")
    fields = Fields(dict(zip(Expected._fields, row, strict=True)), where)
    start_s = fields.number("start_s", -_MOST, _MOST)
    low, middle, high = (fields.number(name, 0, _MOST) for name in Expected._fields[1:])
    if not low <= middle <= high:
        raise SiteMessageError(f"{where}: asked for rising quantiles, found {row!r:.60}")
    return Expected(start_s, low, middle, high)


def _pools(value: Any, where: str) -> Mapping[str, PoolView]:
    if not isinstance(value, dict) or len(value) > _POOLS:
        found = f"{len(value)}" if isinstance(value, dict) else f"{value!r:.60}"
        raise SiteMessageError(f"{where}: asked for at most {_POOLS} pools, found {found}")
    names = Fields({name: name for name in value}, f"{where}: name")
    return {
        names.text(name, _CHARS): _pool(pool, f"{where}.{name}") for name, pool in value.items()
    }


def _pool(value: Any, where: str) -> PoolView:
    fields = Fields.of(value, where)
    return PoolView(
        model=fields.text("model", 2 * _CHARS),
        revision=fields.text("revision", _CHARS),
        free_tps=fields.number("free_tps", 0, _MOST),
        waiting=fields.integer("waiting", 0, _MOST_SEQ),
        ttft_s=fields.number("ttft_s", 0, 1e6),
        tpot_s=fields.number("tpot_s", 0, 1e6),
        uj_per_token=fields.number("uj_per_token", 0, _MOST),
        points=_points(fields),
        prompt_uj_per_token=fields.number_or("prompt_uj_per_token", 0, _MOST, 0.0),
        prompt_s_per_token=fields.number_or("prompt_s_per_token", 0, 1e6, 0.0),
    )


def _point(row: Any, where: str) -> PoolPoint:
    if not isinstance(row, list) or len(row) != len(PoolPoint._fields):
        asked = f"asked for {len(PoolPoint._fields)} numbers"
        raise SiteMessageError(f"{where}: {asked}, found {row!r:.60}")
    fields = Fields(dict(zip(PoolPoint._fields, row, strict=True)), where)
    return PoolPoint(*(fields.number(name, 0, _MOST) for name in PoolPoint._fields))


def _written_pool(pool: PoolView) -> dict[str, Any]:
    return {
        "model": pool.model,
        "revision": pool.revision,
        "free_tps": pool.free_tps,
        "waiting": pool.waiting,
        "ttft_s": pool.ttft_s,
        "tpot_s": pool.tpot_s,
        "uj_per_token": pool.uj_per_token,
        "points": [list(point) for point in pool.points],
        "prompt_uj_per_token": pool.prompt_uj_per_token,
        "prompt_s_per_token": pool.prompt_s_per_token,
    }
