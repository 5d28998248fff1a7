"""Who may ask, and how much: keys, tenants and limits at the gateway's door.

A middleware finds the caller before anything of the body is read. Handlers charge a request with
`admit`, and `finish` settles it. Energy comes later, from the books: `settle`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from steppe.engine.run_secret import HEADER as RUN_SECRET
from steppe.engine.run_secret import knows
from steppe.errors import SteppeError, UsageError
from steppe.gateway.openai_error import error_body
from steppe.gateway.request import FinishedRequest
from steppe.gateway.sharing.shared_limits import SharedLimits
from steppe.sites.peer import SITE_TENANT
from steppe.tenants.directory import Directory
from steppe.tenants.key import KeyRefusedError, prefix_of
from steppe.tenants.limiter import RequestSize, Taken, TenantLimiter
from steppe.tenants.tenant import NO_TENANTS, KnownTenants, Tenant
from steppe.tenants.usage import LimitReachedError, RequestCharge

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready"})
"""Paths that are answered without a key: load balancers ask them."""
METRICS_PATHS = frozenset({"/metrics", "/metrics/replicas"})
STATUS_PATH = "/steppe/v1/status"
ADMIN_KEY_HEADER = "X-Steppe-Admin-Key"
KEY_HEADERS = ("Authorization", "X-Api-Key", ADMIN_KEY_HEADER, RUN_SECRET)
"""Headers that carry a key (OpenAI's, Anthropic's and ours) or a run's secret: replicas never get
those of a client."""
TENANT_HEADER = "x-steppe-tenant"

_log = logging.getLogger(__name__)


class DeniedError(SteppeError):
    """A caller may not do what it asked for.

    Attributes:
        status: HTTP status: 401, 403 or 429.
        code: The exact reason, for programs.
        retry_after_s: When the same request may succeed, s; None or infinite if waiting is no use.
        param: The header or limit that is at fault, if one is.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after_s: float | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may ask.

    Attributes:
        tenants: Tenants and keys of the configuration.
        store: Path or URL of the database of further tenants; None for none.
        refresh_s: Time between two readings of the store, s.
        trusted_proxies: Addresses or networks whose `x-steppe-tenant` is believed.
        open_metrics: Whether `/metrics` needs no key.
        run_secret: The secret of the run: its own services ask for a tenant with it, as a trusted
            proxy does; empty without one.
    """

    tenants: KnownTenants = NO_TENANTS
    store: str | None = field(default=None, repr=False)  # a URL may contain a password
    refresh_s: float = 5.0
    trusted_proxies: tuple[str, ...] = ()
    open_metrics: bool = False
    run_secret: str = field(default="", repr=False)

    @property
    def is_open(self) -> bool:
        """Whether anybody who reaches the gateway may ask."""
        return not (self.tenants.keys or self.store or self.trusted_proxies)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        tenant: The tenant.
        is_known: Whether it has limits and a place in the metrics; False where no keys are
            configured and the header names some tenant.
        key_id: Public part of its API key; empty without one.
        is_service: Whether a service of this run sent it.
    """

    tenant: Tenant
    is_known: bool = True
    key_id: str = ""
    is_service: bool = False

    @property
    def is_admin(self) -> bool:
        """Whether the request came with an admin key."""
        return self.is_known and self.tenant.is_admin


OPEN = AccessSettings()
CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
NOBODY = Caller(Tenant("default"), is_known=False)


class AccessControl:
    """Finds the caller of each request, and keeps the limits of tenants."""

    def __init__(
        self,
        settings: AccessSettings = OPEN,
        now_s: Callable[[], float] = time.monotonic,
        epoch_s: Callable[[], float] = time.time,
        on_denied: Callable[[str, str], None] = lambda tenant, reason: None,
        is_public: Callable[[web.Request], bool] = lambda request: False,
    ) -> None:
        """Take the tenants of the configuration; `start` reads the store.

        Args:
            settings: Who may ask.
            now_s: Reads the monotonic clock, s.
            epoch_s: Reads the time, s since the Unix epoch, for the expiry of keys.
            on_denied: Gets tenant and reason of each refusal, for the metrics.
            is_public: Returns whether a request needs no key.
        """
        self._settings = settings
        self._now_s, self._epoch_s, self._on_denied = now_s, epoch_s, on_denied
        self._is_public = is_public
        self._proxies = [ipaddress.ip_network(each) for each in settings.trusted_proxies]
        self._directory = Directory(settings.tenants)
        self._read_store: Callable[[], KnownTenants] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._limiter = TenantLimiter()
        self._shared: SharedLimits | None = None

    def share(self, limits: SharedLimits) -> None:
        """Keep the limits together with other gateways."""
        self._shared = limits

    async def start(self) -> None:
        """Read the store, and again from time to time.

        Raises:
            UsageError: It cannot be read.
        """
        if self._settings.store is None:
            return
        self._read_store = await asyncio.to_thread(_open_store, self._settings.store)
        await self._refresh()
        self._refreshing = asyncio.create_task(self._keep_refreshing())

    async def stop(self) -> None:
        """Stop reading the store."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    @property
    def directory(self) -> Directory:
        """The tenants that are known now."""
        return self._directory

    def tenant(self, name: str) -> Tenant | None:
        """Return a tenant as it is now; None for an unknown one."""
        return self._directory.tenant(name)

    @property
    def limiter(self) -> TenantLimiter:
        """What they have used."""
        return self._limiter

    def install(self, application: web.Application) -> None:
        """Check every request of an application, and add the rate limits to every response."""
        application.middlewares.append(self._middleware())
        application.on_response_prepare.append(self._add_rate_limits)

    @property
    def is_open(self) -> bool:
        """Whether anybody who reaches the gateway may ask."""
        return self._settings.is_open

    def is_proxy(self, address: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        return self._is_proxy(address)

    def require_admin(self, request: web.Request) -> None:
        """Refuse a caller without an admin key; where no keys are configured, every caller.

        Raises:
            DeniedError: It has none.
        """
        caller = request.get(CALLER, NOBODY)
        if not caller.is_admin:
            found = "no keys are configured" if self._settings.is_open else caller.tenant.name
            message = f"{request.path}: asked for an admin key, found {found}"
            raise DeniedError(403, "admin_key_required", message)

    def check_model(self, request: web.Request, model: str | None) -> None:
        """Refuse a model that the caller may not ask for; None is the default model.

        Raises:
            DeniedError: It may not.
        """
        tenant = request.get(CALLER, NOBODY).tenant
        if model is not None and not tenant.may_ask_for(model):
            allowed = ", ".join(tenant.models or ())
            message = f"model: {tenant.name} may ask for {allowed}, found {model!r:.100}"
            raise DeniedError(403, "model_not_allowed", message, param="model")

    async def admit(self, request: web.Request, size: RequestSize) -> RequestCharge | None:
        """Charge a request to its caller; give the charge to `finish`.

        Raises:
            DeniedError: A limit of the tenant is reached.
        """
        caller = request.get(CALLER, NOBODY)
        if not caller.is_known:
            return None
        try:
            if self._shared is not None:
                return await self._shared.admit(caller.tenant, size)
            return self._limiter.admit(caller.tenant, self._now_s(), size)
        except LimitReachedError as error:
            never = math.isinf(error.retry_after_s)
            code = "request_too_large" if never else "rate_limit_exceeded"
            raise DeniedError(
                429, code, f"{caller.tenant.name}: {error}", error.retry_after_s, error.limit
            ) from error

    def finish(self, charge: RequestCharge | None, finished: FinishedRequest | None = None) -> None:
        """Settle a request by its response; one that no replica had took nothing."""
        if charge is None:
            return
        if finished is None or not finished.was_served:
            taken, id_ = Taken(0, 0, 0.0), ""
        else:
            taken, id_ = Taken(finished.prompt_tokens, finished.output_tokens), finished.id
        if self._shared is not None:
            self._shared.end(id_, charge, taken)
        else:
            self._limiter.end(id_, charge, self._now_s(), taken)

    def settle(self, request_id: str, tenant: str, taken: Taken) -> None:
        """Charge a request of a tenant that has ended what the books say that it took."""
        if self._shared is not None:
            self._shared.settle(request_id, self._directory.tenant(tenant), taken)
        else:
            self._limiter.settle(request_id, self._now_s(), taken)

    def _middleware(self) -> Middleware:
        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                if request.path not in OPEN_PATHS and not self._is_public(request):
                    request[CALLER] = self.caller(request)
                return await handler(request)
            except DeniedError as error:
                return self._denied(request, error)

        return check

    def caller(self, request: web.Request) -> Caller:
        """Return who sent a request.

        Raises:
            DeniedError: Its key is missing or refused.
        """
        named, is_service = request.headers.get(TENANT_HEADER), self._is_service(request)
        if named is not None and named.startswith(SITE_TENANT) and not is_service:
            raise _unknown_tenant(named)
        if self._settings.is_open:
            name = named or "default"
            known = self._directory.tenant(name)
            caller = Caller(known or Tenant(name), is_known=known is not None)
            return replace(caller, is_service=is_service)
        is_metrics = request.path in METRICS_PATHS
        if is_metrics and self._settings.open_metrics:
            return NOBODY
        if is_service and named is None and _reads_status(request):
            return replace(NOBODY, is_service=True)  # the sites service
        key_id = ""
        if named is not None and (is_service or self._is_proxy(request.remote)):
            tenant = self._directory.tenant(named)
            if tenant is None:
                raise _unknown_tenant(named)
        else:
            tenant, key_id = self._owner(request)
        if is_metrics and not tenant.is_admin:
            message = f"{request.path}: asked for an admin key, found one of {tenant.name}"
            raise DeniedError(403, "admin_key_required", message)
        return Caller(tenant, key_id=key_id, is_service=is_service)

    def _owner(self, request: web.Request) -> tuple[Tenant, str]:
        """Return the tenant of the key of a request, and the public part of that key."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            key = request.headers.get("X-Api-Key", "")
        elif scheme.lower() != "bearer":
            raise DeniedError(401, "invalid_api_key", "Authorization: asked for Bearer KEY")
        if not key:
            message = "asked for the header Authorization: Bearer KEY, found none"
            raise DeniedError(401, "missing_api_key", message)
        try:
            tenant = self._directory.owner(key.strip(), self._epoch_s())
        except KeyRefusedError as error:
            raise DeniedError(401, "invalid_api_key", str(error)) from error
        if tenant.name.startswith(SITE_TENANT):
            message = f"asked for the key of a tenant, found one of {tenant.name}: sites have none"
            raise DeniedError(401, "invalid_api_key", message)
        return tenant, prefix_of(key.strip())

    def _is_service(self, request: web.Request) -> bool:
        """Return whether a request comes from a service of this run."""
        secret = self._settings.run_secret
        return bool(secret) and knows(secret, request.headers.get(RUN_SECRET, "").encode())

    def _is_proxy(self, remote: str | None) -> bool:
        try:
            address = ipaddress.ip_address((remote or "").partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._proxies)

    def _denied(self, request: web.Request, error: DeniedError) -> web.Response:
        caller = request.get(CALLER)
        self._on_denied("" if caller is None else caller.tenant.name, error.code)
        type_ = "rate_limit_error" if error.status == 429 else "invalid_request_error"
        body = error_body(str(error), type_=type_, code=error.code, param=error.param)
        response = web.Response(status=error.status, body=body, content_type="application/json")
        if error.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if error.retry_after_s is not None and not math.isinf(error.retry_after_s):
            response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        return response

    async def _add_rate_limits(self, request: web.Request, response: web.StreamResponse) -> None:
        caller = request.get(CALLER, NOBODY)
        if not caller.is_known:
            return
        shared = self._shared
        states = (
            self._limiter.states(caller.tenant, self._now_s())
            if shared is None
            else shared.states(caller.tenant)
        )
        for name, state in states.items():
            response.headers[f"x-ratelimit-limit-{name}"] = str(state.limit)
            response.headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
            response.headers[f"x-ratelimit-reset-{name}"] = _duration(state.reset_s)

    async def _refresh(self) -> None:
        assert self._read_store is not None, "start has opened the store"
        stored = await asyncio.to_thread(self._read_store)
        self._directory = Directory(self._settings.tenants, stored)

    async def _keep_refreshing(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_s)
            try:
                await self._refresh()
            except UsageError as error:  # the tenants of the last reading stay
                _log.warning("%s", error)


def _reads_status(request: web.Request) -> bool:
    """Return whether a request reads the status, and comes without the key of a tenant."""
    has_key = any(name in request.headers for name in ("Authorization", "X-Api-Key"))
    return request.method == "GET" and request.path == STATUS_PATH and not has_key


def _unknown_tenant(named: str) -> DeniedError:
    message = f"{TENANT_HEADER}: asked for a known tenant, found {named!r:.100}"
    return DeniedError(403, "unknown_tenant", message, param=TENANT_HEADER)


def drop_keys(headers: CIMultiDict[str]) -> None:
    """Remove what a replica may not get."""
    for name in KEY_HEADERS:
        headers.popall(name, None)


def _open_store(place: str) -> Callable[[], KnownTenants]:
    from steppe.tenants.store import TenantStore  # most gateways have none

    return partial(TenantStore.read, TenantStore(place))


def _duration(seconds: float) -> str:
    """Return a time as OpenAI writes it, such as `6m0s` or `200ms`."""
    if seconds < 1:
        return f"{math.ceil(1000 * seconds)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
