"""The metrics of the ledger service in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from steppe.ledger.admission import AdmissionTerms, Refusal
from steppe.ledger.outbox.outbox import SentCounts
from steppe.ledger.store.books import BookingResult
from steppe.ledger.store.closing import Closed
from steppe.ledger.witnesses.asking import WitnessState

_JOULES_PER_UJ, _JOULES_PER_WH = 1e-6, 3600.0


class LedgerMetrics:
    """Receipts, admissions and the log; base units, counters end in `_total`."""

    def __init__(self) -> None:
        """Define them."""
        self._registry = registry = CollectorRegistry()
        self._totals: dict[str, int] = {}
        self._receipts = Counter(
            "steppe_ledger_receipts",
            "Receipts written since the service started, by how their request ended.",
            ["finish"],
            registry=registry,
        )
        self._joules = Counter(
            "steppe_ledger_receipts_joules",
            "Energy of these receipts, by where it is from.",
            ["source"],
            registry=registry,
        )
        self._unpriced = Counter(
            "steppe_ledger_unpriced",
            "Receipts for which the rate of their admission does not hold; they have no price.",
            registry=registry,
        )
        self._admissions = Counter(
            "steppe_ledger_decisions",
            "Requests on which the ledger has decided: `admitted`, or the code of the refusal.",
            ["outcome"],
            registry=registry,
        )
        self._bookings = Counter(
            "steppe_ledger_bookings", "Steps of the books of runs, taken.", registry=registry
        )
        self._expired = Counter(
            "steppe_ledger_holds_expired",
            "Requests whose hold was given back because it was too old.",
            registry=registry,
        )
        self._periods = Counter(
            "steppe_ledger_hours_closed", "Hours that were closed.", registry=registry
        )
        self._entries = Gauge("steppe_ledger_entries", "Entries of the store.", registry=registry)
        self._published = Gauge(
            "steppe_ledger_published_entries", "Entries of the published log.", registry=registry
        )
        self._admissions.labels("admitted")
        self._define_green(registry)
        self._define_outside(registry)

    def count_booking(self, taken: BookingResult) -> None:
        """Count a booking and its receipts."""
        self._bookings.inc()
        self._unpriced.inc(taken.unpriced)
        for each in taken.receipts:
            self._receipts.labels(each.finish).inc()
            self._joules.labels(each.energy_source).inc(each.energy_uj * _JOULES_PER_UJ)

    def count_admissions(self, outcomes: Iterable[AdmissionTerms | Refusal]) -> None:
        """Count decisions."""
        for each in outcomes:
            outcome = each.code if isinstance(each, Refusal) else "admitted"
            self._admissions.labels(outcome).inc()

    def count_expired(self, requests: int) -> None:
        """Count requests whose hold was too old."""
        self._expired.inc(requests)

    def count_closed(self, closed: Closed) -> None:
        """Count an hour that was closed, and what of it is green."""
        self._periods.inc()
        if (match := closed.match) is not None:
            self._load.inc(match.load_wh * _JOULES_PER_WH)
            self._matched.labels("hour").inc(match.green_uj * _JOULES_PER_UJ)
            self._matched.labels("gec").inc(match.gec_uj * _JOULES_PER_UJ)

    def note_outside(self, asked: Mapping[str, WitnessState], sent: SentCounts | None) -> None:
        """Note how it goes with the witnesses and the sink.

        Args:
            asked: The witnesses, by name.
            sent: The sink; None without one.
        """
        for name, each in asked.items():
            self._signed.labels(name).set(each.size)
            self._raise(self._not_signed.labels(name), f"witness {name}", each.failed)
        if sent is not None:
            self._raise(self._events.labels("sent"), "sent", sent.events)
            self._raise(self._events.labels("refused"), "refused", sent.refused)
            self._raise(self._sink_failures, "failed", sent.failed)

    def _define_green(self, registry: CollectorRegistry) -> None:
        self._load = Counter(
            "steppe_ledger_load_joules",
            "Energy that the site used in these hours, in whole Wh.",
            registry=registry,
        )
        self._matched = Counter(
            "steppe_ledger_matched_joules",
            "What of it was matched to green generation of the `hour`, or is covered by `gec`s.",
            ["by"],
            registry=registry,
        )
        for by in ("hour", "gec"):
            self._matched.labels(by)

    def _define_outside(self, registry: CollectorRegistry) -> None:
        self._signed = Gauge(
            "steppe_ledger_witness_signed_entries",
            "Entries of the last head of the log that a witness has signed.",
            ["witness"],
            registry=registry,
        )
        self._not_signed = Counter(
            "steppe_ledger_witness_failures",
            "Heads that a witness did not sign when it was asked.",
            ["witness"],
            registry=registry,
        )
        self._events = Counter(
            "steppe_ledger_events",
            "Events of receipts since the service started: `sent`, or `refused` by the sink.",
            ["outcome"],
            registry=registry,
        )
        self._sink_failures = Counter(
            "steppe_ledger_sink_failures",
            "Calls to the sink that failed and are made again.",
            registry=registry,
        )

    def _raise(self, counter: Counter, name: str, total: int) -> None:
        """Raise a counter to a total that is counted elsewhere."""
        counter.inc(total - self._totals.get(name, 0))
        self._totals[name] = total

    def exposition(self, entries: int, published: int) -> bytes:
        """Return all metrics.

        Args:
            entries: Entries of the store.
            published: Entries of the published log.
        """
        self._entries.set(entries)
        self._published.set(published)
        return generate_latest(self._registry)
