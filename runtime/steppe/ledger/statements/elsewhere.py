"""What other sites used for the requests of a tenant in a month, as settlements say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from steppe.ledger.settlement import RemoteEnergy, TenantShare


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What one other site used for a tenant.

    Attributes:
        site: The other site.
        receipts: Number of its receipts, corrections too.
        prompt_tokens: Tokens of their prompts.
        output_tokens: Tokens generated.
        energy_uj: Their energy, from the meters of that site, uJ.
    """

    site: str
    receipts: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    energy_uj: int = 0

    def plus(self, share: TenantShare) -> Elsewhere:
        """Return it with what one more settlement says."""
        return Elsewhere(
            self.site,
            self.receipts + share.receipts,
            self.prompt_tokens + share.prompt_tokens,
            self.output_tokens + share.output_tokens,
            self.energy_uj + share.energy_uj,
        )


def elsewhere_of(settled: Iterable[RemoteEnergy], tenant: str) -> tuple[Elsewhere, ...]:
    """Return what each other site used for a tenant, by name of the site.

    Args:
        settled: How the home of the tenant has divided its settlements.
        tenant: The tenant.
    """
    found: dict[str, Elsewhere] = {}
    for part in settled:
        for share in part.tenants:
            if share.tenant == tenant:
                before = found.get(part.target, Elsewhere(part.target))
                found[part.target] = before.plus(share)
    return tuple(found[site] for site in sorted(found))
