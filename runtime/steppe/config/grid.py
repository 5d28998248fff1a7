"""The grid of a run: the links over which it is heard, and drills."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from steppe.config.dsx import DsxSection
from steppe.config.grid_events import EventsSection
from steppe.config.grid_plan import PlanSection
from steppe.config.offers import OffersSection
from steppe.config.openadr import OpenAdrSection
from steppe.config.s2 import S2Section
from steppe.config.section import FilePath, NonNegative, Positive, Section, Share
from steppe.config.site_meter import SiteMeterSection


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("asked for at most 64 of A-Z a-z 0-9 ._-")
    return text


class HttpSection(Section):
    """The HTTP link: `PUT /steppe/v1/budget` and `PUT /steppe/v1/grid/events/ID`."""

    default_w: NonNegative | None = None
    """What holds before the first limit, after the end of one, after it is lifted, and while the
    link is lost, W at the site. Absent: nothing holds then."""
    lost_s: Positive | None = None
    """The link is lost this long after the last call that changed or repeated something, s.
    Absent: it is never lost."""

    @model_validator(mode="after")
    def _loss_has_a_default(self) -> HttpSection:
        if self.lost_s is not None and self.default_w is None:
            raise ValueError("lost_s: asked for default_w, which holds while the link is lost")
        return self


class DrillSection(Section):
    """A drill: an event that the site gives itself, to see whether it would comply."""

    after_s: NonNegative
    """When it is announced, s after the fleet begins to follow its budget."""
    notice_s: NonNegative = 0.0
    """Time from the announcement to the start of the ramp down, s."""
    ramp_down_s: NonNegative = 0.0
    """Duration of the ramp down, s."""
    hold_s: NonNegative
    """Duration of the hold, s."""
    ramp_up_s: NonNegative = 0.0
    """Duration of the ramp up, s."""
    settle_s: NonNegative = 0.0
    """How long the draw stays at or below the baseline after the ramp up, s."""
    share: Share | None = None
    """What the site may draw during the hold, as a share of the baseline: 0.7 is 30 % less."""
    watts: NonNegative | None = None
    """What the site may draw during the hold, W; instead of `share`."""
    priority: Annotated[int, Field(ge=0, le=1000)] = 1000
    """Priority; 0 is the highest."""

    @model_validator(mode="after")
    def _one_target(self) -> DrillSection:
        if (self.share is None) == (self.watts is None):
            found = "neither" if self.share is None else "both"
            raise ValueError(f"asked for share or watts, found {found}")
        return self


class GridSection(Section):
    """The grid: its limits and events, what the site offers, and what it delivered.

    Without this section the run listens to no grid.
    """

    folder: FilePath | None = None
    """Folder of the limits that are kept, of events and reports; relative to this file. It is made
    if it is missing. A run that starts again with it is held by the limits that it had. If absent:
    `grid` in the folder of the record."""
    site: Annotated[str, AfterValidator(_name)] = "site"
    """Name of the site at the grid."""
    baseline_s: Positive = 600.0
    """The operational baseline of an event is the mean draw of this long before it was accepted,
    without the time of other events, s."""
    http: HttpSection = HttpSection()
    """Limits and events by HTTP calls of an operator."""
    drills: Annotated[tuple[DrillSection, ...], Field(strict=False)] = ()
    """Events that the site gives itself."""
    openadr: OpenAdrSection | None = None
    """An OpenADR 3.1 server; absent, none."""
    dsx: DsxSection | None = None
    """A DSX Flex broker; absent, none."""
    s2: S2Section | None = None
    """An energy manager of S2; absent, none."""
    site_meter: SiteMeterSection | None = None
    """A meter at the connection point, shown beside the draw that Steppe computes, and what reports
    of events use; absent, none."""
    events: EventsSection = EventsSection()
    """What becomes of events afterwards: baselines, prices and reports."""
    offers: OffersSection | None = None
    """What the site offers the grid; absent, nothing is offered."""
    plan: PlanSection | None = None
    """A plan of the markets; absent, none."""

    def resolved(self, folder: Path) -> GridSection:
        """Return the section with its paths relative to a folder."""
        found: dict[str, object] = {}
        if self.folder is not None:
            found["folder"] = folder / self.folder
        for name in ("openadr", "dsx", "s2", "events", "plan"):
            if (part := getattr(self, name)) is not None:
                found[name] = part.resolved(folder)
        return self.model_copy(update=found)
