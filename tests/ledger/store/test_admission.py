"""The decision at admission: which rate, what is set aside in which unit, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steppe.ledger.admission import Admission, AdmissionRules, AdmissionTerms, Refusal
from steppe.ledger.entries import available, deposited, granted, held
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.tariff import Rate, Tariff

NANO = 10**9
DAY_US = 86_400_000_000
NOON_US = 20_454 * DAY_US + DAY_US // 2  # 2026-01-01 12:00 UTC
MONEY = Tariff("cny-1", "CNY", 0, 0, (Rate(prompt_nano=1_000, cached_nano=100, output_nano=4_000),))
TOKENS = Tariff(
    "large-1", "tokens:large", 0, 0, (Rate("large", prompt_nano=NANO, output_nano=NANO),)
)
ENERGY = Tariff(
    "j-1", "energy", 0, 0, (Rate("large", joule_nano=NANO, hold_uj_per_token=2_000_000),)
)
RULES = AdmissionRules((MONEY, TOKENS, ENERGY))
ASKED = Admission("r1", "lab", "large", "standard", 10, 20)
MOST = 10 * 1_000 + 20 * 4_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore(str(tmp_path / "ledger.sqlite"))
    yield opened
    assert opened.audit() == []
    opened.close()


def admit(
    store: LedgerStore, asked: Admission = ASKED, rules: AdmissionRules = RULES, at: int = NOON_US
) -> AdmissionTerms | Refusal:
    return store.admit([asked], rules, at)[0]


def balance(store: LedgerStore, account: str, unit: str) -> int:
    return sum(each.balance for each in store.balances(account) if each.unit == unit)


def test_the_most_that_a_request_may_cost_is_set_aside(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", "CNY", MOST + 5)], 1)
    assert admit(store) == AdmissionTerms("cny-1/0", "CNY", MOST, 5)
    assert balance(store, held("lab"), "CNY") == MOST
    again = replace(ASKED, request="r2")
    assert admit(store, again) == Refusal(
        "insufficient_funds", "lab: asked for up to 0.00009 CNY, found 0.000000005 free", 5
    )
    store.end_request("r1", 1_000, [], NOON_US)
    assert balance(store, available("lab"), "CNY") == MOST + 5 - 1_000


def test_each_sequence_may_generate_as_much(store: LedgerStore) -> None:
    store.open_account("lab", "CNY", NANO)
    asked = replace(ASKED, sequences=3)
    assert admit(store, asked) == AdmissionTerms("cny-1/0", "CNY", 10_000 + 240_000, NANO - 250_000)


def test_the_same_admission_again_has_the_same_terms_at_another_hour(store: LedgerStore) -> None:
    night = replace(MONEY, rates=(Rate(from_hour=0, to_hour=13, output_nano=7), *MONEY.rates))
    rules = AdmissionRules((night,))
    store.open_account("lab", "CNY", NANO)
    first = admit(store, rules=rules)
    assert first == AdmissionTerms("cny-1/0", "CNY", 140, NANO - 140)
    assert admit(store, rules=rules, at=NOON_US + DAY_US // 12) == first
    assert admit(store, replace(ASKED, max_tokens=21), rules) == Refusal(
        "conflict", "request r1: asked to admit it, found it admitted for lab with another content"
    )
    store.end_request("r1", 7, [], NOON_US)
    ended = admit(store, rules=rules)
    assert ended == Refusal("conflict", "request r1: asked to admit it, found it ended")


def test_a_tenant_without_an_account_is_priced_in_money_unless_accounts_are_required(
    store: LedgerStore,
) -> None:
    assert admit(store, rules=replace(RULES, tariffs=(TOKENS, MONEY))) == AdmissionTerms(
        "cny-1/0", "CNY", 0, None
    )
    assert admit(store, rules=replace(RULES, needs_account=True)) == Refusal(
        "no_account", "lab: asked for an account of tokens:large, energy, CNY, found none"
    )
    assert store.balances() == []


def test_a_model_without_a_rate_is_free_unless_accounts_are_required(store: LedgerStore) -> None:
    rules = AdmissionRules((TOKENS,))
    small = replace(ASKED, model="small")
    assert admit(store, small, rules) == AdmissionTerms("", "", 0, None)
    assert admit(store, small, replace(rules, needs_account=True)) == Refusal(
        "no_rate", "lab: asked for a rate of small, standard, found none"
    )


def test_tokens_are_used_before_money_while_there_are_enough(store: LedgerStore) -> None:
    store.move([deposited("d1", "lab", "CNY", 5 * NANO)], 1)
    store.move([granted("g1", "lab", "tokens:large", 40 * NANO)], 1)
    assert admit(store) == AdmissionTerms("large-1/0", "tokens:large", 30 * NANO, 10 * NANO)
    second = admit(store, replace(ASKED, request="r2"))
    assert second == AdmissionTerms("cny-1/0", "CNY", MOST, 5 * NANO - MOST)
    small = admit(store, replace(ASKED, request="r3", model="small"))
    assert isinstance(small, AdmissionTerms)
    assert small.currency == "CNY"


def test_the_series_that_ends_first_is_used_first_and_one_that_has_ended_never(
    store: LedgerStore,
) -> None:
    old, soon, late = (f"tokens:large@2026-{day}" for day in ("01-01", "01-02", "03-01"))
    for unit, tokens in ((old, 100), (late, 50), (soon, 20), ("tokens:large", 7)):
        store.move([granted(unit, "lab", unit, tokens * NANO)], 1)
    at = NOON_US + DAY_US // 2  # midnight: the first of January is over
    assert admit(store, at=at) == AdmissionTerms("large-1/0", "tokens:large", 30 * NANO, 47 * NANO)
    aside = {each.unit: each.balance // NANO for each in store.balances(held("lab"))}
    assert aside == {soon: 20, late: 10}
    store.end_request("r1", 22 * NANO, [], at)
    left = {each.unit: each.balance // NANO for each in store.balances(available("lab"))}
    assert left == {old: 100, soon: 0, late: 48, "tokens:large": 7}
    assert admit(store, replace(ASKED, request="r2", max_tokens=46), at=at) == Refusal(
        "insufficient_funds", "lab: asked for up to 56 tokens:large, found 55 free", 55 * NANO
    )


def test_energy_is_set_aside_by_the_joules_that_a_rate_counts_for_a_token(
    store: LedgerStore,
) -> None:
    store.move([deposited("d1", "lab", "energy", 100 * NANO)], 1)
    assert admit(store) == AdmissionTerms("j-1/0", "energy", 60 * NANO, 40 * NANO)
    plain = replace(ENERGY, rates=(Rate(joule_nano=NANO),))
    found = admit(store, replace(ASKED, request="r2"), AdmissionRules((plain,)))
    assert found == Refusal(
        "insufficient_funds", "lab: asked for up to 600 J, found 40 free", 40 * NANO
    )


def test_of_two_tariffs_of_a_currency_the_one_that_began_last_holds(store: LedgerStore) -> None:
    newer = replace(MONEY, id="cny-2", valid_from_us=NOON_US)
    rules = AdmissionRules((MONEY, newer))
    assert admit(store, rules=rules, at=NOON_US - 1) == AdmissionTerms("cny-1/0", "CNY", 0, None)
    assert admit(store, rules=rules) == AdmissionTerms("cny-2/0", "CNY", 0, None)


def test_the_rate_of_a_green_band_holds_while_surplus_lasts(store: LedgerStore) -> None:
    green = replace(MONEY, rates=(Rate(band="surplus", output_nano=1), *MONEY.rates))
    rules = AdmissionRules((green,))
    assert admit(store, replace(ASKED, band="surplus"), rules) == AdmissionTerms(
        "cny-1/0", "CNY", 0, None
    )
    assert admit(store, ASKED, rules) == AdmissionTerms("cny-1/1", "CNY", 0, None)


def test_requests_of_one_call_are_admitted_in_their_order_as_far_as_the_money_goes(
    store: LedgerStore,
) -> None:
    store.move([deposited("d1", "lab", "CNY", 2 * MOST)], 1)
    asked = [replace(ASKED, request=f"r{number}") for number in range(4)]
    found = store.admit(asked, RULES, NOON_US)
    assert [type(each) for each in found] == [AdmissionTerms, AdmissionTerms, Refusal, Refusal]
    assert [each.free for each in found] == [MOST, 0, 0, 0]


def test_a_price_of_nothing_sets_nothing_aside(store: LedgerStore) -> None:
    store.open_account("lab", "CNY")
    free = AdmissionRules((replace(MONEY, rates=(Rate(),)),), needs_account=True)
    assert admit(store, rules=free) == AdmissionTerms("cny-1/0", "CNY", 0, 0)
