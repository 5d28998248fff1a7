"""`POST /admissions`: the gateways ask for what requests may cost, many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from steppe.errors import UsageError
from steppe.ledger.admission import Admission, AdmissionRules, AdmissionTerms, Refusal
from steppe.ledger.service.metrics import LedgerMetrics
from steppe.ledger.service.requests import body_of, mapping, text, whole
from steppe.ledger.service.writer import Writer
from steppe.ledger.store.transaction import Transaction
from steppe.ledger.tariff import BANDS
from steppe.services.api_error import ApiError, invalid

MOST = 1_000
"""Most requests of one call."""
INVALID = "invalid_request"
"""Code of the refusal of a request that cannot be decided on."""


class AdmissionsApi:
    """Decides on requests."""

    def __init__(
        self,
        writer: Writer,
        rules: AdmissionRules,
        usual_tokens: int,
        metrics: LedgerMetrics,
        now_us: Callable[[], int],
    ) -> None:
        """Use a writer.

        Args:
            writer: The writer of the store.
            rules: What the operator has fixed.
            usual_tokens: Output tokens of a request that names no limit.
            metrics: The metrics.
            now_us: Reads the time, us since the Unix epoch.
        """
        self._writer, self._rules, self._usual_tokens = writer, rules, usual_tokens
        self._units = {each.currency for each in rules.tariffs}
        self._metrics, self._now_us = metrics, now_us

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/admissions", self.admit)
        router.add_post("/admissions/released", self.release)

    async def admit(self, request: web.Request) -> web.Response:
        """Answer one outcome for each request, in their order.

        Requests of many tenants come in one call, so what is wrong with one is its own outcome.
        """
        asked = [self._admission(each) for each in self._list(await body_of(request))]
        now_us = self._now_us()

        def decide(transaction: Transaction) -> list[AdmissionTerms | Refusal]:
            valid = [each for each in asked if isinstance(each, Admission)]
            tenants = {each.tenant for each in valid}
            transaction.load([each.request for each in valid], tenants, self._units)
            return [self._decide(transaction, each, now_us) for each in asked]

        outcomes = await self._writer.write(decide)
        self._metrics.count_admissions(outcomes)
        return web.json_response([_shown(each) for each in outcomes])

    async def release(self, request: web.Request) -> web.Response:
        """Give back what is set aside for requests that no replica got: a list of their ids."""
        ids = [text({"request": each}, "request") for each in self._list(await body_of(request))]
        now_us = self._now_us()

        def give_back(transaction: Transaction) -> int:
            transaction.load(ids)
            return sum(transaction.give_back(each, now_us) for each in ids)

        return web.json_response({"released": await self._writer.write(give_back)})

    @staticmethod
    def _list(body: Any) -> list[Any]:
        if not isinstance(body, list) or len(body) > MOST:
            raise invalid(f"asked for a list of at most {MOST}, found {body!r:.60}", "body")
        return body

    def _decide(
        self, transaction: Transaction, asked: Admission | Refusal, now_us: int
    ) -> AdmissionTerms | Refusal:
        if isinstance(asked, Refusal):
            return asked
        try:
            return transaction.admit(asked, self._rules, now_us)
        except UsageError as error:  # a call that fails changes nothing
            return Refusal(INVALID, str(error))

    def _admission(self, value: Any) -> Admission | Refusal:
        try:
            return self._read(value)
        except ApiError as error:
            return Refusal(INVALID, str(error))

    def _read(self, value: Any) -> Admission:
        values = mapping(value, "request")
        band = text(values, "band", "normal")
        if band not in BANDS:
            raise invalid(f"band: asked for {' or '.join(BANDS)}, found {band!r:.60}", "band")
        tokens = values.get("max_tokens")
        most = {"max_tokens": self._usual_tokens if tokens is None else tokens}
        return Admission(
            request=text(values, "request"),
            tenant=text(values, "tenant"),
            model=text(values, "model"),
            priority=text(values, "priority"),
            prompt_tokens=whole(values, "prompt_tokens"),
            max_tokens=whole(most, "max_tokens"),
            band="surplus" if band == "surplus" else "normal",
            sequences=whole(values, "sequences", 1, 4096),
            quote=text(values, "quote", ""),
        )


def _shown(outcome: AdmissionTerms | Refusal) -> dict[str, Any]:
    match outcome:
        case AdmissionTerms():
            return {
                "terms": outcome.rate,
                "currency": outcome.currency,
                "held": outcome.held,
                "free": outcome.free,
            }
        case Refusal():
            return {"code": outcome.code, "message": outcome.message, "free": outcome.free}
