"""What a site offers, in a language of the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import orjson

from steppe.errors import InstallError, UsageError
from steppe.grid.history.history import History
from steppe.grid.offers.offer import FlexOffer
from steppe.grid.renderings.site import OfferingSite
from steppe.grid.renderings.uftp import UftpTerms, uftp_flex_offer
from steppe.grid.service.offers.read import free_offer
from steppe.report.record_folder import GRID_FOLDER
from steppe.run.grid_offers import is_url

Language = Literal["openadr", "dsx", "s2", "uftp", "steps"]
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class RenderingTerms:
    """What a rendering says beside the offers.

    Attributes:
        draw_w: What the site draws without a call, W; what it drew last if None.
        most_w: Most that it ever draws, W; the draw and what is offered upwards if None.
        default_w: What holds where the grid asks for nothing, W; the most if None.
        currency: ISO 4217 code of the prices; empty if they are in none.
        lot_w: Smallest quantity of a market, W.
        event: The event of OpenADR that asked for the reports.
        sender: Internet domain of the aggregator, for UFTP.
        recipient: Internet domain of the grid operator, for UFTP.
        congestion_point: Entity address, for UFTP.
        time_zone: Zone in which days begin, for UFTP.
        baseline: Which baseline the change is against, for UFTP.
    """

    draw_w: float | None = None
    most_w: float | None = None
    default_w: float | None = None
    currency: str = ""
    lot_w: int = 1
    event: str = "offer"
    sender: str = ""
    recipient: str = ""
    congestion_point: str = ""
    time_zone: str = "Europe/Amsterdam"
    baseline: str = "agreed"


def rendered(found: dict[str, Any], place: str, language: Language, terms: RenderingTerms) -> str:
    """Return offers in a language: what is promised is not in it.

    Args:
        found: The offers, as `offers_at` returns them.
        place: Where they are from: a URL, or the folder of a run or of its grid.
        language: The language. DSX and S2 speak of the first offer, the others of all.
        terms: What it says beside them.

    Raises:
        UsageError: There is no offer, or the language needs something that is not known.
        InstallError: The extra `grid` is missing.
    """
    offers = [free_offer(each) for each in found.get("offers", ())]
    if not offers:
        raise UsageError(f"{place}: asked for an offer, found none")
    name, now_s = found.get("site", "site"), found["at"]
    match language:
        case "steps":
            from steppe.grid.renderings.steps import price_steps

            return _json([step for offer in offers for step in price_steps(offer, terms.lot_w)])
        case "openadr":
            from steppe.grid.renderings.openadr import openadr_reports

            longest_s = max(offer.down.call.hold_s for offer in offers)
            longest = [offer for offer in offers if offer.down.call.hold_s == longest_s]
            from_s = math.ceil(now_s / _HOUR_S) * _HOUR_S
            return _json(openadr_reports(longest, terms.event, name, from_s))
        case "uftp":
            return _uftp(offers, name, now_s, terms)
        case "dsx":
            from steppe.grid.renderings.dsx import dsx_status

            site = _site(found, place, offers[0], terms)
            return _json(dsx_status(offers[0], site, now_s))
        case "s2":
            try:  # the extra `grid`
                from steppe.grid.renderings.s2 import s2_messages
            except ModuleNotFoundError as error:
                asked = "S2: asked for the extra grid (pip install 'steppe[grid]')"
                raise InstallError(f"{asked}, found no {error.name}") from error
            site = _site(found, place, offers[0], terms)
            return _json([orjson.loads(each) for each in s2_messages(offers[0], site, now_s)])
        case _:
            assert_never(language)


def _uftp(offers: Sequence[FlexOffer], name: str, now_s: float, terms: RenderingTerms) -> str:
    """Return a message for each offer that has watts, a line each."""
    needed = {
        "--sender": terms.sender,
        "--recipient": terms.recipient,
        "--congestion-point": terms.congestion_point,
        "--currency": terms.currency,
    }
    if missing := [option for option, value in needed.items() if not value]:
        raise UsageError(f"UFTP: asked for {', '.join(needed)}, found no {missing[0]}")
    asked = UftpTerms(
        terms.sender, terms.recipient, terms.congestion_point, terms.time_zone, terms.baseline
    )
    site = OfferingSite(name, 0.0, 0.0, 0.0, terms.currency)
    with_watts = [offer for offer in offers if offer.down.watts or offer.up.watts]
    return "\n".join(
        uftp_flex_offer(offer, site, asked, now_s) for offer in with_watts or offers[:1]
    )


def _site(
    found: dict[str, Any], place: str, offer: FlexOffer, terms: RenderingTerms
) -> OfferingSite:
    draw_w = terms.draw_w
    if draw_w is None:
        draw_w = found.get("draw_w") if is_url(place) else _last_draw_w(Path(place))
    if draw_w is None:
        raise UsageError(f"{place}: asked for what the site draws, found nothing: state --draw")
    most_w = draw_w + offer.up.watts if terms.most_w is None else terms.most_w
    default_w = most_w if terms.default_w is None else terms.default_w
    return OfferingSite(found.get("site", "site"), draw_w, most_w, default_w, terms.currency)


def _last_draw_w(place: Path) -> float | None:
    """Return the last draw that a run has noted, W; None if it has noted none."""
    for folder in (place / GRID_FOLDER / "draw", place / "draw"):
        if folder.is_dir():
            last = History(folder).last
            return None if last is None else last.draw_mw / 1000
    return None


def _json(found: Any) -> str:
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
