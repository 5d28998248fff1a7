"""Can requests be served soon, and when may one that was refused come back?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from aiohttp import web

from steppe.gateway.answers import error_answer
from steppe.gateway.gate_errors import RefusedError
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.pools import Pool, Pools
from steppe.gateway.request_tracker import RequestTracker

READY_WITHIN_S = 5.0
"""`/health/ready` is 200 if a replica is awake, or is forecast to be within this time, s."""
REQUEST_ID = "X-Request-Id"
_UNKNOWN_RETRY_S = 10.0
"""`Retry-After` without a forecast and without requests that finish, s."""


class Availability:
    """What the pools have room for."""

    def __init__(
        self,
        pools: Pools,
        tracker: RequestTracker,
        metrics: GatewayMetrics,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create it.

        Args:
            pools: Admission of requests, and the awake replicas of each model.
            tracker: Counts the requests that finish.
            metrics: Gets each refusal.
            now_s: Reads the monotonic clock, s.
        """
        self._pools, self._tracker, self._metrics = pools, tracker, metrics
        self._now_s = now_s

    def problem(self) -> str | None:
        """Return why no request for any model can be served soon; None if one can."""
        if self._pools.is_stale:
            return f"the controller has been silent for {self._pools.routes_age_s:.0f} s"
        if self._pools.candidates():
            return None
        known = (pool.gate.capacity_in_s() for pool in self._pools)
        capacity_in_s = min((in_s for in_s in known if in_s is not None), default=None)
        if capacity_in_s is None:
            return "no replica is awake, and it is unknown when one will be"
        if capacity_in_s <= READY_WITHIN_S:
            return None
        return f"no replica is awake; one is forecast in {math.ceil(capacity_in_s)} s"

    def refusal(self, refused: RefusedError, *pools: Pool, id_: str = "") -> web.Response:
        """Return the 503 for a request that any of these pools could have served; count it."""
        self._metrics.reject(refused.code)
        response = error_answer(503, str(refused), type_="overloaded", code=refused.code)
        response.headers["Retry-After"] = self.retry_after(*pools)
        if id_:
            response.headers[REQUEST_ID] = id_
        return response

    def retry_after(self, *pools: Pool) -> str:
        """Return the `Retry-After`, s: the least over the pools that may serve the request."""
        return str(max(1, math.ceil(min(self._retry_s(pool) for pool in pools))))

    def _retry_s(self, pool: Pool) -> float:
        """Return the forecast of capacity of a pool, or the time to serve its queue, s."""
        retry_s = pool.gate.capacity_in_s()
        if retry_s is not None:
            return retry_s
        finished_rps = self._tracker.counts[pool.model.name].ends.per_s(self._now_s())
        return pool.gate.waiting / finished_rps if finished_rps else _UNKNOWN_RETRY_S
