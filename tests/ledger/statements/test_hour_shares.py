"""What an hour gives to the receipts of a tenant: idle and green energy, each with its proof."""

from __future__ import annotations

from tests.ledger.green.hours import RECEIPTS, period_of
from tests.ledger.green.test_hourly import match_of

from steppe.ledger.green.match import GreenShare
from steppe.ledger.periods.shares import IdleShare
from steppe.ledger.statements.hour_shares import ShareProof, shared_in_hour
from steppe.ledger.tree import Head, check_inclusion


def checked(proof: ShareProof, head: Head) -> None:
    leaf = (IdleShare if proof.kind == "period" else GreenShare)(**proof.share).leaf
    check_inclusion(leaf, proof.index, head, proof.path)


def test_each_receipt_proves_its_idle_and_its_green_share() -> None:
    period = period_of(RECEIPTS, idle_wh=1, rest_wh=2)
    match = match_of(period)
    found = shared_in_hour(period, [match], RECEIPTS, "lab")
    assert sorted(found) == ["r0", "r2"]
    for shared in found.values():
        idle, green = shared.proofs
        assert (idle.kind, green.kind, green.id) == ("period", "match", match.id)
        checked(idle, period.head)
        checked(green, match.head)
        assert shared.share.green_uj == green.share["green_uj"]
    both = [*found.values(), *shared_in_hour(period, [match], RECEIPTS, "shop").values()]
    assert sum(shared.share.green_uj for shared in both) == match.sold_uj
    assert sum(shared.share.idle_uj for shared in both) == period.idle_uj


def test_without_a_match_nothing_is_green() -> None:
    period = period_of(RECEIPTS, idle_wh=1)
    found = shared_in_hour(period, [], RECEIPTS, "shop")
    assert [shared.share.green_uj for shared in found.values()] == [0]
