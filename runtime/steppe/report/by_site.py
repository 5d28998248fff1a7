"""What went to other sites, and what came from them."""

from __future__ import annotations

from typing import TypedDict

from steppe.config.tenants import SITE_TENANT
from steppe.report.by_model import ModelSums, add_to
from steppe.report.records import RequestRecord, Slo


class SiteSums(TypedDict):
    """Sums over the requests between this site and others, by the name of the other one.

    Keys: `sent`, those that another site served, or the rest of them; their `energy_j` is what they
    took here. `received`, those that another site has sent here.
    """

    sent: dict[str, ModelSums]
    received: dict[str, ModelSums]


class BySite:
    """Sums requests by the other site that they went to, or came from."""

    def __init__(self, slo: Slo) -> None:
        """Begin without requests; `slo` is what they are judged by."""
        self._slo = slo
        self.sums = SiteSums(sent={}, received={})

    def add(self, request: RequestRecord) -> None:
        """Add a request; one that neither came nor went is in no sum."""
        if request.site:
            add_to(self.sums["sent"], request.site, request, self._slo)
        elif request.tenant.startswith(SITE_TENANT):
            home = request.tenant.removeprefix(SITE_TENANT)
            add_to(self.sums["received"], home, request, self._slo)
