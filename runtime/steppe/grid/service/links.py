"""The links of a site, as the limits know them."""

from __future__ import annotations

from steppe.config import GridSection
from steppe.config.section import LARGEST
from steppe.grid.limits.limit import Link
from steppe.grid.service.seam import GridView

HTTP, DRILL, OPENADR, DSX, S2, PLAN = "http", "drill", "openadr", "dsx", "s2", "plan"
"""Names of the links."""
LIMITS_FILE = "limits.json"
"""The kept file of the limits, in the folder of the grid; only the controller uses it."""


def links_of(section: GridSection) -> tuple[Link, ...]:
    """Return the links of a site, with what holds while each is lost.

    A link without a default has the largest number of watts: nothing holds then.
    """
    http = section.http
    default_w = LARGEST if http.default_w is None else http.default_w
    lost_s = LARGEST if http.lost_s is None else http.lost_s
    found = [Link(HTTP, default_w, lost_s), Link(DRILL, LARGEST, LARGEST)]
    if section.openadr is not None:
        found.append(Link(OPENADR, section.openadr.default_w, section.openadr.lost_s))
    if section.dsx is not None:
        default_w = sum(feed.default_w for feed in section.dsx.feeds)
        found.append(Link(DSX, default_w, section.dsx.lost_s))
    if section.s2 is not None:
        found.append(Link(S2, section.s2.default_w, section.s2.lost_s))
    if section.plan is not None:
        plan = section.plan
        default_w = LARGEST if plan.default_w is None else plan.default_w
        found.append(Link(PLAN, default_w, plan.lost_s))
    return tuple(found)


def awaits_repetition(view: GridView, link: str) -> bool:
    """Whether a link is lost for the limits, or has to repeat what it asks, as far as is seen."""
    name = "" if view.in_force is None else view.in_force.name
    return link in view.lost or (name.startswith(f"{link}/") and name.endswith("/default"))
