"""What the books of an hour give to the receipts of a tenant, and the proof of it.

A receipt is written before its hour closes, so it does not say its share of the idle energy, nor
what of it is green. The entries of the hour hold the roots of the trees of these shares.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from steppe.ledger.green.hourly import shares_by_match
from steppe.ledger.green.match import GreenShare, Match
from steppe.ledger.periods.period import Period
from steppe.ledger.periods.shares import IdleShare, paths_of, shares_of
from steppe.ledger.receipt import Receipt
from steppe.ledger.statements.statement import ReceiptShare


@dataclass(frozen=True, slots=True)
class ShareProof:
    """That an entry of the log gives a receipt a share.

    Attributes:
        kind: Kind of the entry: `period` or `match`.
        id: Id of the entry.
        share: The share; its leaf in the tree is the hash of its canonical JSON.
        index: Its place in the tree, from 0.
        size: Leaves of the tree.
        path: Hashes from its leaf to the root that the entry holds.
    """

    kind: str
    id: str
    share: dict[str, Any]
    index: int
    size: int
    path: tuple[bytes, ...]

    @property
    def row(self) -> dict[str, Any]:
        """Its values as JSON has them; hashes in base64."""
        path = [base64.b64encode(step).decode() for step in self.path]
        return {**asdict(self), "path": path}


@dataclass(frozen=True, slots=True)
class Shared:
    """What a receipt has of its hour.

    Attributes:
        share: Its shares.
        proofs: Their proofs.
    """

    share: ReceiptShare
    proofs: tuple[ShareProof, ...]

    @property
    def json(self) -> bytes:
        """The proofs as a file."""
        return orjson.dumps([proof.row for proof in self.proofs], option=orjson.OPT_INDENT_2)


def shared_in_hour(
    period: Period, matches: Sequence[Match], receipts: Sequence[Receipt], tenant: str
) -> dict[str, Shared]:
    """Return what each receipt of a tenant has of an hour, by the id of the receipt.

    Args:
        period: The book of the hour.
        matches: The matches of the hour, in their order.
        receipts: All receipts of the hour, and the corrections written in it.
        tenant: The tenant.

    Raises:
        MatchError: A match is missing, or gives other shares.
    """
    own = {one.id for one in receipts if one.tenant == tenant}
    proofs: dict[str, list[ShareProof]] = {id_: [] for id_ in own}
    idle = shares_of(period.idle_uj, receipts)
    _add_proofs(proofs, ("period", period.id), idle)
    green = dict.fromkeys(own, 0)
    for match, shares in zip(matches, shares_by_match(matches, period, receipts), strict=True):
        _add_proofs(proofs, ("match", match.id), shares)
        for share in shares:
            if share.receipt in own:
                green[share.receipt] += share.green_uj
    return {
        share.receipt: Shared(
            ReceiptShare(share.idle_uj, green[share.receipt]), tuple(proofs[share.receipt])
        )
        for share in idle
        if share.receipt in own
    }


def _add_proofs(
    proofs: dict[str, list[ShareProof]],
    of: tuple[str, str],
    shares: Sequence[IdleShare | GreenShare],
) -> None:
    """Add the proofs of the shares in one tree to those of their receipts.

    Args:
        proofs: The proofs so far, by the receipts of which they are asked; changed here.
        of: Kind and id of the entry that has the root of the tree.
        shares: The leaves of the tree, in their order.
    """
    places = [place for place, share in enumerate(shares) if share.receipt in proofs]
    paths = paths_of([share.leaf for share in shares], places)
    for place, path in zip(places, paths, strict=True):
        share = shares[place]
        proof = ShareProof(*of, asdict(share), place, len(shares), tuple(path))
        proofs[share.receipt].append(proof)
