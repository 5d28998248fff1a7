"""What one tenant has used, and whether it may have one more request."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steppe.errors import SteppeError
from steppe.tenants.tenant import TenantLimits
from steppe.tenants.window import SlidingWindow

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
USUAL_REQUEST_S = 5.0
"""Length of a request before one has ended, s, for the `Retry-After` of `concurrency`."""
_MEMORY = 0.9
"""Weight that the lengths so far keep as another request ends."""


class LimitReachedError(SteppeError):
    """A tenant asks for more than its limits allow.

    Attributes:
        limit: The limit's name, a field of `TenantLimits`.
        retry_after_s: Time until the same request fits, s; infinite if it never does.
    """

    def __init__(self, limit: str, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.limit, self.retry_after_s = limit, retry_after_s


@dataclass(slots=True)
class RequestCharge:
    """What one request was charged when it was admitted, until it is settled.

    Attributes:
        tenant: Name of its tenant.
        at_s: When it was admitted, s.
        tokens: Prompt and output tokens charged.
        joules: Energy charged, J.
    """

    tenant: str
    at_s: float
    tokens: float
    joules: float


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit as a client sees it.

    Attributes:
        limit: Most in the window.
        remaining: What is left of it.
        reset_s: Time until all of it is left again, s.
    """

    limit: int
    remaining: int
    reset_s: float


Parts = tuple[tuple[float, float], ...]
"""Ages, s, and amounts, see `SlidingWindow.parts`."""


@dataclass(frozen=True, slots=True)
class UsedSoFar:
    """What a tenant has used within the windows of its limits.

    Attributes:
        requests: Requests.
        tokens: Prompt and output tokens.
        hour_j: Energy of the last hour, J.
        day_j: Energy of the last 24 hours, J.
    """

    requests: Parts = ()
    tokens: Parts = ()
    hour_j: Parts = ()
    day_j: Parts = ()


class TenantUsage:
    """What a tenant has used within the windows of its limits; times are s, monotonic."""

    def __init__(self) -> None:
        self._requests, self._tokens = SlidingWindow(MINUTE_S), SlidingWindow(MINUTE_S)
        self._hour_j, self._day_j = SlidingWindow(HOUR_S), SlidingWindow(DAY_S)
        self._open = 0
        self._request_s = USUAL_REQUEST_S

    @property
    def open(self) -> int:
        """Requests that are open now."""
        return self._open

    def admit(
        self, tenant: str, limits: TenantLimits, now_s: float, tokens: float, joules: float
    ) -> RequestCharge:
        """Charge a new request; give its place back with `end`.

        Args:
            tenant: Name of the tenant.
            limits: Its limits.
            now_s: The time, s.
            tokens: Prompt and output tokens that the request is expected to take.
            joules: Energy that it is expected to take, J.

        Raises:
            LimitReachedError: A limit does not allow it; nothing is charged.
        """
        if limits.concurrency is not None and self._open >= limits.concurrency:
            retry_s = self._request_s / limits.concurrency
            message = f"asked for at most {limits.concurrency} requests at the same time"
            raise LimitReachedError("concurrency", message, retry_s)
        for name, window, limit, amount in self._asked(limits, tokens, joules):
            retry_s = window.room_in_s(now_s, limit, amount)
            if retry_s > 0:
                raise _reached(name, limit, window.total(now_s), amount, retry_s)
        self._open += 1
        self._requests.add(now_s, 1)
        self._tokens.add(now_s, tokens)
        self._hour_j.add(now_s, joules)
        self._day_j.add(now_s, joules)
        return RequestCharge(tenant, now_s, tokens, joules)

    def so_far(self, now_s: float) -> UsedSoFar:
        """Return what was used, for `add`."""
        windows = (self._requests, self._tokens, self._hour_j, self._day_j)
        return UsedSoFar(*(window.parts(now_s) for window in windows))

    def add(self, used: UsedSoFar, now_s: float) -> None:
        """Add what was used elsewhere."""
        self._requests.merge(now_s, used.requests)
        self._tokens.merge(now_s, used.tokens)
        self._hour_j.merge(now_s, used.hour_j)
        self._day_j.merge(now_s, used.day_j)

    def reopen(self) -> None:
        """Count one more open request, whose amounts are counted already."""
        self._open += 1

    def end(self, charge: RequestCharge, now_s: float) -> None:
        """Note that a request has ended."""
        self._open -= 1
        self._request_s = _MEMORY * self._request_s + (1 - _MEMORY) * (now_s - charge.at_s)

    def settle_tokens(self, charge: RequestCharge, now_s: float, tokens: float) -> None:
        """Replace the tokens that a request was charged by those that it took."""
        _settle(self._tokens, charge.at_s, now_s, charge.tokens, tokens)
        charge.tokens = tokens

    def settle_energy(self, charge: RequestCharge, now_s: float, joules: float) -> None:
        """Replace the energy that a request was charged by what it took, J."""
        _settle(self._hour_j, charge.at_s, now_s, charge.joules, joules)
        _settle(self._day_j, charge.at_s, now_s, charge.joules, joules)
        charge.joules = joules

    def requests_state(self, limits: TenantLimits, now_s: float) -> LimitState | None:
        """Return the state of `requests_per_minute`; None without that limit."""
        return _state(self._requests, limits.requests_per_minute, now_s)

    def tokens_state(self, limits: TenantLimits, now_s: float) -> LimitState | None:
        """Return the state of `tokens_per_minute`; None without that limit."""
        return _state(self._tokens, limits.tokens_per_minute, now_s)

    def energy_j(self, now_s: float) -> tuple[float, float]:
        """Return the energy of the last hour and of the last 24 hours, J."""
        return self._hour_j.total(now_s), self._day_j.total(now_s)

    def _asked(
        self, limits: TenantLimits, tokens: float, joules: float
    ) -> list[tuple[str, SlidingWindow, float, float]]:
        """Return name, window, limit and charged amount of each limit that is set."""
        of_energy = (
            ("joules_per_hour", self._hour_j, limits.joules_per_hour),
            ("joules_per_day", self._day_j, limits.joules_per_day),
        )
        found: list[tuple[str, SlidingWindow, float, float]] = []
        if limits.requests_per_minute is not None:
            found.append(("requests_per_minute", self._requests, limits.requests_per_minute, 1))
        if limits.tokens_per_minute is not None:
            found.append(("tokens_per_minute", self._tokens, limits.tokens_per_minute, tokens))
        # An estimate of energy above the whole limit may be wrong, so such a request may try alone.
        found += [
            (name, window, limit, min(joules, limit))
            for name, window, limit in of_energy
            if limit is not None
        ]
        return found


def _settle(window: SlidingWindow, at_s: float, now_s: float, charged: float, used: float) -> None:
    if used > charged:
        window.add(now_s, used - charged)
    else:
        window.give_back(at_s, now_s, charged - used)


def _state(window: SlidingWindow, limit: int | None, now_s: float) -> LimitState | None:
    if limit is None:
        return None
    remaining = max(0, math.floor(limit - window.total(now_s)))
    return LimitState(limit, remaining, window.reset_s(now_s))


def _reached(
    name: str, limit: float, used: float, amount: float, retry_s: float
) -> LimitReachedError:
    unit = name.split("_", maxsplit=1)[0]
    found = f"found {used:.6g} used and {amount:.6g} more"
    if math.isinf(retry_s):
        found = f"found a single request of {amount:.6g}, which never fits"
    message = f"{name}: asked for at most {limit:.16g} {unit}, {found}"
    return LimitReachedError(name, message, retry_s)
