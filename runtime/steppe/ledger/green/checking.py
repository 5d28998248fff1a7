"""What has to hold of the green energy in a log, in the order in which it is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.hourly import green_shares
from steppe.ledger.green.match import GreenShare, Match, MatchError
from steppe.ledger.periods.period import Period
from steppe.ledger.receipt import Receipt
from steppe.ledger.tree import check_inclusion


def check_matches(
    matches: Iterable[Match], certificates: Mapping[str, Certificate]
) -> Mapping[str, int]:
    """Check that no Wh of a certificate is used twice, and none elsewhere than where it may be.

    Args:
        matches: All matches of a log.
        certificates: All its certificates, by id.

    Returns:
        How many Wh of each certificate are used.

    Raises:
        MatchError: The first thing that does not hold.
    """
    used_wh: dict[str, int] = {}
    done_wh: dict[tuple[str, int], int] = {}
    for match in matches:
        check_sums(match)
        for id_, wh in match.certificates.items():
            used_wh[id_] = used_wh.get(id_, 0) + wh
            _check_use(match, certificates.get(id_), id_, used_wh[id_])
        key = (match.site, match.hour)
        done_wh[key] = done_wh.get(key, 0) + match.green_wh + match.gec_wh
        if done_wh[key] > match.load_wh:
            asked = f"asked for at most its load, {match.load_wh} Wh"
            raise MatchError(f"match {match.id}: {asked}, found {done_wh[key]} Wh")
    return used_wh


def check_sums(match: Match) -> None:
    """Check what a match says by itself.

    Raises:
        MatchError: The first thing that does not hold.
    """
    used_wh = sum(match.certificates.values())
    if used_wh != match.green_wh + match.gec_wh:
        asked = f"asked for the {used_wh} Wh of its certificates"
        found = f"found {match.green_wh} Wh green and {match.gec_wh} Wh of GECs"
        raise MatchError(f"match {match.id}: {asked}, {found}")
    for name, sold_uj, most_uj in (
        ("sold_uj", match.sold_uj, match.green_uj),
        ("gec_sold_uj", match.gec_sold_uj, match.gec_uj),
    ):
        if not 0 <= sold_uj <= most_uj:
            raise MatchError(f"match {match.id}: {name}: asked for 0 to {most_uj}, found {sold_uj}")


def check_hour(
    matches: Sequence[Match], period: Period, receipts: Sequence[Receipt]
) -> list[GreenShare]:
    """Check the matches of an hour against its book; return the shares of its receipts.

    Args:
        matches: The matches of the hour, in their order.
        period: The book of the hour.
        receipts: Its receipts, and the corrections written in it.

    Raises:
        MatchError: The first thing that does not hold.
    """
    shares = green_shares(matches, period, receipts)
    for name, given_uj, said_uj in (
        ("sold_uj", sum(share.green_uj for share in shares), sum(m.sold_uj for m in matches)),
        ("gec_sold_uj", sum(share.gec_uj for share in shares), sum(m.gec_sold_uj for m in matches)),
    ):
        if given_uj != said_uj:
            where = f"hour {period.hour}: {name}, the sum of the shares"
            raise MatchError(f"{where}: asked for {given_uj}, found {said_uj}")
    return shares


def check_green_share(match: Match, share: GreenShare, place: int, path: Sequence[bytes]) -> None:
    """Check that a match gives a receipt this share.

    Args:
        match: The match.
        share: The share, with the hash of the receipt.
        place: Its place among the receipts of the hour, from 0.
        path: The audit path of its leaf.

    Raises:
        ProofError: It does not.
    """
    check_inclusion(share.leaf, place, match.head, path)


def _check_use(match: Match, certificate: Certificate | None, id_: str, used_wh: int) -> None:
    where = f"match {match.id}: certificate {id_}"
    if certificate is None:
        raise MatchError(f"{where}: asked for it, found none of this id")
    if not certificate.fits(match.zone, match.hour):
        asked = f"asked to use it in {match.zone}"
        span = f"{certificate.from_hour} to {certificate.to_hour - 1}"
        raise MatchError(f"{where}: {asked}, found it for {certificate.zone}, hours {span}")
    if used_wh > certificate.wh:
        raise MatchError(f"{where}: asked for at most {certificate.wh} Wh, found {used_wh} Wh used")
