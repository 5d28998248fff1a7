"""Any order of calls gives the balances of a model of a few lines, and no unit is made or lost."""

from __future__ import annotations

import tempfile
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.ledger.store.test_admission import DAY_US, NOON_US

from steppe.ledger.admission import Admission, AdmissionRules, AdmissionTerms, Payer, Refusal
from steppe.ledger.entries import available, deposited, held, transferred
from steppe.ledger.quote import Quote
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry, TooLowError
from steppe.ledger.tariff import Rate, Tariff
from steppe.ledger.trades import Package

CNY, PLAIN = "CNY", "tokens:large"
SERIES = {f"{PLAIN}@2026-01-{day:02}": NOON_US + (day - 1) * DAY_US for day in (2, 4)}
"""Units, and the noon of their last day."""
MONEY = Tariff("money", CNY, 0, 0, (Rate(prompt_nano=2, output_nano=3),))
TOKENS = Tariff("tokens", PLAIN, 0, 0, (Rate(prompt_nano=1, output_nano=1),))
RULES = AdmissionRules((MONEY, TOKENS), needs_account=True)
TENANT, AMOUNT = st.sampled_from("ab"), st.integers(1, 60)
UNIT = st.sampled_from([CNY, PLAIN, *SERIES])


class AgainstModel(RuleBasedStateMachine):
    """The store beside a model that knows balances and holds only."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = LedgerStore(f"{self.folder.name}/ledger.sqlite")
        self.store.add([LogEntry("tariff", MONEY.id, "", 1, MONEY.entry)])
        self.free = {("a", CNY): 0, ("b", CNY): 0}
        for tenant in "ab":
            self.store.open_account(tenant, CNY)
        self.holds: dict[str, tuple[str, list[tuple[str, int]]]] = {}
        self.late: dict[str, str] = {}
        self.paid_in_tokens: set[str] = set()
        self.quotes: dict[str, str] = {}
        self.revenue, self.number, self.now_us = Counter[str](), 0, NOON_US

    def name(self) -> str:
        self.number += 1
        return f"n{self.number}"

    def give(self, tenant: str, unit: str, amount: int) -> None:
        self.free[tenant, unit] = self.free.get((tenant, unit), 0) + amount

    def token_units(self) -> list[str]:
        return [*(unit for unit in SERIES if not self.is_over(unit)), PLAIN]

    def is_over(self, unit: str) -> bool:
        return unit in SERIES and self.now_us >= SERIES[unit] + DAY_US // 2

    @rule(tenant=TENANT, amount=AMOUNT, unit=UNIT)
    def deposit(self, tenant: str, amount: int, unit: str) -> None:
        self.store.move([deposited(self.name(), tenant, unit, amount)], 1)
        self.give(tenant, unit, amount)

    @rule(tenant=TENANT, price=AMOUNT, amount=AMOUNT, twice=st.booleans())
    def buy(self, tenant: str, price: int, amount: int, twice: bool) -> None:
        unit = next((each for each in SERIES if not self.is_over(each)), PLAIN)
        package = Package(self.name(), tenant, unit, amount, CNY, price)
        if price > self.free[tenant, CNY]:
            with pytest.raises(TooLowError):
                self.store.trade(package, self.now_us)
            return
        for number in range(1 + twice):
            assert self.store.trade(package, self.now_us) == (number == 0)
        self.revenue[CNY] += price
        self.give(tenant, CNY, -price)
        self.give(tenant, unit, amount)

    @rule(giver=TENANT, amount=AMOUNT, unit=UNIT)
    def transfer(self, giver: str, amount: int, unit: str) -> None:
        taker = "b" if giver == "a" else "a"
        movement = transferred(self.name(), giver, taker, unit, amount)
        if amount > self.free.get((giver, unit), 0):
            with pytest.raises(TooLowError):
                self.store.move([movement], 1)
            return
        self.store.move([movement], 1)
        self.give(giver, unit, -amount)
        self.give(taker, unit, amount)

    @rule(tenant=TENANT, prompt=st.integers(0, 20), most=st.integers(1, 20), twice=st.booleans())
    def admit(self, tenant: str, prompt: int, most: int, twice: bool) -> None:
        asked = Admission(self.name(), tenant, "large", "standard", prompt, most)
        found = [self.store.admit([asked], RULES, self.now_us)[0] for _ in range(1 + twice)]
        assert found[0] == found[-1]
        parts = self.parts(tenant, self.token_units(), prompt + most)
        parts = parts or self.parts(tenant, [CNY], 2 * prompt + 3 * most)
        self.keep(asked, found[0], parts)

    @rule(tenant=TENANT, tokens=AMOUNT)
    def quote(self, tenant: str, tokens: int) -> None:
        name, until_us = self.name(), self.now_us + DAY_US
        quote = Quote(
            name, tenant, "large", "standard", tokens, self.now_us, until_us, "money/0", CNY
        )
        assert self.store.issue_quote(quote, self.now_us)
        self.give(tenant, f"quote:{name}", tokens)
        self.quotes[name] = tenant

    @precondition(lambda self: self.quotes)
    @rule(data=st.data(), prompt=st.integers(0, 9), most=st.integers(1, 9))
    def admit_by_quote(self, data: st.DataObject, prompt: int, most: int) -> None:
        quote = data.draw(st.sampled_from(sorted(self.quotes)))
        tenant = self.quotes[quote]
        asked = Admission(self.name(), tenant, "large", "standard", prompt, most, quote=quote)
        found = self.store.admit([asked], RULES, self.now_us)[0]
        tokens = self.parts(tenant, [f"quote:{quote}"], prompt + most)
        money = self.parts(tenant, [CNY], 2 * prompt + 3 * most)
        self.keep(asked, found, money + tokens if money and tokens else [])

    def parts(self, tenant: str, units: list[str], most: int) -> list[tuple[str, int]]:
        """Return what is taken of each unit in turn; nothing if there is too little."""
        parts, rest = [], most
        for unit in units:
            if taken := min(rest, self.free.get((tenant, unit), 0)):
                parts.append((unit, taken))
                rest -= taken
        return [] if rest else parts

    def keep(
        self, asked: Admission, found: AdmissionTerms | Refusal, parts: list[tuple[str, int]]
    ) -> None:
        assert isinstance(found, AdmissionTerms) == bool(parts)
        for unit, amount in parts:
            self.give(asked.tenant, unit, -amount)
        if parts:
            self.holds[asked.request] = (asked.tenant, parts)
            if parts[0][0] != CNY:
                self.paid_in_tokens.add(asked.request)

    @precondition(lambda self: self.holds or self.late)
    @rule(cost=st.integers(0, 120), tokens=st.integers(0, 40), data=st.data())
    def end(self, cost: int, tokens: int, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted({**self.holds, **self.late})))
        currency = PLAIN if name in self.paid_in_tokens else CNY
        is_late = name in self.late
        tenant, parts = (self.late.pop(name), []) if is_late else self.holds.pop(name)
        entry, payer = LogEntry("receipt", name, tenant, 1, b"{}"), Payer(tenant, currency)
        for _ in range(2):
            self.store.end_request(name, cost, [entry], self.now_us, tokens, payer=payer)
        for unit, amount in parts:
            paid = min(tokens if unit.startswith("quote:") else cost, amount)
            cost -= 0 if unit.startswith("quote:") else paid
            self.revenue[unit] += paid
            self.give(tenant, unit, amount - paid)
        units = [CNY] if currency == CNY else self.token_units()
        free = sum(self.free.get((tenant, unit), 0) for unit in units)
        for unit, amount in self.parts(tenant, units, min(cost, free)):
            self.revenue[unit] += amount
            self.give(tenant, unit, -amount)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.holds)))
        assert self.store.give_back(name, self.now_us)
        self.drop(name)

    def drop(self, name: str) -> None:
        tenant, parts = self.holds.pop(name)
        for unit, amount in parts:
            self.give(tenant, unit, amount)
        self.late[name] = tenant

    @rule(days=st.integers(0, 1))
    def let_time_pass(self, days: int) -> None:
        self.now_us += days * DAY_US
        if days:  # a hold is kept for an hour, and every quote for a day
            assert self.store.give_back_expired(self.now_us) == len(self.holds)
            for name in list(self.holds):
                self.drop(name)
            self.quotes.clear()
        self.store.expire_packages(self.now_us)
        for tenant, unit in self.free:
            if self.is_over(unit) or (unit.startswith("quote:") and unit[6:] not in self.quotes):
                self.free[tenant, unit] = 0

    @invariant()
    def balances_are_those_of_the_model(self) -> None:
        found = {(each.account, each.unit): each.balance for each in self.store.balances()}
        sums, aside = Counter[str](), Counter[tuple[str, str]]()
        for (_, unit), amount in found.items():
            sums[unit] += amount
        assert not any(sums.values())
        for (tenant, unit), amount in self.free.items():
            assert found.get((available(tenant), unit), 0) == amount
        for tenant, parts in self.holds.values():
            for unit, amount in parts:
                aside[held(tenant), unit] += amount
        assert {
            key: amount for key, amount in found.items() if amount and "/held" in key[0]
        } == aside
        for unit, amount in self.revenue.items():
            assert found.get(("revenue", unit), 0) == amount
        assert self.store.audit() == []

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
