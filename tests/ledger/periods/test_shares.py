"""Shares of the idle energy: exact, fair, and provable one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.ledger.periods.test_period import COUNTERS, LATE_US, NEXT, NEXT_RECEIPTS, receipt

from steppe.ledger.periods.checking import check_share
from steppe.ledger.periods.closing import close_hour
from steppe.ledger.periods.shares import prove_share, shares_of
from steppe.ledger.tree import ProofError


def test_receipts_share_the_idle_energy_by_joules_and_corrections_have_none() -> None:
    shares = shares_of(NEXT.idle_uj, NEXT_RECEIPTS)
    assert [(s.receipt, s.idle_uj) for s in shares] == [
        ("id-3", 7_778),
        ("id-4", 0),
        ("id-5", 3_333),
    ]
    assert [each.idle_uj for each in NEXT_RECEIPTS] == [0, 0, 0]


@pytest.mark.parametrize("number", [1, 2, 3, 7, 8, 33])
def test_each_share_is_proven_by_itself(number: int) -> None:
    receipts = [receipt(seq, 1 + seq) for seq in range(number)]
    period = close_hour(COUNTERS, receipts, None, LATE_US)
    shares = shares_of(period.idle_uj, receipts)
    assert sum(share.idle_uj for share in shares) == period.idle_uj
    for place, share in enumerate(shares):
        path = prove_share(shares, place)
        check_share(period, share, place, path)
        for other in (replace(share, idle_uj=share.idle_uj + 1), replace(share, hash="0" * 64)):
            with pytest.raises(ProofError):
                check_share(period, other, place, path)
