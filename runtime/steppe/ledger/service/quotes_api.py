"""`POST /steppe/v1/quote`: a signed offer of tokens at a rate that is fixed and honoured."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from steppe.errors import UsageError
from steppe.ledger.quote import Quote, QuoteRequest, quoted
from steppe.ledger.service.requests import body_of, mapping, text, whole
from steppe.ledger.service.writer import Writer
from steppe.ledger.signing import PrivateKey
from steppe.ledger.store.packages import issue_quote
from steppe.ledger.tariff import NoRateError, Tariff
from steppe.services.api_error import ApiError, invalid
from steppe.services.tenant_header import tenant_of

USUAL_US, LONGEST_US = 3_600_000_000, 31 * 24 * 3_600_000_000
"""Usual window of an offer, and the latest end of one from now, us."""
MOST_TOKENS = 10**12
_ID_BYTES = 12


class QuotesApi:
    """Makes offers to the tenant of the call."""

    def __init__(
        self,
        writer: Writer,
        tariffs: Sequence[Tariff],
        keys: Sequence[PrivateKey],
        now_us: Callable[[], int],
    ) -> None:
        """Use a writer.

        Args:
            writer: The writer of the store.
            tariffs: The tariffs of the run; the first one with a rate for the offer is taken.
            keys: The keys that sign.
            now_us: Reads the time, us since the Unix epoch.
        """
        self._writer, self._tariffs = writer, tuple(tariffs)
        self._keys, self._now_us = tuple(keys), now_us

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/steppe/v1/quote", self.offer)

    async def offer(self, request: web.Request) -> web.Response:
        """Answer an offer when it is on disk: its values, and the signed note with them."""
        now_us = self._now_us()
        asked = self._asked(mapping(await body_of(request), "quote"), tenant_of(request), now_us)
        quote = self._quote(asked)
        await self._writer.write(lambda transaction: issue_quote(transaction, quote, now_us))
        note = quote.signed(self._keys).whole
        return web.json_response({"object": "quote", **_shown(quote), "note": note})

    def _asked(self, values: dict[str, Any], tenant: str, now_us: int) -> QuoteRequest:
        from_us = max(now_us, whole(values, "from_us", now_us, 2**62))
        until_us = whole(values, "until_us", from_us + USUAL_US, 2**62)
        if not from_us < until_us <= now_us + LONGEST_US:
            asked = f"asked for an end after {from_us} and within 31 days"
            raise invalid(f"until_us: {asked}, found {until_us}", "until_us")
        return QuoteRequest(
            id=secrets.token_hex(_ID_BYTES),
            tenant=tenant,
            model=text(values, "model"),
            priority=text(values, "priority", "standard"),
            tokens=whole(values, "tokens", most=MOST_TOKENS),
            from_us=from_us,
            until_us=until_us,
        )

    def _quote(self, asked: QuoteRequest) -> Quote:
        """Return the offer at the first tariff that has a rate for it.

        Raises:
            ApiError: None has one, or no token is asked for.
        """
        for tariff in self._tariffs:
            if tariff.valid_from_us > asked.from_us:
                continue
            try:
                return quoted(asked, tariff, "normal")
            except NoRateError:
                continue
            except UsageError as error:
                raise invalid(str(error), "tokens") from error
        found = f"asked for a rate of {asked.model}, {asked.priority}, found none"
        raise ApiError(404, "no_rate", f"quote: {found}", "model")


def _shown(quote: Quote) -> dict[str, Any]:
    return {
        "id": quote.id,
        "model": quote.model,
        "priority": quote.priority,
        "tokens": quote.tokens,
        "from_us": quote.from_us,
        "until_us": quote.until_us,
        "tariff": quote.tariff,
        "currency": quote.currency,
    }
