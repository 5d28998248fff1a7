"""The last settlements of a site, as its operator sees them; written and read here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from aiohttp import web

from steppe.errors import UsageError
from steppe.ledger.receipt import checked
from steppe.ledger.settlement import Mismatch
from steppe.services.api_error import ApiError
from steppe.sites.settlement.receipts_api import whole
from steppe.sites.settlement.store import SettledPeriod, SettlementStore

PATH = "/steppe/v1/sites/settlements"
USUAL, MOST = 20, 1_000
"""Number of settlements that are shown without `limit`, and at most."""
_MOST_MISMATCHES = 100


@dataclass(frozen=True, slots=True)
class ShownSettlement:
    """A settlement, as it is shown.

    Attributes:
        home: The site that pays.
        target: The site that served.
        end_s: End of the period, s since the Unix epoch.
        receipts: Number of receipts that the shown site accepts.
        output_tokens: Tokens of these.
        energy_uj: Their energy, uJ.
        owed_uj: What of it is owed, uJ.
        claimed_uj: What is owed as the target says, uJ.
        agrees: 1 if both sites say the same, byte for byte, else 0.
        is_logged: 1 if the ledger of the shown site has it, else 0.
        mismatches_all: Number of mismatches.
        mismatches: The first of them.
    """

    home: str
    target: str
    end_s: int
    receipts: int
    output_tokens: int
    energy_uj: int
    owed_uj: int
    claimed_uj: int
    agrees: int
    is_logged: int
    mismatches_all: int
    mismatches: tuple[Mismatch, ...]


def shown(settled: SettledPeriod) -> ShownSettlement:
    """Return a settlement as it is shown."""
    own = settled.own
    return ShownSettlement(
        own.home,
        own.target,
        own.end_s,
        own.receipts,
        own.output_tokens,
        own.energy_uj,
        own.owed_uj,
        settled.claimed.owed_uj,
        int(settled.agrees),
        int(settled.is_logged),
        len(settled.mismatches),
        settled.mismatches[:_MOST_MISMATCHES],
    )


def write_shown(found: Sequence[ShownSettlement], problems: Mapping[str, str]) -> bytes:
    """Return settlements as JSON.

    Args:
        found: The settlements.
        problems: Why it does not go on with a site, by its name.
    """
    data = [asdict(one) for one in found]
    return orjson.dumps({"object": "list", "data": data, "problems": dict(problems)})


def read_shown(body: bytes) -> tuple[list[ShownSettlement], dict[str, str]]:
    """Return the settlements and problems of JSON.

    Raises:
        UsageError: It holds none.
    """
    try:
        values: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"settlements: asked for JSON, found {error}") from error
    items = values.get("data") if isinstance(values, dict) else None
    if not isinstance(items, list):
        raise UsageError(f"settlements: asked for a list, found {body[:60]!r}")
    found = []
    for item in items:
        fields = checked(ShownSettlement, item, "settlement")
        mismatches = tuple(
            Mismatch(**checked(Mismatch, one, "mismatch")) for one in fields["mismatches"]
        )
        found.append(ShownSettlement(**{**fields, "mismatches": mismatches}))
    return found, {str(site): str(text) for site, text in values.get("problems", {}).items()}


class SettlementsShown:
    """Answers the gateways of the run."""

    def __init__(self, store: SettlementStore, problems: Mapping[str, str]) -> None:
        """Use a store.

        Args:
            store: Has the settlements.
            problems: Why it does not go on with a site, by its name; it may change.
        """
        self._store, self._problems = store, problems

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its route."""
        router.add_get(PATH, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """Answer the last settlements, the newest first."""
        try:
            most = min(MOST, whole(request, "limit", USUAL))
        except ApiError as error:
            return error.answer()
        settled = await asyncio.to_thread(self._store.settled, most)
        body = write_shown([shown(one) for one in settled], self._problems)
        return web.Response(body=body, content_type="application/json")
