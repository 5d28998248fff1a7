"""What a run has booked for its ledger, as its record has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """What a run has booked for its ledger, uJ.

    When the run has ended, requests + idle + transition + unclaimed = meter.

    Attributes:
        folder: Folder of the ledger.
        site: Name of the site.
        run: Name of the run in the ledger.
        bookings: Steps in which it was booked.
        requests: Requests that were booked, refused ones too, which have no receipt.
        requests_uj: Their energy.
        meter_uj: What the meters have counted.
        idle_uj: Energy without work.
        transition_uj: Energy of starts, stops and changes of state.
        unclaimed_uj: Energy that no request claims.
        waiting: Requests that the ledger does not have yet: the next run hands them over.
        lost: Requests that were too many to wait.
        has_ended: Whether the run ended with them; else it was killed: the ledger may have more.
    """

    folder: str
    site: str
    run: str
    bookings: int
    requests: int
    requests_uj: int
    meter_uj: int
    idle_uj: int
    transition_uj: int
    unclaimed_uj: int
    waiting: int = 0
    lost: int = 0
    has_ended: bool = False
