"""Charges the requests of all tenants against their limits, and settles what they really took."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.tenants.tenant import Tenant
from steppe.tenants.usage import LimitState, RequestCharge, TenantUsage

USUAL_OUTPUT_TOKENS, LONG_OUTPUT_TOKENS = 256.0, 1024.0
"""Mean and large output of a request that gives no maximum, before one has ended, tokens."""
LONGEST_SETTLE_S = 600.0
"""A request whose energy was not reported by then keeps its estimate, s."""
_MEMORY = 0.98
"""Weight that the requests so far keep in a mean as another one ends: the last 50 count."""
_LONG_MEMORY = 0.9995
"""The same for the longest output: it halves in 1,400 requests."""


@dataclass(frozen=True, slots=True)
class RequestSize:
    """What is known about the tokens of a request when it arrives.

    Attributes:
        prompt_tokens: Tokens of its prompt; an estimate for a text.
        max_output_tokens: Most output tokens, of all its sequences; None if it gives no maximum.
    """

    prompt_tokens: int = 0
    max_output_tokens: int | None = None


NO_TOKENS = RequestSize(0, 0)
"""A request that generates nothing."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request took, as far as it is known; None is unknown.

    Attributes:
        prompt_tokens: Tokens of its prompt.
        output_tokens: Tokens generated.
        joules: Energy, J.
    """

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    joules: float | None = None

    @property
    def tokens(self) -> int | None:
        """Prompt and output tokens."""
        if self.prompt_tokens is None or self.output_tokens is None:
            return None
        return self.prompt_tokens + self.output_tokens


class TenantLimiter:
    """The usage of every tenant; times are s, monotonic."""

    def __init__(self) -> None:
        self._usage: dict[str, TenantUsage] = {}
        self._unsettled: dict[str, tuple[float, RequestCharge]] = {}  # by request, oldest end first
        self._output_tokens = USUAL_OUTPUT_TOKENS
        self._longest: dict[str, float] = {}  # output of each tenant, tokens
        self._joules, self._tokens = 0.0, 0.0

    def usage(self, tenant: str) -> TenantUsage:
        """Return what a tenant has used."""
        return self._usage.setdefault(tenant, TenantUsage())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tenants that have used anything."""
        return tuple(self._usage)

    def admit(self, tenant: Tenant, now_s: float, size: RequestSize) -> RequestCharge:
        """Charge a new request what it may take; give the charge to `end` later.

        An output without a maximum is charged like the tenant's longest recent one: what the
        request does not take is given back when it ends, and what it takes beyond exceeds the
        limit. Such a request fits at least if nothing else was used.

        Raises:
            LimitReachedError: A limit does not allow it.
        """
        output: float | None = size.max_output_tokens
        if output is None:
            output = self._longest.get(tenant.name, LONG_OUTPUT_TOKENS)
            limit = tenant.limits.tokens_per_minute
            output = output if limit is None else min(output, max(0, limit - size.prompt_tokens))
        tokens = max(1.0, size.prompt_tokens + output)
        joules = tokens * self._joules / self._tokens if self._tokens else 0.0
        return self.usage(tenant.name).admit(tenant.name, tenant.limits, now_s, tokens, joules)

    def expected_tokens(self, size: RequestSize) -> float:
        """Return the tokens that a request is expected to take, at least 1."""
        output = size.max_output_tokens
        return max(1.0, size.prompt_tokens + (self._output_tokens if output is None else output))

    def end(self, request: str, charge: RequestCharge, now_s: float, taken: Taken) -> None:
        """Note the end of a request, and what its response says that it took.

        What is not known yet keeps its estimate until `settle`.
        """
        usage = self.usage(charge.tenant)
        usage.end(charge, now_s)
        self._settle(usage, charge, now_s, taken)
        self._learn_length(charge.tenant, taken)
        self._forget(now_s)
        if taken.tokens is None or taken.joules is None:
            self._unsettled[request] = (now_s, charge)

    def settle(self, request: str, now_s: float, taken: Taken) -> None:
        """Charge a request that has ended what it took; an unknown request changes nothing."""
        _, charge = self._unsettled.pop(request, (0.0, None))
        if charge is None:
            return
        self._settle(self.usage(charge.tenant), charge, now_s, taken)
        self._learn_length(charge.tenant, taken)
        if taken.joules and taken.tokens:
            self._joules = _MEMORY * self._joules + taken.joules
            self._tokens = _MEMORY * self._tokens + taken.tokens

    def states(self, tenant: Tenant, now_s: float) -> dict[str, LimitState]:
        """Return the limits that a tenant has, by `requests` and `tokens`."""
        usage = self.usage(tenant.name)
        found = {
            "requests": usage.requests_state(tenant.limits, now_s),
            "tokens": usage.tokens_state(tenant.limits, now_s),
        }
        return {name: state for name, state in found.items() if state is not None}

    @staticmethod
    def _settle(usage: TenantUsage, charge: RequestCharge, now_s: float, taken: Taken) -> None:
        if taken.tokens is not None:
            usage.settle_tokens(charge, now_s, taken.tokens)
        if taken.joules is not None:
            usage.settle_energy(charge, now_s, taken.joules)

    def _learn_length(self, tenant: str, taken: Taken) -> None:
        if taken.output_tokens:
            more = (1 - _MEMORY) * (taken.output_tokens - self._output_tokens)
            self._output_tokens += more
            longest = _LONG_MEMORY * self._longest.get(tenant, LONG_OUTPUT_TOKENS)
            self._longest[tenant] = max(taken.output_tokens, longest)

    def _forget(self, now_s: float) -> None:
        """Drop the requests whose energy is not expected any more."""
        while self._unsettled:
            request, (ended_s, _) = next(iter(self._unsettled.items()))
            if now_s - ended_s < LONGEST_SETTLE_S:
                return
            del self._unsettled[request]
