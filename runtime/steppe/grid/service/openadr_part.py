"""The link to an OpenADR server: what it asks is handed to the limits."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steppe.config import OpenAdrSection
from steppe.grid.limits.limit import Limit
from steppe.grid.offers.offer import Call, FlexOffer
from steppe.grid.openadr.client import VtnPlace
from steppe.grid.openadr.inbox import Standing
from steppe.grid.openadr.notifier import MqttTerms
from steppe.grid.openadr.translation import AgreedTerms
from steppe.grid.openadr.ven import Hook, OpenAdrVen, VenSettings
from steppe.grid.service.links import OPENADR, awaits_repetition
from steppe.grid.service.openadr_changes import (
    event_changes,
    held_subscription,
    subscription,
    subscription_changes,
)
from steppe.grid.service.openadr_reports import Reporting
from steppe.grid.service.present import present_offer
from steppe.grid.service.refusals import Refusals
from steppe.grid.service.seam import Change, FleetLimits, GridView, Heard, Repeated
from steppe.grid.service.secret_files import read_secret

HOLD_S = 3600.0
"""Length of a call for which the present flexibility is reported, s."""


def ven_settings(section: OpenAdrSection, site: str) -> VenSettings:
    """Return the settings of the client.

    Args:
        section: The section of the configuration.
        site: Name of the site at the grid.

    Raises:
        UsageError: The secret cannot be read, or a URL is not private.
    """
    secret = read_secret("grid.openadr.secret_file", section.secret_file)
    terms = AgreedTerms(
        section.default_w,
        section.most_w,
        section.simple_shares,
        section.emergency_share,
        lost_s=section.lost_s,
    )
    hook = section.webhook
    return VenSettings(
        VtnPlace(section.url, section.client_id, secret, section.token_url),
        section.name or site,
        terms,
        section.resources,
        section.programs,
        section.poll_s,
        None
        if hook is None
        else Hook(
            hook.url, hook.host, hook.port, tuple(ipaddress.ip_network(n) for n in hook.allowed)
        ),
        None if section.mqtt is None else MqttTerms(section.mqtt.ca_file),
    )


def present_offers(view: GridView) -> Sequence[FlexOffer]:
    """Return what the site could give now, for an hour."""
    return [present_offer(view, Call(0.0, HOLD_S), HOLD_S)]


class OpenAdrPart:
    """Polls the server, and hands over what has changed since.

    Without an answer of the server nothing is handed over, so that the limits know that the link
    is lost.
    """

    name = OPENADR

    def __init__(
        self,
        settings: VenSettings,
        limits: FleetLimits,
        refusals: Refusals,
        now_s: Callable[[], float] = time.time,
        offers: Callable[[GridView], Sequence[FlexOffer]] = present_offers,
    ) -> None:
        """Prepare.

        Args:
            settings: The site and its server.
            limits: The limits of the fleet.
            refusals: Gets the events that are refused.
            now_s: Reads the time, s since the Unix epoch.
            offers: Returns what is offered, for reports; what can be given now if absent.
        """
        self._ven = OpenAdrVen(settings, clock=now_s)
        self._reporting = Reporting(self._ven, settings.name, offers)
        self._settings = settings
        self._limits, self._refusals = limits, refusals
        self._polls = self._notices = 0
        self._refused: tuple[str, ...] = ()
        self._subscription: Limit | None = None
        self._unsure: frozenset[str] | None = None

    @property
    def standing(self) -> Standing:
        """What the server asks, with its prices."""
        return self._ven.standing()

    @property
    def ven(self) -> OpenAdrVen:
        """The client of the server, which also sends reports."""
        return self._ven

    @property
    def shown(self) -> Mapping[str, Any]:
        """Where the server is, how far the polls are, and what is followed."""
        standing = self._ven.standing()
        return {
            "url": self._settings.place.url,
            "problem": self._ven.problem,
            "polls": self._ven.polls,
            "notices": self._ven.notices,
            "mqtt_notices": self._ven.mqtt_notices,
            "mqtt_problem": self._ven.mqtt_problem,
            "events": len(standing.events),
            "rates": len(standing.rates),
            "reports": self._reporting.sent,
            "report_problem": self._reporting.problem,
        }

    async def start(self) -> None:
        """Open the webhook, and poll from now on."""
        await self._ven.start()

    async def see(self, view: GridView) -> None:
        """Hand over what the server asks, where it has answered since."""
        self._note_refusals()
        self._reporting.see(view)
        polls, notices = self._ven.polls, self._ven.notices
        if not polls or (polls, notices) == (self._polls, self._notices):
            return
        await self._limits.take(self._changes(view, is_poll=polls > self._polls))
        self._polls, self._notices = polls, notices

    async def stop(self) -> None:
        """Poll no more; the enrolment stays."""
        await self._reporting.stop()
        await self._ven.stop()

    def _changes(self, view: GridView, *, is_poll: bool) -> list[Change]:
        """Return what has changed; all that the server asks after a loss of the link."""
        standing = self._ven.standing()
        whole = is_poll and (awaits_repetition(view, OPENADR) or not self._polls)
        before = held_subscription(view) or self._subscription
        default_w = self._settings.terms.subscription_w
        unsure = standing.unfollowed if self._unsure is None else self._unsure & standing.unfollowed
        self._unsure = unsure
        limit = subscription(standing, default_w, view.at_s, before, is_unsure=bool(unsure))
        self._subscription = limit
        changes = [
            *event_changes(standing, view, whole=whole),
            *subscription_changes(limit, before, whole=whole),
        ]
        if whole:
            return [*changes, Repeated(OPENADR)]
        return [*changes, Heard(OPENADR)]

    def _note_refusals(self) -> None:
        refused = self._ven.refusals
        for reason in refused:
            if reason not in self._refused:
                self._refusals.note(OPENADR, reason)
        self._refused = refused
