"""What is answered without a key, beside the checks of health."""

from __future__ import annotations

from aiohttp import web

from steppe.gateway.ledger.ledger_api import is_public
from steppe.gateway.page_api import is_part_of_page


def needs_no_key(request: web.Request) -> bool:
    """Return whether a request needs no key: the page without its data, and checkpoints."""
    return is_part_of_page(request) or is_public(request.raw_path)
