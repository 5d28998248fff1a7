"""What a home noted, compared with the receipts that a target has signed: a pure function.

A receipt is accepted if the home noted the request, or has signed its token. What the home owes of
a request is its energy, but no more than its token says. Everything else is a mismatch, with one
line for people:

| kind | the receipt | what it is |
|---|---|---|
| `gap` | none | the places of the period do not begin where the last one ended |
| `missing_there` | none | a whole answer came, and there is no receipt of it |
| `late` | accepted | it was missing in a period before |
| `unnoted` | accepted | the home has no note of it, but has signed its token |
| `tokens`, `model` | accepted | it says otherwise than the note |
| `over_cap` | accepted | it has more energy than the home pays for |
| `missing_here` | refused | nothing was sent: neither a note nor a token |
| `not_served` | refused | there was no answer that could have taken energy |
| `duplicate` | refused | the request has a receipt already |
| `correction` | refused | it corrects a receipt that was not accepted |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from steppe.ledger.receipt import Receipt
from steppe.ledger.receipts_of import ascii_name
from steppe.ledger.settlement import (
    Mismatch,
    Owed,
    Settlement,
    TenantShare,
    owed_change_uj,
    settlement_of,
)
from steppe.sites.settlement.sent import Sent
from steppe.sites.trust.token import Token

_MOST_UJ = 2**63 - 1
"""Most energy that the store of the home can keep, uJ."""
KINDS = (
    "gap",
    "missing_there",
    "late",
    "unnoted",
    "tokens",
    "model",
    "over_cap",
    "missing_here",
    "not_served",
    "duplicate",
    "correction",
)
"""All kinds of mismatches."""
FAILED = "failed"
"""How a receipt of a request ends that failed through the fault of the target: it is all zeros."""


@dataclass(frozen=True, slots=True)
class LoggedReceipt:
    """A receipt that the log of the target contains.

    Attributes:
        receipt: The receipt.
        entry: Its bytes.
        token: The token of its request, signed by the home; None if the target gave none.
    """

    receipt: Receipt
    entry: bytes
    token: Token | None = None


@dataclass(frozen=True, slots=True)
class AcceptedRequest:
    """What was accepted of a request so far.

    Attributes:
        request: Its id.
        receipt: Id of its receipt.
        tenant: Its tenant at home.
        energy_uj: Energy of its receipt with its corrections, uJ.
        most_uj: Most energy that the home pays for, uJ.
    """

    request: str
    receipt: str
    tenant: str
    energy_uj: int
    most_uj: int


@dataclass(frozen=True, slots=True)
class Noted:
    """What the home has before it compares.

    Attributes:
        sent: Notes of what it sent to the target, by request.
        known: What was accepted in earlier periods, by request.
        missing: Requests that were missing in earlier periods.
        due_us: What ended before has to have its receipt by now, us since the Unix epoch.
        next_place: Where the last settlement with the target has ended; None before the first one.
    """

    sent: Mapping[str, Sent]
    known: Mapping[str, AcceptedRequest] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    due_us: int = 0
    next_place: int | None = None


@dataclass(frozen=True, slots=True)
class PeriodComparison:
    """What came out.

    Attributes:
        settlement: What the home says.
        agrees: Whether the target says the same.
        accepted: The receipts behind it, each with its request after it.
        missing: Requests that are missing, and were not before.
        mismatches: What does not fit.
        shares: The settlement divided among the tenants of the home, by name.
    """

    settlement: Settlement
    agrees: bool
    accepted: tuple[tuple[Owed, AcceptedRequest], ...]
    missing: tuple[str, ...]
    mismatches: tuple[Mismatch, ...]
    shares: tuple[TenantShare, ...]


def compare(claimed: Settlement, claims: Sequence[LoggedReceipt], noted: Noted) -> PeriodComparison:
    """Compare the receipts of a period, by their place in the target's log, with the notes.

    Args:
        claimed: What the target says; only whose, which period and which places are used.
        claims: The receipts, whose proofs hold.
        noted: What the home has.
    """
    known, mismatches = dict(noted.known), _gap(claimed, noted.next_place)
    accepted: list[tuple[Owed, AcceptedRequest]] = []
    for claim in claims:
        before = known.get(claim.receipt.request)
        reason = _refusal(claim, noted.sent.get(claim.receipt.request), before)
        if reason is not None:
            mismatches.append(reason)
            continue
        after = _after(claim, noted.sent.get(claim.receipt.request), before)
        before_uj = 0 if before is None else before.energy_uj
        owed_uj = owed_change_uj(before_uj, claim.receipt.energy_uj, after.most_uj)
        known[after.request] = after
        accepted.append((Owed(claim.receipt, claim.entry, owed_uj), after))
        mismatches += _remarks(claim, noted, after)
    missing = [
        one
        for one in noted.sent.values()
        if one.was_served
        and one.ended_us < noted.due_us
        and one.request not in known
        and one.request not in noted.missing
    ]
    mismatches += [_missing(one) for one in missing]
    own = settlement_of(claimed, [one for one, _ in accepted])
    return PeriodComparison(
        own,
        own == claimed,
        tuple(accepted),
        tuple(one.request for one in missing),
        tuple(mismatches),
        _shares(accepted),
    )


def _refusal(
    claim: LoggedReceipt, sent: Sent | None, before: AcceptedRequest | None
) -> Mismatch | None:
    """Return why a receipt is refused; None if it is accepted."""
    receipt = claim.receipt
    if receipt.corrects:
        return _refused_correction(receipt, before)
    if before is not None:
        return _of(receipt, "duplicate", f"found receipt {before.receipt} of it before")
    if min(receipt.energy_uj, receipt.prompt_tokens, receipt.output_tokens) < 0:
        return _of(receipt, "correction", "has amounts below 0 and corrects nothing")
    if sent is None:
        is_ours = claim.token is not None
        text = "found neither a note of it nor a token"
        return None if is_ours else _of(receipt, "missing_here", text)
    if sent.may_have_work or not _has_work(receipt):
        return None
    how = f"{sent.end}, status {sent.status}"
    return _of(receipt, "not_served", f"has {receipt.energy_uj} uJ, noted as {how}")


def _refused_correction(receipt: Receipt, before: AcceptedRequest | None) -> Mismatch | None:
    if before is None or before.receipt != receipt.corrects:
        return _of(receipt, "correction", f"corrects {receipt.corrects}, found no such one")
    left_uj = before.energy_uj + receipt.energy_uj
    if not 0 <= left_uj <= _MOST_UJ:
        return _of(receipt, "correction", f"would leave {left_uj} uJ of {before.receipt}")
    return None


def _after(
    claim: LoggedReceipt, sent: Sent | None, before: AcceptedRequest | None
) -> AcceptedRequest:
    """Return what is known of a request after a receipt that is accepted."""
    receipt, token = claim.receipt, claim.token
    if before is not None:
        return replace(before, energy_uj=before.energy_uj + receipt.energy_uj)
    if token is not None:
        tenant = token.tenant if sent is None else sent.tenant
        return AcceptedRequest(
            receipt.request, receipt.id, tenant, receipt.energy_uj, token.most_uj
        )
    assert sent is not None, "one of both is there"
    return AcceptedRequest(
        receipt.request, receipt.id, sent.tenant, receipt.energy_uj, sent.most_uj
    )


def _remarks(claim: LoggedReceipt, noted: Noted, after: AcceptedRequest) -> list[Mismatch]:
    """Return what does not fit of a receipt that is accepted."""
    receipt, sent = claim.receipt, noted.sent.get(claim.receipt.request)
    found: list[Mismatch] = []
    if receipt.corrects:
        return found
    if sent is None:
        found.append(_of(receipt, "unnoted", "found no note of it, but its token"))
    elif (reason := _other_tokens(receipt, sent)) is not None:
        found.append(_of(receipt, "tokens", reason))
    if sent is not None and receipt.model != ascii_name(sent.model):
        found.append(_of(receipt, "model", f"asked for {sent.model}, found {receipt.model}"))
    if receipt.energy_uj > after.most_uj:
        reason = f"asked for at most {after.most_uj} uJ, found {receipt.energy_uj} uJ"
        found.append(_of(receipt, "over_cap", reason))
    if receipt.request in noted.missing:
        found.append(_of(receipt, "late", "was missing in a period before"))
    return found


def _other_tokens(receipt: Receipt, sent: Sent) -> str | None:
    """Return in which way the tokens of a receipt differ from those of a note; None if not.

    If the answer did not come whole, the target may have generated more than came.
    """
    noted = (sent.prompt_tokens, sent.output_tokens)
    found = (receipt.prompt_tokens, receipt.output_tokens)
    if sent.was_served:
        differs = noted != found
    else:
        differs = receipt.finish != FAILED and receipt.output_tokens < sent.output_tokens
    if not differs:
        return None
    shown = f"{found[0]} prompt and {found[1]} output tokens"
    return f"asked for {noted[0]} and {noted[1]}, found {shown}"


def _gap(claimed: Settlement, next_place: int | None) -> list[Mismatch]:
    if next_place in (None, claimed.first):
        return []
    text = f"asked for receipts from place {next_place} on, found {claimed.first}"
    return [Mismatch("gap", "", "", text)]


def _has_work(receipt: Receipt) -> bool:
    return bool(receipt.energy_uj or receipt.output_tokens)


def _missing(sent: Sent) -> Mismatch:
    text = f"asked for a receipt of {sent.output_tokens} output tokens, found none"
    return Mismatch("missing_there", ascii_name(sent.request), "", text)


def _of(receipt: Receipt, what: str, text: str) -> Mismatch:
    return Mismatch(what, receipt.request, receipt.id, ascii_name(text))


def _shares(accepted: Sequence[tuple[Owed, AcceptedRequest]]) -> tuple[TenantShare, ...]:
    """Return the sums of each tenant; together they are those of the settlement."""
    sums: dict[str, TenantShare] = {}
    for owed, known in accepted:
        name, receipt = ascii_name(known.tenant), owed.receipt
        share = sums.get(name, TenantShare(name))
        sums[name] = TenantShare(
            name,
            share.receipts + 1,
            share.prompt_tokens + receipt.prompt_tokens,
            share.output_tokens + receipt.output_tokens,
            share.energy_uj + receipt.energy_uj,
            share.owed_uj + owed.owed_uj,
        )
    return tuple(sums[name] for name in sorted(sums))
