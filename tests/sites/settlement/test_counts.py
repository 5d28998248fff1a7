"""What a home counts of its settlements, as Prometheus reads it."""

from __future__ import annotations

import pytest
from prometheus_client import Metric
from tests.sites.settlement.two_sites import HOME, LENGTH_S, TARGET, served

from steppe.ledger.receipt import Receipt
from steppe.ledger.receipts_of import Place, receipts_of
from steppe.ledger.settlement import Mismatch, Owed, Settlement
from steppe.sites.settlement.compare import KINDS, AcceptedRequest, PeriodComparison
from steppe.sites.settlement.counts import SettlementCounts
from steppe.sites.trust.claims import Fits, Unheard, Withheld

EMPTY = Settlement(HOME, TARGET, 1, LENGTH_S, TARGET, 0, 1)
KNOWN = AcceptedRequest("r1", "", "lab", 0, 0)


@pytest.fixture
def counts() -> SettlementCounts:
    return SettlementCounts([TARGET])


@pytest.fixture
def receipt() -> Receipt:
    (found,) = receipts_of([served("r1", 700)], Place("hohhot", "gpu", 0, 0), {})
    return found


def compared(
    *owed: Owed, mismatches: tuple[Mismatch, ...] = (), agrees: bool = True
) -> PeriodComparison:
    accepted = tuple((each, KNOWN) for each in owed)
    return PeriodComparison(EMPTY, agrees, accepted, (), mismatches, ())


def samples(metrics: list[Metric], name: str) -> dict[str, float]:
    """Return the samples of a metric by their labels after the site, and those that are not 0."""
    return {
        " ".join(value for label, value in sample.labels.items() if label != "site"): sample.value
        for metric in metrics
        for sample in metric.samples
        if sample.name == f"steppe_sites_{name}" and sample.value
    }


def test_everything_begins_at_zero_so_that_its_first_event_is_a_rise(
    counts: SettlementCounts,
) -> None:
    by_name = {metric.name: metric.samples for metric in counts.metrics(())}
    assert len(by_name["steppe_sites_settlement_mismatches"]) == len(KINDS)
    assert len(by_name["steppe_sites_settlements"]) == 2
    assert len(by_name["steppe_sites_claims_judged"]) == 4
    assert {sample.value for found in by_name.values() for sample in found} == {0.0}


def test_settlements_count_by_whether_both_say_the_same(counts: SettlementCounts) -> None:
    counts.note(TARGET, compared())
    forged = Mismatch("missing_here", "r9", "", "found neither a note of it nor a token")
    counts.note(TARGET, compared(mismatches=(forged, forged), agrees=False))
    metrics = counts.metrics([TARGET])
    assert samples(metrics, "settlements_total") == {"yes": 1.0, "no": 1.0}
    assert samples(metrics, "settlement_mismatches_total") == {"missing_here": 2.0}
    assert samples(metrics, "settlement_waits") == {"": 1.0}


def test_what_is_owed_and_what_corrections_take_back_rise_each(
    counts: SettlementCounts, receipt: Receipt
) -> None:
    for owed_uj in (700, 300, -200):
        counts.note(TARGET, compared(Owed(receipt, b"", owed_uj)))
    metrics, source = counts.metrics(()), receipt.energy_source
    owed = samples(metrics, "owed_joules_total")
    assert owed == {f"{source} more": 0.001, f"{source} less": 0.0002}
    assert samples(metrics, "settlement_receipts_total") == {"": 3.0}


def test_judged_hours_count_by_what_came_out(counts: SettlementCounts) -> None:
    for verdict in (Fits(1), Fits(2), Unheard(3, 60.0), Withheld(4, "it has no records")):
        counts.note_verdict(TARGET, verdict)
    found = samples(counts.metrics(()), "claims_judged_total")
    assert found == {"fits": 2.0, "unheard": 1.0, "withheld": 1.0}
