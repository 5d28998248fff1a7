"""Whatever is sent, lost, repeated or forged: both sites agree, or the mismatch is listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.ledger.receipt import Receipt
from steppe.ledger.settlement import (
    Owed,
    RemoteEnergy,
    Settlement,
    owed_change_uj,
    remote_energy_of,
    settlement_of,
)
from steppe.sites.settlement.compare import (
    AcceptedRequest,
    LoggedReceipt,
    Noted,
    PeriodComparison,
    compare,
)
from steppe.sites.settlement.sent import Sent
from steppe.sites.trust.token import Token

EMPTY = Settlement("shanghai", "hohhot", 7, 60, "hohhot", 0, 1_000)
REFUSED = {"missing_here", "not_served", "duplicate", "correction"}
MOST_UJ = 1_000


@dataclass(frozen=True)
class Try:
    """A request between two sites, and what became of it.

    Attributes:
        number: Its number.
        end: How it ended, as the home saw it.
        is_noted: Whether the home has a note.
        has_token: Whether the target kept the token.
        energy_uj: Energies of its receipts, uJ: none, one, or a second one.
        changes_uj: Energies of corrections of the first one, uJ.
    """

    number: int
    end: str
    is_noted: bool
    has_token: bool
    energy_uj: tuple[int, ...]
    changes_uj: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"r{self.number}"

    @property
    def note(self) -> Sent:
        status = {"served": 200, "lost": 200, "refused": 503, "unreachable": 0}[self.end]
        tenant = f"t{self.number % 3}"
        end = self.end
        return Sent(self.name, "hohhot", tenant, "m", 5, 3, 0, 1, end, status, MOST_UJ)  # type: ignore[arg-type]

    @property
    def claims(self) -> list[LoggedReceipt]:
        token = None
        if self.has_token:
            token = Token("shanghai", "hohhot", "x", self.name, MOST_UJ, 0, 60)
        first = [
            _receipt(f"{self.name}.{at}", self.name, uj) for at, uj in enumerate(self.energy_uj)
        ]
        corrections = [
            replace(_receipt(f"{self.name}.c{at}", self.name, uj), corrects=f"{self.name}.0")
            for at, uj in enumerate(self.changes_uj)
        ]
        corrections = [replace(one, prompt_tokens=0, output_tokens=0) for one in corrections]
        return [LoggedReceipt(one, one.entry, token) for one in (*first, *corrections)]


def _receipt(id_: str, request: str, energy_uj: int) -> Receipt:
    return Receipt(
        id_, request, 0, "hohhot", "site:shanghai", "m", "standard", 5, 0, 3, energy_uj, "counter",
        "gpu", 1, 0, 1, "stop",
    )  # fmt: skip


TRIES = st.lists(
    st.builds(
        Try,
        number=st.just(0),
        end=st.sampled_from(["served", "served", "lost", "refused", "unreachable"]),
        is_noted=st.booleans(),
        has_token=st.booleans(),
        energy_uj=st.sampled_from([(), (700,), (700,), (0,), (1_500,), (700, 100)]),
        changes_uj=st.sampled_from([(), (), (-300,), (400, -300), (-5_000,)]),
    ),
    max_size=8,
).map(lambda tries: [replace(one, number=at) for at, one in enumerate(tries)])


def claimed(claims: Sequence[LoggedReceipt]) -> Settlement:
    """Return what the target says: the sum of all its receipts, no more than the tokens say."""
    before: dict[str, int] = {}
    owed = []
    for claim in claims:
        request, more_uj = claim.receipt.request, claim.receipt.energy_uj
        most_uj = None if claim.token is None else claim.token.most_uj
        owed_uj = owed_change_uj(before.get(request, 0), more_uj, most_uj)
        before[request] = before.get(request, 0) + more_uj
        owed.append(Owed(claim.receipt, claim.entry, owed_uj))
    return settlement_of(EMPTY, owed)


def compared(tries: Sequence[Try], claims: Sequence[LoggedReceipt]) -> PeriodComparison:
    sent = {one.name: one.note for one in tries if one.is_noted}
    return compare(claimed(claims), claims, Noted(sent, due_us=100))


@settings(max_examples=200, deadline=None)
@given(TRIES, st.randoms(use_true_random=False))
def test_both_agree_or_the_mismatch_is_listed(tries: list[Try], rng: object) -> None:
    claims = [claim for one in tries for claim in one.claims]
    rng.shuffle(claims)  # type: ignore[attr-defined]
    found = compared(tries, claims)
    kinds = {each.what for each in found.mismatches}
    if not found.agrees:
        assert kinds & (REFUSED | {"over_cap"})
    refused = [each for each in found.mismatches if each.what in REFUSED]
    assert len(refused) == len(claims) - len(found.accepted)
    accepted = {known.request for _, known in found.accepted}
    for one in tries:
        if one.is_noted and one.end == "served" and one.name not in accepted:
            listed = {each.what for each in found.mismatches if each.request == one.name}
            assert "missing_there" in listed


@settings(max_examples=200, deadline=None)
@given(TRIES, st.randoms(use_true_random=False))
def test_sums_are_exact_and_no_request_is_owed_beyond_its_cap(
    tries: list[Try], rng: object
) -> None:
    claims = [claim for one in tries for claim in one.claims]
    rng.shuffle(claims)  # type: ignore[attr-defined]
    found = compared(tries, claims)
    own = found.settlement
    assert own.owed_uj == sum(share.owed_uj for share in found.shares)
    assert own.energy_uj == sum(share.energy_uj for share in found.shares)
    assert own.output_tokens == sum(share.output_tokens for share in found.shares)
    by_request: dict[str, int] = {}
    for owed, known in found.accepted:
        by_request[known.request] = by_request.get(known.request, 0) + owed.owed_uj
    assert all(0 <= owed_uj <= MOST_UJ for owed_uj in by_request.values())


@settings(max_examples=200, deadline=None)
@given(TRIES, st.integers(0, 20))
def test_two_periods_owe_what_one_would(tries: list[Try], cut: int) -> None:
    claims = [claim for one in tries for claim in one.claims]
    sent = {one.name: one.note for one in tries if one.is_noted}
    whole = compare(claimed(claims), claims, Noted(sent))
    first = compare(claimed(claims[:cut]), claims[:cut], Noted(sent))
    known: dict[str, AcceptedRequest] = {after.request: after for _, after in first.accepted}
    second = compare(claimed(claims[cut:]), claims[cut:], Noted(sent, known))
    parts = first.settlement.owed_uj + second.settlement.owed_uj
    assert parts == whole.settlement.owed_uj
    assert len(first.accepted) + len(second.accepted) == len(whole.accepted)


def test_energy_that_no_store_can_keep_is_refused() -> None:
    tries = [Try(0, "served", True, True, (2**63 - 1,), (5,)), Try(1, "lost", True, True, (), ())]
    claims = [claim for one in tries for claim in one.claims]
    balance = replace(_receipt("x", "r1", -10), prompt_tokens=0, output_tokens=0)
    claims.append(LoggedReceipt(balance, balance.entry))
    found = compared(tries, claims)
    assert [each.what for each in found.mismatches if each.what == "correction"] == 2 * [
        "correction"
    ]
    assert all(known.energy_uj < 2**63 for _, known in found.accepted)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 350))
def test_a_division_among_many_tenants_is_read_back_and_adds_up(count: int) -> None:
    tries = [Try(at, "served", True, True, (700,), ()) for at in range(count)]
    sent = {one.name: replace(one.note, tenant=one.name) for one in tries}
    claims = [claim for one in tries for claim in one.claims]
    found = compare(claimed(claims), claims, Noted(sent))
    parts = remote_energy_of(found.settlement, found.shares, found.mismatches)
    read = [RemoteEnergy.read(part.entry) for part in parts]
    assert read == parts
    assert sum(share.owed_uj for part in read for share in part.tenants) == 700 * count
    assert len({part.logged.id for part in parts}) == len(parts)
