"""Pages of lists: what a client asks for."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from steppe.services.api_error import invalid


@dataclass(frozen=True, slots=True)
class Listing:
    """Which part of a list a client wants.

    Attributes:
        after: Id after which it begins; None for the beginning.
        limit: Most entries.
        newest_first: Their order.
    """

    after: str | None
    limit: int
    newest_first: bool


def read_listing(request: web.Request, usual: int, most: int) -> Listing:
    """Return the part that a client asks for.

    Args:
        request: Its query has `after`, `limit` and `order`.
        usual: Entries of a page if the client does not say.
        most: Most entries of a page.

    Raises:
        ApiError: A value is out of range.
    """
    query = request.query
    limit, order = query.get("limit", str(usual)), query.get("order", "desc")
    if not (limit.isdecimal() and len(limit) < 9 and 1 <= int(limit) <= most):
        raise invalid(f"limit: asked for 1 to {most}, found {limit!r:.20}", "limit")
    if order not in ("asc", "desc"):
        raise invalid(f"order: asked for asc or desc, found {order!r:.20}", "order")
    return Listing(query.get("after"), int(limit), order == "desc")
