"""A request of a client, from the gateway that it reaches to its last token."""

from __future__ import annotations

from dataclasses import replace

from steppe.control.admission import PRIORITIES
from steppe.load.arrivals import Arrival
from steppe.report.sites_records import SiteCall
from steppe.sim.request import Request
from steppe.sim.sites.settings import SiteSettings
from steppe.sites.view import RequestView


class ClientCall:
    """A request of a client.

    Attributes:
        number: Its number.
        home: The site to which its client belongs.
        gateway: The site whose gateway the client reached: another one while its own is down.
        arrival: What the client sent.
        asked: What is known of it when a site is chosen.
        is_row: Whether it is a row of a batch job.
        site: The site that has it, or had it last; empty before.
        part: Number of the request that it is at that site; 0 while it is under way.
        why: Why that site was chosen.
        request: The part at its site; None before.
        first_s: When the client got the first token of a part that has ended, s; None before.
        done_tokens: Output tokens that sites have given which lost it since.
        cached_tokens: Prompt tokens that the cache of its site held.
        energy_j: Energy so far, J.
        refusals: Sites that refused it or could not be reached.
        continued: How often another site went on with its answer.
        is_over: Whether it has ended.
    """

    __slots__ = (
        "arrival", "asked", "cached_tokens", "continued", "done_tokens", "energy_j",
        "first_s", "gateway", "home", "is_over", "is_row", "number", "part", "refusals", "request",
        "site", "why",
    )  # fmt: skip

    def __init__(
        self, number: int, home: str, arrival: Arrival, asked: RequestView, *, is_row: bool
    ) -> None:
        self.number, self.home, self.gateway = number, home, home
        self.arrival, self.asked, self.is_row = arrival, asked, is_row
        self.site, self.part, self.why = "", 0, ""
        self.request: Request | None = None
        self.first_s: float | None = None
        self.done_tokens = self.cached_tokens = self.continued = 0
        self.energy_j, self.is_over = 0.0, False
        self.refusals: list[str] = []

    @property
    def is_away(self) -> bool:
        """Whether another site than that of its gateway has it."""
        return self.site != self.gateway

    def has_begun(self, now_s: float) -> bool:
        """Whether its client has a token."""
        first_s = None if self.request is None else self.request.first_s
        return self.first_s is not None or (first_s is not None and first_s <= now_s)

    def may_run_at(self, site: SiteSettings) -> bool:
        """Whether its tenant allows a site, and that may process the class of its data."""
        asked = self.asked
        return site.region in asked.regions and asked.data_class in site.data_classes

    @property
    def key(self) -> str | None:
        """Key of its conversation; None without one."""
        return self.asked.conversation

    def rest(self, now_s: float, tenant: str) -> Arrival:
        """Return what a site is asked for now: the rest of the answer after a loss.

        Args:
            now_s: When it comes there, s.
            tenant: The tenant there.
        """
        done = self.done_tokens
        return replace(
            self.arrival,
            at_s=now_s,
            tenant=tenant,
            prompt_tokens=self.arrival.prompt_tokens + done,
            output_tokens=self.arrival.output_tokens - done,
        )

    def take_first(self, request: Request, way_s: float) -> None:
        """Note the first token of a part, which the client got some time later, s."""
        if self.first_s is None and request.first_s is not None:
            self.first_s = request.first_s + way_s

    def go_on(self, tokens: int) -> None:
        """Note that a site has lost it after some output tokens: another one goes on."""
        left = self.arrival.output_tokens - self.done_tokens
        tokens = max(0, min(tokens, left - 1))
        self.continued += tokens > 0 or self.done_tokens > 0
        self.done_tokens += tokens
        prompt_tokens = self.arrival.prompt_tokens + self.done_tokens
        self.asked = replace(self.asked, prompt_tokens=prompt_tokens)
        self.part = 0

    def record(self, now_s: float, finish: str, tokens: int, lost_tokens: int) -> SiteCall:
        """Return what is written down of it.

        Args:
            now_s: When the client saw its end, s.
            finish: How it ended.
            tokens: Output tokens of the last part.
            lost_tokens: Tokens that were cached at the last site of its conversation only.
        """
        arrival = self.arrival
        return SiteCall(
            id=f"request-{self.number}",
            home=self.home,
            site=self.site,
            tenant=arrival.tenant,
            priority=PRIORITIES[arrival.rank],
            arrival_s=arrival.at_s,
            ttft_s=None if self.first_s is None else self.first_s - arrival.at_s,
            e2e_s=now_s - arrival.at_s,
            prompt_tokens=arrival.prompt_tokens,
            cached_tokens=self.cached_tokens,
            lost_tokens=lost_tokens,
            output_tokens=self.done_tokens + tokens,
            energy_j=self.energy_j,
            finish=finish,
            why=self.why,
            refusals=tuple(self.refusals),
            continued=self.continued,
            row=self.is_row,
        )
