"""Steppe's own API beside OpenAI's: `/steppe/v1/...`, without the administration."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from steppe.gateway.access import CALLER, NOBODY, AccessControl
from steppe.gateway.answers import error_answer, json_answer
from steppe.gateway.ended_requests import EndedRequest
from steppe.gateway.fleet_state import FleetState
from steppe.gateway.model_counts import ModelCounts
from steppe.gateway.pools import Pools
from steppe.gateway.request_energy import EnergyBook
from steppe.gateway.sharing.messages import NONE
from steppe.gateway.sharing.sharing import Sharing
from steppe.gateway.usage import UsageTable
from steppe.sites.peer import SITE_TENANT
from steppe.tenants.tenant import Tenant


class SteppeApi:
    """Requests that have ended, usage, and the state of the fleet."""

    def __init__(
        self,
        energy: EnergyBook,
        usage: UsageTable,
        fleet: FleetState,
        pools: Pools,
        access: AccessControl,
        *,
        now_s: Callable[[], float],
    ) -> None:
        """Create it from the objects that it shows.

        It asks other gateways once `sharing` is set, and shows the last minute of the requests once
        `counts` is.
        """
        self.sharing: Sharing | None = None
        self.counts: Mapping[str, ModelCounts] = {}
        self._now_s = now_s
        self._energy, self._usage, self._fleet = energy, usage, fleet
        self._pools, self._access = pools, access

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/status", self.show_status)
        router.add_get("/steppe/v1/usage", self.show_usage)
        router.add_get("/steppe/v1/requests/{id}", self.show_request)

    async def show_status(self, _request: web.Request) -> web.Response:
        """Return the state of the fleet: power, models, plan, shortages and forecast."""
        return json_answer(self.status())

    def status(self) -> dict[str, Any]:
        """Return what the status call answers."""
        models = {}
        for pool in self._pools:
            name, gate = pool.model.name, pool.gate
            others = NONE if self.sharing is None else self.sharing.of_others(name)
            outstanding = sum(gate.table.all_outstanding().values())
            models[name] = {
                "awake": 0 if gate.is_stale else len(gate.table.candidates()),
                "waiting": gate.waiting + others.waiting,
                "deferrable_waiting": gate.deferrable + others.deferrable,
                "outstanding": outstanding + others.outstanding,
                "serves_in_s": gate.capacity_in_s(),
                "joules_per_token": self._energy.joules_per_token(name),
                **self._recent(name),
                **self._fleet.of_model(name),
            }
        age_s = self._pools.routes_age_s
        return {
            "object": "steppe.status",
            "controller": {
                "age_s": None if math.isnan(age_s) else age_s,
                "stale": self._pools.is_stale,
            },
            **self._fleet.values,
            "request_energy_j": dict(self._energy.by_priority_j),
            "models": models,
        }

    def _recent(self, model: str) -> dict[str, Any]:
        """Return the last minute of the requests for a model.

        Of several gateways each has about the same part of the requests.
        """
        if model not in self.counts:
            return {}
        recent, now_s = self.counts[model].recent, self._now_s()
        gate = self._pools.of(model).gate
        asked = recent.demand_tps(now_s, gate.waiting - gate.deferrable, gate.deferrable)
        gateways = 1 if self.sharing is None else max(1, len(self.sharing.places.share.gateways))
        sums: defaultdict[tuple[str, tuple[str, ...] | None, str], float] = defaultdict(float)
        for (name, priority), output_tps in asked.items():
            if name.startswith(SITE_TENANT):
                continue
            tenant = self._access.directory.tenant(name) or Tenant(name)
            sums[priority, tenant.regions, tenant.data_class] += gateways * output_tps
        return {
            "ttft_p95_s": recent.ttft_p95_s(now_s),
            "tpot_mean_s": recent.tpot_mean_s(now_s),
            "demand": [
                {
                    "priority": priority,
                    "regions": regions,
                    "data_class": data_class,
                    "output_tps": output_tps,
                }
                for (priority, regions, data_class), output_tps in sums.items()
            ],
        }

    async def find(self, id_: str) -> EndedRequest | None:
        """Return a request that ended lately at any gateway; None if none is known."""
        ended = self._energy.ended.get(id_)
        if ended is None and self.sharing is not None:
            ended = await self.sharing.find(id_)
        return ended

    async def show_request(self, request: web.Request) -> web.Response:
        """Return a request that has ended, with its energy."""
        id_, tenant = request.match_info["id"], _tenant_of(request)
        ended = await self.find(id_)
        if ended is None or tenant not in (None, ended.request.tenant):
            message = f"asked for request {id_[:128]}, found none that ended lately"
            return _invalid(404, message, code="request_not_found", param="id")
        return json_answer(ended.shown())

    async def show_usage(self, request: web.Request) -> web.Response:
        """Return the usage by tenant, model and hour."""
        query, own = request.query, _tenant_of(request)
        tenant = query.get("tenant", own)
        if own is not None and tenant != own:
            message = f"asked for tenant {tenant}, found a key of tenant {own}"
            return _invalid(403, message, code="forbidden", param="tenant")
        try:
            since_s = _epoch_s(query["since"]) if "since" in query else 0.0
        except ValueError:
            message = f"since: asked for a time in ISO 8601, found {query['since'][:60]!r}"
            return _invalid(400, message, code="invalid_value", param="since")
        rows = self._usage.rows(tenant, query.get("model"), since_s)
        body = orjson.dumps({"object": "list", "data": [row.shown() for row in rows]})
        return web.Response(body=body, content_type="application/json")


def _tenant_of(request: web.Request) -> str | None:
    """Return the tenant whose requests a client may see; None for all."""
    caller = request.get(CALLER, NOBODY)
    return caller.tenant.name if caller.is_known and not caller.is_admin else None


def _epoch_s(text: str) -> float:
    """Return a time in ISO 8601, UTC without an offset, as s since the Unix epoch."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _invalid(status: int, message: str, *, code: str, param: str) -> web.Response:
    return error_answer(status, message, type_="invalid_request_error", code=code, param=param)
