"""What the books of a run hand to the ledger: requests whose energy is known, and running totals.

All is integers and text. Bookings of a run are numbered, so one that is handed over twice counts
once; what was not acknowledged is handed over again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BookedRequest:
    """A request that has ended and whose energy is known; times are us since the Unix epoch.

    Attributes:
        id: The id that the gateway made for it; no client chooses it.
        request: The id that the client knows it by.
        tenant: The tenant.
        model: The model that served it.
        priority: Its class.
        prompt_tokens: Tokens of its prompt, cached ones too.
        cached_tokens: Those of them that the prefix cache held.
        output_tokens: Tokens generated.
        energy_uj: Energy attributed to it, uJ.
        energy_source: Where the energy is from, as in a receipt.
        started_us: When it arrived.
        first_us: When its first token left; 0 if none did, or if that is unknown.
        ended_us: When it ended.
        finish: How it ended, as in the record of a request.
        had_replica: Whether it reached a replica, here or at another site. Without one it has no
            receipt: its hold is given back. What another site computed has no energy here.
        terms: The rate that was fixed at admission, `TARIFF/NUMBER`; empty for none.
        key_id: Public part of its API key; empty without one.
        model_rev: Revision of the weights; empty if unknown.
        tokenizer_sha: SHA-256 of the tokenizer, 16 hexadecimal digits; empty if unknown.
    """

    id: str
    request: str
    tenant: str
    model: str
    priority: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    energy_uj: int
    energy_source: str
    started_us: int
    ended_us: int
    finish: str
    had_replica: bool = True
    first_us: int = 0
    terms: str = ""
    key_id: str = ""
    model_rev: str = ""
    tokenizer_sha: str = ""


@dataclass(frozen=True, slots=True)
class BookedTotals:
    """What a run has counted since it began, with all requests booked so far, uJ.

    `meters` sum up to receipts + idle + transition + unclaimed + what open requests have taken.

    Attributes:
        meters: Reading of the meter of each replica, by name.
        idle_uj: Energy without work.
        transition_uj: Energy of starts, stops and changes of state.
        unclaimed_uj: Energy that no request claims.
        supply_uj: Energy that the site took from each source, `wind`, `sun`, `grid`, `battery` or
            another name: without what was curtailed. None if the run has no such figures.
        charged_uj: What the battery took, at its terminals.
        stored_uj: What the battery's gauge shows now; not a total.
        site_uj: What the whole site used; 0 if unknown, then the meters are the load.
    """

    meters: Mapping[str, int] = field(default_factory=dict)
    idle_uj: int = 0
    transition_uj: int = 0
    unclaimed_uj: int = 0
    supply_uj: Mapping[str, int] = field(default_factory=dict)
    charged_uj: int = 0
    stored_uj: int = 0
    site_uj: int = 0


@dataclass(frozen=True, slots=True)
class Booking:
    """One step of the books of a run; it lies within one hour.

    Attributes:
        run: Name of the run, unique; its meters are `RUN/NAME` in a period.
        number: Number of the step, from 1, without gaps.
        time_us: When the totals were taken, us since the Unix epoch.
        boundary: What the energy encloses: `gpu`, `node` or `site`.
        requests: The requests that were booked since the step before.
        totals: All that was counted until now.
        is_last: Whether the run ends with it: what is open then is unclaimed.
    """

    run: str
    number: int
    time_us: int
    boundary: str
    requests: tuple[BookedRequest, ...]
    totals: BookedTotals
    is_last: bool = False
