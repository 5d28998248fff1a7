"""What a run of several sites writes down of each request of a client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SiteCall:
    """One request of a client, as the client saw it: with the way to another site and back.

    Attributes:
        id: Its name.
        home: The site to which its client belongs.
        site: The site that served it last; empty if none did.
        tenant: Its tenant.
        priority: Its class.
        arrival_s: When the client sent it, s since the run began.
        ttft_s: Time to the first token at the client, s; None without one.
        e2e_s: Time to its end at the client, s.
        prompt_tokens: Prompt tokens.
        cached_tokens: Those of them that the prefix cache of its site held.
        lost_tokens: Prompt tokens that the cache of the conversation's last site held, and that
            were computed again at another one.
        output_tokens: Output tokens that the client got.
        energy_j: Energy of all sites that worked on it, J; with that of work that was lost.
        finish: `length`, or `failed`, `rejected`, `shed`, `forbidden`, `unreachable`, `cancelled`.
        why: Why its site was chosen, see `steppe.sites.decide`.
        refusals: Sites that refused it or could not be reached.
        continued: How often another site went on with its answer.
        row: Whether it is a row of a batch job.
    """

    id: str
    home: str
    site: str
    tenant: str
    priority: str
    arrival_s: float
    ttft_s: float | None
    e2e_s: float
    prompt_tokens: int
    cached_tokens: int
    lost_tokens: int
    output_tokens: int
    energy_j: float
    finish: str
    why: str
    refusals: tuple[str, ...] = ()
    continued: int = 0
    row: bool = False

    @property
    def is_moved(self) -> bool:
        """Whether another site than its own served it."""
        return bool(self.site) and self.site != self.home

    @property
    def is_served(self) -> bool:
        """Whether the client got the whole answer."""
        return self.finish == "length"
