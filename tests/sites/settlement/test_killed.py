"""A process that ends at any point of a settlement neither loses nor doubles anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.sites.settlement.two_sites import HOME, TARGET, Pair

from steppe.ledger.entry_log import EntryLog, LedgerAwayError
from steppe.ledger.service_entry import REMOTE_ENERGY, SETTLEMENT, ServiceEntry
from steppe.ledger.settlement import RemoteEnergy, Settlement
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.sites.settlement.store import SettlementStore


@dataclass
class EndsAt:
    """A log at which the process ends: before its first entries are written, or after."""

    log: EntryLog
    before: bool

    async def log_entries(self, entries: Sequence[ServiceEntry]) -> int:
        if not self.before:
            await self.log.log_entries(entries)
        raise LedgerAwayError("the process ends here")


def logged(folder: Path, site: str, kind: str) -> list[bytes]:
    store = LedgerStore(str(folder / site / "ledger" / "ledger.db"))
    found = store.of_kind(kind)
    store.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("site", [HOME, TARGET])
@pytest.mark.parametrize("before", [True, False])
async def test_a_settlement_goes_on_where_its_process_ended(
    tmp_path: Path, site: str, before: bool
) -> None:
    pair = await Pair.open(tmp_path)
    await pair.one("r1", 700, tenant="lab")
    await pair.one("r2", 300, tenant="shop")
    side = pair.side if site == HOME else pair.way.side
    side._log = EndsAt(side._log, before)
    with pytest.raises(LedgerAwayError):
        await pair.settle()
    pair = await pair.restarted(tmp_path)
    await pair.one("r3", 50)
    assert await pair.settle() == (1 if site == HOME else 2)
    await pair.side.log_rest()
    own, claimed = logged(tmp_path, HOME, SETTLEMENT), logged(tmp_path, TARGET, SETTLEMENT)
    assert own == claimed
    assert sum(Settlement.read(entry).owed_uj for entry in own) == 1_050
    parts = [RemoteEnergy.read(entry) for entry in logged(tmp_path, HOME, REMOTE_ENERGY)]
    assert sum(share.owed_uj for part in parts for share in part.tenants) == 1_050
    assert pair.mismatches() == []
    await pair.stop()


async def test_a_home_that_lost_its_folder_goes_on_after_its_last_logged_settlement(
    tmp_path: Path,
) -> None:
    pair = await Pair.open(tmp_path)
    await pair.one("r1", 700)
    await pair.settle()
    pair.home.store.close()
    (tmp_path / HOME / "sites" / "settlement.db").unlink()
    pair = await pair.restarted(tmp_path)
    await pair.one("r2", 50)
    assert await pair.settle() == 1
    own, claimed = logged(tmp_path, HOME, SETTLEMENT), logged(tmp_path, TARGET, SETTLEMENT)
    assert own == claimed
    assert len(own) == 2
    await pair.stop()


async def test_a_target_that_lost_its_folder_still_answers_with_what_it_logged(
    tmp_path: Path,
) -> None:
    pair = await Pair.open(tmp_path)
    await pair.one("r1", 700)
    await pair.target.published()
    pair.clock.end_period()
    await pair.way.side.close_due(HOME)
    pair.target.store.close()
    (tmp_path / TARGET / "sites" / "settlement.db").unlink()
    pair.target.store = SettlementStore(tmp_path / TARGET / "sites")
    pair = await pair.restarted(tmp_path)
    assert await pair.settle_now() == 1
    own, claimed = pair.both()
    assert own is not None
    assert own == claimed
    await pair.stop()
