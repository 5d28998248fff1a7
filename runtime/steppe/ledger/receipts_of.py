"""The receipts of what a run has booked: who pays, for what, at which price."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from steppe.ledger.booking import BookedRequest
from steppe.ledger.receipt import Receipt
from steppe.ledger.tariff import NoRateError, Tariff

FAILED = frozenset({"failed", "error", "abort"})
"""Ends that are the operator's fault: nothing is billed, and the energy is waste."""
REFUSED = frozenset({"rejected", "shed", "invalid"})
"""Ends without work: there is no receipt."""
NAME_CHARS = 128
"""Longest name of a request."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when receipts are written.

    Attributes:
        site: The site.
        boundary: What the energy encloses: `gpu`, `node` or `site`.
        hour: The hour of the books, hours since the Unix epoch.
        seq: Number of the next receipt at the site.
    """

    site: str
    boundary: str
    hour: int
    seq: int


def is_billed(request: BookedRequest) -> bool:
    """Return whether the tenant pays for a request: for what the engine counted."""
    return request.finish not in FAILED and request.finish not in REFUSED


def is_served(request: BookedRequest) -> bool:
    """Return whether a request has a receipt: it reached a replica and was not refused."""
    return request.had_replica and request.finish not in REFUSED


def waste_uj(requests: Sequence[BookedRequest]) -> int:
    """Return the energy of the requests that no tenant pays for, uJ."""
    return sum(each.energy_uj for each in requests if not is_billed(each))


def receipts_of(
    requests: Sequence[BookedRequest], place: Place, tariffs: Mapping[str, Tariff]
) -> list[Receipt]:
    """Return the receipts of requests, in their order.

    Args:
        requests: The requests; those that were refused get none.
        place: Where and when.
        tariffs: All tariffs that may be named, by id.
    """
    served = filter(is_served, requests)
    return [_receipt(each, place, seq, tariffs) for seq, each in enumerate(served, place.seq)]


def _receipt(
    request: BookedRequest, place: Place, seq: int, tariffs: Mapping[str, Tariff]
) -> Receipt:
    pays = is_billed(request)
    receipt = Receipt(
        id=request.id,
        request=ascii_name(request.request),
        seq=seq,
        site=place.site,
        tenant=ascii_name(request.tenant),
        model=ascii_name(request.model),
        priority=request.priority,
        prompt_tokens=request.prompt_tokens if pays else 0,
        cached_tokens=request.cached_tokens if pays else 0,
        output_tokens=request.output_tokens if pays else 0,
        energy_uj=request.energy_uj if pays else 0,
        energy_source=request.energy_source,
        boundary=place.boundary,
        hour=place.hour,
        started_us=request.started_us,
        first_us=request.first_us,
        ended_us=request.ended_us,
        finish=request.finish if pays else "failed",
        key_id=ascii_name(request.key_id),
        model_rev=ascii_name(request.model_rev),
        tokenizer_sha=request.tokenizer_sha,
        tariff=request.terms,
    )
    return _priced(receipt, tariffs) if request.terms else receipt


def _priced(receipt: Receipt, tariffs: Mapping[str, Tariff]) -> Receipt:
    """Return a receipt with its price; without a tariff if that does not hold for it."""
    id_ = receipt.tariff.rpartition("/")[0]
    try:
        tariff = tariffs[id_]
        amount = tariff.price_nano(receipt)
    except (KeyError, NoRateError) as error:
        _log.error("receipt %s has no price: %s", receipt.id, error)
        return replace(receipt, tariff="")
    return replace(receipt, amount_nano=amount, currency=tariff.currency)


def ascii_name(text: str) -> str:
    """Return a name as a receipt holds it: at most `NAME_CHARS`, escapes for what is not ASCII."""
    if text.isascii() and len(text) <= NAME_CHARS:
        return text
    return text.encode("ascii", "backslashreplace")[:NAME_CHARS].decode()
