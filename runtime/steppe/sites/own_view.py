"""What a site shows of itself, from the status of its own gateway.

All powers are those of its GPUs, as its budget and its meters have them. If the gateway does not
answer, or its controller is silent, the site shows no room: then nothing is sent here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steppe.config import SitesSection
from steppe.config.sites import HOURS
from steppe.sites.beats.message import MOST_DEMAND
from steppe.sites.outlook import Outlook
from steppe.sites.view import Demand, PoolPoint, PoolView, SiteView

MICRO = 1e6
ASLEEP_TTFT_S = 30.0
"""Time to the first token of a model without an awake replica, if no wake is planned, s."""
IDLE_SHARE = 0.5
"""Without requests in the last minute, a model shows this share of the TTFT of its SLO."""
_LEAST_TPOT_S = 1e-3


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A model that this site serves.

    Attributes:
        revision: Revision of its weights.
        ttft_s: Longest time to the first token of its SLO, s.
    """

    revision: str
    ttft_s: float


class OwnView:
    """Turns the status of the gateway into a view; it keeps earlier forecasts.

    Attributes:
        view: The last view; None before the first tick of the controller.
    """

    def __init__(self, section: SitesSection, models: Mapping[str, OwnModel]) -> None:
        """Know the site.

        Args:
            section: The section of the configuration.
            models: Its models, by the name that clients use.
        """
        self._section, self._models = section, models
        self._outlook = Outlook(section.plan.step_s)
        self.view: SiteView | None = None

    def take(self, status: Mapping[str, Any], now_s: float, epoch_s: float) -> None:
        """Take up an answer of the gateway.

        Args:
            status: The answer of `GET /steppe/v1/status`.
            now_s: When it was asked for, by the monotonic clock, s.
            epoch_s: The same, s since the Unix epoch.
        """
        power = status.get("power")
        controller = status.get("controller", {})
        if power is None:  # no tick yet
            return
        surplus_w = [float(step["surplus_w"]) for step in status.get("outlook", ())]
        self._outlook.note(now_s, surplus_w)
        headroom_w = float(power["headroom_w"])
        left_w = float(power["surplus_w"]) - float(power["draw_w"])
        hour = time.gmtime(epoch_s).tm_hour
        view = SiteView(
            site=self._section.name,
            seq=0,
            received_s=now_s,
            budget_w=float(power["budget_w"]),
            draw_w=float(power["draw_w"]),
            headroom_w=headroom_w,
            surplus_w=max(0.0, min(headroom_w, left_w)),
            storage_wh=float(power.get("battery_wh") or 0.0),
            forecast=self._outlook.expected(epoch_s, surplus_w),
            price_micro=tuple(round(each * MICRO) for each in self._day("price_per_kwh", hour)),
            gco2=self._day("gco2_per_kwh", hour),
            currency=self._section.currency,
            region=self._section.region,
            data_classes=frozenset(self._section.data_classes),
            pools=self._pools(status.get("models", {})),
            demand=self._demand(status.get("models", {})),
        )
        is_stale = bool(controller.get("stale", True)) or controller.get("age_s") is None
        self.view = without_room(view) if is_stale else view

    def lose(self) -> None:
        """Note that the gateway does not answer."""
        if self.view is not None:
            self.view = without_room(self.view)

    def shown(self) -> SiteView:
        """Return what other sites see; an empty site before the first tick."""
        return self.view or SiteView(
            site=self._section.name,
            seq=0,
            received_s=0.0,
            budget_w=0.0,
            draw_w=0.0,
            headroom_w=0.0,
            surplus_w=0.0,
            storage_wh=0.0,
            forecast=(),
            price_micro=(),
            gco2=(),
            currency=self._section.currency,
            region=self._section.region,
            data_classes=frozenset(self._section.data_classes),
        )

    def _day(self, name: str, hour: int) -> tuple[float, ...]:
        """Return a value of each of the next 24 hours, the present one first."""
        values: Sequence[float] = getattr(self._section, name)
        return tuple(float(values[(hour + n) % len(values)]) for n in range(HOURS))

    def _pools(self, models: Mapping[str, Any]) -> dict[str, PoolView]:
        return {
            name: pool_of(name, values, self._models[name])
            for name, values in models.items()
            if name in self._models and "headroom_tps" in values
        }

    def _demand(self, models: Mapping[str, Any]) -> tuple[Demand, ...]:
        """Return what customers ask for, the most first; only regions that have a site count."""
        own = self._section.region
        known = frozenset([own, *(peer.region for peer in self._section.peers)])
        found = [
            Demand(
                name,
                each["priority"],
                known.intersection(each["regions"] or [own]),
                each["data_class"],
                float(each["output_tps"]),
            )
            for name, values in models.items()
            for each in values.get("demand", ())
        ]
        return tuple(sorted(found, key=lambda each: -each.output_tps)[:MOST_DEMAND])


def pool_of(name: str, values: Mapping[str, Any], model: OwnModel) -> PoolView:
    """Return the pool of a model.

    What its waiting requests will take is not free.

    Args:
        name: The name that clients use.
        values: What the status says of it.
        model: What the configuration says of it.
    """
    tpot_s = values.get("tpot_mean_s") or values.get("full_tpot_s") or 0.0
    ttft_s = values.get("ttft_p95_s")
    if ttft_s is None:
        ttft_s = IDLE_SHARE * model.ttft_s
    if not values.get("awake"):
        ttft_s = max(ttft_s, _number(values.get("serves_in_s"), ASLEEP_TTFT_S))
    waiting = int(values.get("waiting", 0))
    firm = max(0, waiting - int(values.get("deferrable_waiting", 0)))
    joules = values.get("joules_per_token")
    if joules is None:
        joules = values.get("full_joules_per_token", 0.0)
    return PoolView(
        model=name,
        revision=model.revision,
        free_tps=max(0.0, float(values["headroom_tps"]) - firm / max(tpot_s, _LEAST_TPOT_S)),
        waiting=waiting,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        uj_per_token=joules * MICRO,
        points=tuple(PoolPoint(*map(float, each)) for each in values.get("points", ())),
    )


def without_room(view: SiteView) -> SiteView:
    """Return a view without headroom and free tokens: nothing is sent there."""
    pools = {name: replace(pool, free_tps=0.0) for name, pool in view.pools.items()}
    return replace(view, headroom_w=min(0.0, view.headroom_w), surplus_w=0.0, pools=pools)


def _number(value: Any, default: float) -> float:
    """Return a number that is finite, else the default."""
    return float(value) if value is not None and math.isfinite(value) else default
