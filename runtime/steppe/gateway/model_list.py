"""The list of models for clients: what the engines say of them, and their state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from steppe.gateway.alias_shares import AliasShares
from steppe.gateway.fleet_state import FleetState
from steppe.gateway.pools import Pool, Pools
from steppe.gateway.request_energy import EnergyBook

ASK_TIMEOUT_S = 2.0
"""A replica that does not list its models in this time is passed over, s."""
KEPT_S = 10.0
"""How long the answer of a replica is used again, s."""

_STATES = ("awake", "waking", "asleep")

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a replica answered.

    Attributes:
        at_s: When, s on the monotonic clock.
        entries: Its models: the base model and the adapters.
    """

    at_s: float
    entries: tuple[Entry, ...]


class ModelList:
    """Lists the models of all pools, in OpenAI's shape.

    While a replica of a pool is awake, its engine's own fields, such as `max_model_len`, are in the
    list; while none is, those that were seen last.
    """

    def __init__(
        self,
        pools: Pools,
        session: aiohttp.ClientSession,
        energy: EnergyBook,
        fleet: FleetState,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a list; `now_s` reads the monotonic clock, s."""
        self._pools, self._session, self._now_s = pools, session, now_s
        self._energy, self._fleet = energy, fleet
        self._listed: dict[str, _Listed] = {}

    async def entries(self) -> list[Entry]:
        """Return every model and adapter, those of each pool together, and then the aliases."""
        of_pools = await asyncio.gather(*(self._entries_of(pool) for pool in self._pools))
        aliases = [self._alias(alias) for alias in self._pools.aliases.values()]
        return [*(entry for entries in of_pools for entry in entries), *aliases]

    def _alias(self, alias: AliasShares) -> Entry:
        """Return an alias: the share of each variant, and the state of the one that serves next."""
        states = [self._state(pool) for pool in self._pools.variants_of(alias)]
        best = min(states, key=lambda state: _STATES.index(state["state"]))
        state: dict[str, Any] = {
            "state": best["state"],
            "awake": sum(each["awake"] for each in states),
            "waiting": sum(each["waiting"] for each in states),
            "variants": dict(alias.shares),
        }
        return {**_plain(alias.name, alias.name), "steppe": state}

    async def _entries_of(self, pool: Pool) -> list[Entry]:
        name = pool.model.name
        listed = self._listed.get(name)
        if listed is None or self._now_s() - listed.at_s >= KEPT_S:
            found = await self._ask(pool)
            if found is not None:
                listed = self._listed[name] = _Listed(self._now_s(), found)
        known = {} if listed is None else {entry["id"]: entry for entry in listed.entries}
        state = self._state(pool)
        missing = [_plain(id_, name) for id_ in pool.model.names if id_ not in known]
        entries = sorted([*known.values(), *missing], key=lambda entry: entry["id"] != name)
        return [{**entry, "steppe": state} for entry in entries]

    async def _ask(self, pool: Pool) -> tuple[Entry, ...] | None:
        """Return what the first replica that answers lists; None if none does."""
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        for route in pool.gate.table.candidates():
            try:
                async with self._session.get(f"{route.url}/v1/models", timeout=timeout) as answer:
                    return _read(await answer.json(content_type=None))
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                continue
        return None

    def _state(self, pool: Pool) -> dict[str, Any]:
        gate = pool.gate
        awake = 0 if gate.is_stale else len(gate.table.candidates())
        in_s = gate.capacity_in_s()
        state: dict[str, Any] = {
            "state": "awake" if awake else "asleep" if in_s is None else "waking",
            "awake": awake,
            "waiting": gate.waiting,
        }
        if not awake and in_s is not None:
            state["serves_in_s"] = in_s
        of_fleet = self._fleet.of_model(pool.model.name)
        known = ("replicas", "output_tps", "headroom_tps")
        state |= {name: of_fleet[name] for name in known if name in of_fleet}
        per_token_j = self._energy.joules_per_token(pool.model.name)
        return state if per_token_j is None else {**state, "joules_per_token": per_token_j}


def _read(answer: object) -> tuple[Entry, ...] | None:
    match answer:
        case {"data": [*entries]}:
            return tuple(e for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str))
        case _:
            return None


def _plain(id_: str, base: str) -> Entry:
    """Return the entry of a model of which no engine has said anything."""
    entry: Entry = {"id": id_, "object": "model", "created": 0, "owned_by": "steppe"}
    return entry if id_ == base else {**entry, "parent": base, "root": id_}
