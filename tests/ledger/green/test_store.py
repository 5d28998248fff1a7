"""The store carries out the movements of green energy, and keeps the same rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ledger.green.test_certificates import FARM, GEC
from tests.ledger.green.test_matching import SUPPLY

from steppe.ledger.green.certificates import matched_to
from steppe.ledger.green.matching import match_hour
from steppe.ledger.green.register import Register
from steppe.ledger.green.sales import GreenSales, sold
from steppe.ledger.store.ledger_store import LedgerStore, TooLowError


def test_the_store_takes_each_movement_once_and_keeps_the_floors(tmp_path: Path) -> None:
    register, sales = Register(), GreenSales()
    for certificate in (FARM, GEC):
        register.issue(certificate)
    match = match_hour("hohhot", "mengxi", SUPPLY, {}, register)
    register.cancel(FARM.id, "hohhot")
    sales.offer(match)
    sales.sell("r1", "hohhot", match.hour, "lab", match.green_uj - 1)
    store = LedgerStore(str(tmp_path / "ledger.sqlite"))
    for movements in (register.movements, sales.movements):
        assert store.move(movements, 1)
        assert not store.move(movements, 2)
    assert store.audit() == []
    with pytest.raises(TooLowError, match="found 1 free"):
        store.move([sold("r2", "hohhot", match.hour, "lab", 2)], 3)
    free_wh = register.available_wh(GEC.id, "hohhot")
    with pytest.raises(TooLowError, match=f"found {free_wh} free"):
        store.move([matched_to(GEC, "hohhot", 101, free_wh + 1)], 3)
    store.close()
