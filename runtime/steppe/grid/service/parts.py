"""The parts of the grid service of a run, as its configuration asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from steppe.config import DsxSection, S2Section
from steppe.errors import InstallError
from steppe.grid.meters.part import SiteMeterPart
from steppe.grid.meters.site_meter import SiteMeter
from steppe.grid.offers.offer import FlexOffer
from steppe.grid.openadr.translation import Rate
from steppe.grid.service.budget_api import BudgetApi
from steppe.grid.service.drills import Drills
from steppe.grid.service.events_api import EventsApi
from steppe.grid.service.grid_api import FlexibilityApi
from steppe.grid.service.offers.api import OffersApi
from steppe.grid.service.offers.offering import Offering
from steppe.grid.service.offers.promised import Promised
from steppe.grid.service.offers.reported import ReportedOffers
from steppe.grid.service.openadr_part import OpenAdrPart, present_offers, ven_settings
from steppe.grid.service.part import Part
from steppe.grid.service.plan.part import PlanPart
from steppe.grid.service.refusals import Refusals
from steppe.grid.service.reports_api import ReportsApi
from steppe.grid.service.seam import FleetLimits, GridView
from steppe.grid.service.settings import GridSettings
from steppe.grid.service.verification import Verification
from steppe.ledger.entry_log import EntryLog
from steppe.services.application import RoutesOf


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service hosts.

    Attributes:
        parts: Its parts, in the order in which they see the site.
        routes: What of them, or beside them, answers calls.
    """

    parts: tuple[Part, ...]
    routes: tuple[RoutesOf, ...]


def parts_of(
    settings: GridSettings,
    limits: FleetLimits,
    refusals: Refusals,
    now_s: Callable[[], float],
    log: EntryLog | None = None,
) -> Parts:
    """Return the parts of a service.

    Args:
        settings: How the service is set up.
        limits: The limits of the fleet; what they refuse is noted.
        refusals: Gets what a part itself refuses.
        now_s: Reads the time, s since the Unix epoch.
        log: The log of the ledger; None without a ledger.

    Raises:
        UsageError: One cannot run as it is configured.
    """
    section = settings.section
    meter = None if section.site_meter is None else SiteMeterPart(SiteMeter(section.site_meter))
    verification = Verification(settings.folder, section, limits, log, meter)
    parts: list[Part] = [verification] if meter is None else [meter, verification]
    routes: list[RoutesOf] = [
        ReportsApi(verification),
        BudgetApi(limits, section.http, now_s),
        EventsApi(limits, now_s),
    ]
    offers: Callable[[GridView], Sequence[FlexOffer]] = present_offers
    if section.offers is None:
        routes.append(FlexibilityApi(limits))
    else:
        offering = Offering(section.site, section.offers, settings.folder)
        promises = Promised(section.site, settings.folder, settings.ledger_store)
        parts += [offering, promises]
        offers = ReportedOffers(offering)
        routes.append(OffersApi(section.site, limits, offering, promises, now_s))
    if section.drills:
        parts.append(Drills(limits, section.drills, settings.run_id, settings.folder))
    openadr: OpenAdrPart | None = None
    if section.openadr is not None:
        ven = ven_settings(section.openadr, section.site)
        openadr = OpenAdrPart(ven, limits, refusals, now_s, offers)
        parts.append(openadr)
    if section.dsx is not None:
        parts.append(_dsx(section.dsx, limits, refusals, now_s))
    if section.s2 is not None:
        parts.append(_s2(section.s2, settings, limits, refusals, now_s))
    if section.plan is not None:
        rates = tuple if openadr is None else partial(_rates, openadr)
        parts.append(PlanPart(settings, limits, rates, now_s))
    return Parts(tuple(parts), tuple(routes))


def _rates(openadr: OpenAdrPart) -> tuple[Rate, ...]:
    """Return the prices that the events of a server state."""
    return openadr.standing.rates


def _dsx(
    section: DsxSection, limits: FleetLimits, refusals: Refusals, now_s: Callable[[], float]
) -> Part:
    try:  # the extra `grid`; most sites have no DSX
        from steppe.grid.service.dsx_part import DsxPart
        from steppe.grid.service.dsx_settings import dsx_settings
    except ModuleNotFoundError as error:
        asked = "grid.dsx: asked for the extra grid (pip install 'steppe[grid]')"
        raise InstallError(f"{asked}, found no {error.name}") from error
    return DsxPart(dsx_settings(section), limits, refusals, now_s)


def _s2(
    section: S2Section,
    settings: GridSettings,
    limits: FleetLimits,
    refusals: Refusals,
    now_s: Callable[[], float],
) -> Part:
    try:  # the extra `grid`
        from steppe.grid.service.s2_part import S2Part
    except ModuleNotFoundError as error:
        asked = "grid.s2: asked for the extra grid (pip install 'steppe[grid]')"
        raise InstallError(f"{asked}, found no {error.name}") from error
    site, folder = settings.section.site, settings.folder
    return S2Part(section, site, limits, refusals, folder=folder, now_s=now_s)
