"""Offers as reports of OpenADR 3.1: what can be shed and regulated in each of the next hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steppe.grid.offers.offer import FlexOffer
from steppe.grid.openadr.reports import Given, Span, report_of

HOURS = 48
"""Length of the rolling report, h (user guide, 8.7)."""
_HOUR_S = 3600.0
_DOWN: tuple[Given, ...] = ("LOAD_SHED_DELTA_AVAILABLE", "UP_REGULATION_AVAILABLE")
_UP: tuple[Given, ...] = ("DOWN_REGULATION_AVAILABLE",)


def openadr_reports(
    offers: Sequence[FlexOffer],
    event_id: str,
    client: str,
    now_s: float,
    *,
    hours: int = HOURS,
) -> list[dict[str, Any]]:
    """Return the bodies of the reports: less load, regulation up and regulation down.

    As for a generator, regulation up is a lower draw.

    Args:
        offers: What is offered; an hour with a moment that none covers has 0.
        event_id: Event that asked for them.
        client: Name of this client.
        now_s: Time, s since the Unix epoch; the first hour begins at it.
        hours: How many hours.
    """
    return [
        report_of(
            event_id,
            client,
            kind,
            available(offers, kind, now_s, hours, _HOUR_S),
            reading="FORECAST",
        )
        for kind in (*_DOWN, *_UP)
    ]


def available(
    offers: Sequence[FlexOffer], kind: Given, from_s: float, number: int, span_s: float
) -> list[Span]:
    """Return the watts that are available at each moment of each of a number of spans.

    Offers that follow on one another cover a span together, by the one with the fewest watts: each
    moment has the confidence of its offer then, and the span as a whole less.

    Args:
        offers: What is offered.
        kind: Payload type.
        from_s: Start of the first span, s since the Unix epoch.
        number: How many spans.
        span_s: Length of a span, s.
    """
    starts = [from_s + index * span_s for index in range(number)]
    return [Span(at_s, span_s, float(_watts(offers, kind, at_s, at_s + span_s))) for at_s in starts]


def _watts(offers: Sequence[FlexOffer], kind: Given, from_s: float, until_s: float) -> int:
    """Return what is offered at each moment of a span, W: 0 if at one of them nothing is."""
    edges_s = {edge for each in offers for edge in (each.from_s, each.until_s)}
    begins_s = [from_s, *sorted(edge for edge in edges_s if from_s < edge < until_s)]
    return min(_watts_at(offers, kind, at_s) for at_s in begins_s)


def _watts_at(offers: Sequence[FlexOffer], kind: Given, at_s: float) -> int:
    """Return the most that one offer has from a moment on, W."""
    covering = [each for each in offers if each.from_s <= at_s < each.until_s]
    powers = [each.up if kind in _UP else each.down for each in covering]
    return max((each.watts for each in powers), default=0)
