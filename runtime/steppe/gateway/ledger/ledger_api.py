"""The ledger's door: receipts, balance, tariffs, quotes and the log, for tenants.

The ledger answers; access control has found the tenant by then. The heads and hashes of the log are
public, as those of a transparency log have to be: they need no key. Its entries are the receipts of
all tenants, so those need an admin key.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from steppe.gateway.access import CALLER, NOBODY, AccessControl
from steppe.gateway.answers import error_answer, json_answer
from steppe.gateway.bodies import Bodies
from steppe.gateway.ended_requests import EndedRequest
from steppe.gateway.ledger.link import UNAVAILABLE, LedgerLink
from steppe.gateway.request import UNSERVED, FinishedRequest, RequestContext
from steppe.gateway.run_service import RunService, ServiceSilentError, service_tenant, unavailable
from steppe.tenants.limiter import NO_TOKENS

PREFIX = "/steppe/v1/"
ANSWER_S = 30.0
"""Longest time in which the ledger may send nothing of its answer, s."""
RETRY_AFTER_S = 2
"""When the receipt of a request that has just ended may be there, s: the meters are read first."""
_READS = (
    "receipts",
    "receipts/{id}",
    "receipts/{id}/proof",
    "balance",
    "tariffs",
    "tariffs/{id}",
    "tariffs/{id}/proof",
    "log/{tail:.+}",
)
_NUMBER = r"(?:x\d{3}/)*\d{3}(?:\.p/\d{1,3})?"
_ENTRIES = re.compile(rf"/steppe/v1/log/tile/entries/{_NUMBER}", re.ASCII)
_PUBLIC = re.compile(rf"/steppe/v1/log/(?:checkpoint|key|tile/\d{{1,2}}/{_NUMBER})", re.ASCII)
"""Paths of the log, as c2sp.org/tlog-tiles has them."""

Find = Callable[[str], Awaitable[EndedRequest | None]]


def is_public(raw_path: str) -> bool:
    """Return whether a path, as the client wrote it, is a public part of the log."""
    return _PUBLIC.fullmatch(raw_path) is not None


class LedgerApi:
    """Forwards calls about receipts and accounts.

    Attributes:
        find_open: Returns an open request, by its id; None if there is none.
        find_ended: Returns a request that ended lately, at any gateway.
    """

    def __init__(
        self,
        link: LedgerLink | None,
        access: AccessControl,
        bodies: Bodies,
        service: RunService,
    ) -> None:
        """Create it.

        Args:
            link: How the gateway uses the ledger; None without one.
            access: Charges calls to tenants.
            bodies: Reads bodies.
            service: The ledger.
        """
        self._link, self._access, self._bodies = link, access, bodies
        self._service = service
        self.find_open: Callable[[str], RequestContext | None] = lambda id_: None
        self.find_ended: Find = _find_none

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        for path in _READS:
            router.add_get(PREFIX + path, self.forward)
        router.add_post(PREFIX + "quote", self.forward)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer a call with what the ledger answers."""
        if self._link is None:
            what = f"{request.method} {request.path}: asked for the ledger"
            found = "found no section ledger in the configuration of this run"
            return _not_found(f"{what}, {found}", "ledger_not_configured")
        tenant = service_tenant(request)
        refused = self._refuse_entries(request)
        if refused is not None:
            return refused
        if request.method != "POST":
            return await self._send(request, tenant, b"")
        charge = await self._access.admit(request, NO_TOKENS)
        try:
            return await self._send(request, tenant, await self._bodies.read(request))
        finally:
            self._access.finish(charge)

    def _refuse_entries(self, request: web.Request) -> web.Response | None:
        """Return the refusal of a path of the log that is none; check who asks for entries.

        Raises:
            DeniedError: The entries are asked for without an admin key.
        """
        path = request.raw_path
        # the decoded path: an escaped letter leads to the same route
        if not request.path.startswith(PREFIX + "log/") or is_public(path):
            return None
        if _ENTRIES.fullmatch(path) is None:
            message = f"{request.path[:128]}: asked for a part of the log, found none of this name"
            return _not_found(message, "not_found")
        if not self._access.is_open:
            self._access.require_admin(request)
        return None

    async def _send(self, request: web.Request, tenant: str, body: bytes) -> web.StreamResponse:
        try:
            async with self._service.send(request, tenant, body, ANSWER_S) as answer:
                id_ = request.match_info.get("id", "")
                if answer.status == 404 and request.path.startswith(PREFIX + "receipts/"):
                    early = await self._early(request, id_)
                    if early is not None:
                        return early
                return await answer.relay(request)
        except ServiceSilentError as error:
            return unavailable(str(error), UNAVAILABLE)

    async def _early(self, request: web.Request, id_: str) -> web.Response | None:
        """Return the 202 for a request that is going to have a receipt; None for others."""
        tenant = request.get(CALLER, NOBODY).tenant.name
        context = self.find_open(id_)
        if context is not None and context.headers.tenant == tenant:
            return _accepted(id_, "open")
        ended = await self.find_ended(id_)
        if ended is None or ended.request.tenant != tenant or not gets_receipt(ended.request):
            return None
        return _accepted(id_, "settling")


def gets_receipt(request: FinishedRequest) -> bool:
    """Return whether a request that has ended gets a receipt."""
    return request.was_served and request.finish not in UNSERVED


async def _find_none(_id: str) -> EndedRequest | None:
    return None


def _accepted(id_: str, state: str) -> web.Response:
    answer = json_answer({"object": "steppe.receipt", "request": id_, "state": state}, status=202)
    answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer


def _not_found(message: str, code: str) -> web.Response:
    return error_answer(404, message, type_="invalid_request_error", code=code)
