"""What the settlement of a site keeps in its folder: notes, what was accepted, what was settled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert

from steppe.database import Database, Schema, about_table
from steppe.errors import UsageError
from steppe.ledger.settlement import Mismatch, RemoteEnergy, Settlement
from steppe.sites.settlement.compare import AcceptedRequest, Noted, PeriodComparison
from steppe.sites.settlement.sent import AcceptedCall, Sent

FILE = "settlement.db"
KEPT_S = 40 * 86_400
"""For how long notes are kept, s: a correction that comes later is a mismatch."""
SENT, SERVED = "sent", "served"
"""Roles of a site in a settlement: home and target."""
_CHUNK = 500
_US = 1_000_000

_TABLES = sql.MetaData()
_ABOUT = about_table("steppe_settlement_about", _TABLES)
_SENT = sql.Table(
    "steppe_settlement_sent",
    _TABLES,
    sql.Column("request", sql.String(128), primary_key=True),
    sql.Column("target", sql.String(63), nullable=False),
    sql.Column("ended_us", sql.BigInteger, nullable=False),
    sql.Column("is_open", sql.Boolean, nullable=False),  # no receipt yet, and not known as missing
    sql.Column("is_missing", sql.Boolean, nullable=False),
    sql.Column("bytes", sql.LargeBinary, nullable=False),
    sql.Index("steppe_settlement_sent_open", "target", "is_open", "ended_us"),
    sql.Index("steppe_settlement_sent_ended", "ended_us"),
)
_TAKEN = sql.Table(
    "steppe_settlement_taken",
    _TABLES,
    sql.Column("home", sql.String(63), primary_key=True),
    sql.Column("request", sql.String(128), primary_key=True),
    sql.Column("most_uj", sql.BigInteger, nullable=False),
    sql.Column("token", sql.Text, nullable=False),
    sql.Column("at_us", sql.BigInteger, nullable=False),
    sql.Index("steppe_settlement_taken_at", "at_us"),
)
_KNOWN = sql.Table(
    "steppe_settlement_known",
    _TABLES,
    sql.Column("target", sql.String(63), primary_key=True),
    sql.Column("request", sql.String(128), primary_key=True),
    sql.Column("receipt", sql.String(128), nullable=False),
    sql.Column("tenant", sql.String(128), nullable=False),
    sql.Column("energy_uj", sql.BigInteger, nullable=False),
    sql.Column("most_uj", sql.BigInteger, nullable=False),
    sql.Column("end_s", sql.BigInteger, nullable=False),
    sql.Index("steppe_settlement_known_end", "end_s"),
)
_SETTLED = sql.Table(
    "steppe_settlement_settled",
    _TABLES,
    sql.Column("role", sql.String(8), primary_key=True),
    sql.Column("other", sql.String(63), primary_key=True),
    sql.Column("end_s", sql.BigInteger, primary_key=True, autoincrement=False),
    sql.Column("own", sql.LargeBinary, nullable=False),
    sql.Column("claimed", sql.LargeBinary, nullable=False),
    sql.Column("mismatches", sql.LargeBinary, nullable=False),
    sql.Column("remote", sql.LargeBinary, nullable=False),
    sql.Column("is_logged", sql.Boolean, nullable=False),
    sql.Index("steppe_settlement_settled_unlogged", "is_logged"),
)
_PROGRESS = sql.Table(
    "steppe_settlement_progress",
    _TABLES,
    sql.Column("role", sql.String(8), primary_key=True),
    sql.Column("other", sql.String(63), primary_key=True),
    sql.Column("end_s", sql.BigInteger, nullable=False),
    sql.Column("next_place", sql.BigInteger),  # null: not known
)
_LOGS = sql.Table(
    "steppe_settlement_logs",
    _TABLES,
    sql.Column("site", sql.String(63), primary_key=True),
    sql.Column("keys", sql.Text, nullable=False),
    sql.Column("checkpoint", sql.Text, nullable=False),
)
SCHEMA = Schema("settlement store", _TABLES, _ABOUT, 1)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far settlements with another site are.

    Attributes:
        end_s: End of the last period that is settled, s since the Unix epoch.
        next_place: Place in the target's log where it ended; None if that is not known.
    """

    end_s: int
    next_place: int | None = None


@dataclass(frozen=True, slots=True)
class KnownLog:
    """What is known of the log of another site.

    Attributes:
        keys: Its keys, a line each.
        checkpoint: The last signed head; empty for none.
    """

    keys: str
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class SettledPeriod:
    """A period that is settled.

    Attributes:
        own: What this site says.
        claimed: What the other site says, if this one is the home.
        mismatches: What does not fit.
        remote: How it is divided among tenants, if this site is the home.
        is_logged: Whether the own ledger has it.
    """

    own: Settlement
    claimed: Settlement
    mismatches: tuple[Mismatch, ...] = ()
    remote: tuple[RemoteEnergy, ...] = ()
    is_logged: bool = False

    @property
    def agrees(self) -> bool:
        """Whether both sites say the same."""
        return self.own == self.claimed


class SettlementStore:
    """Keeps it in SQLite; its methods block, and may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open the store in a folder; it is made if it is missing.

        Raises:
            UsageError: It cannot be opened.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"sites.folder: cannot make {folder}: {error.strerror}") from error
        self._database = Database(str(folder / FILE), SCHEMA)

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def note_sent(self, notes: Sequence[Sent]) -> None:
        """Keep notes of what was sent; those that are known change nothing."""
        rows = [
            {
                "request": one.request,
                "target": one.target,
                "ended_us": one.ended_us,
                "is_open": True,
                "is_missing": False,
                "bytes": orjson.dumps(one.values),
            }
            for one in notes
        ]
        self._add(_SENT, rows)

    def note_taken(self, notes: Sequence[AcceptedCall], now_us: int) -> None:
        """Keep notes of what was accepted of other sites; those that are known change nothing."""
        self._add(_TAKEN, [{**asdict(one), "at_us": now_us} for one in notes])

    def taken(self, home: str, requests: Sequence[str]) -> dict[str, AcceptedCall]:
        """Return the notes of requests of a home, by request."""
        with self._database.read() as connection:
            rows = _rows(connection, _TAKEN, _TAKEN.c.home == home, requests)
        return {
            row.request: AcceptedCall(row.request, home, row.most_uj, row.token) for row in rows
        }

    def progress(self, role: str, other: str) -> Progress | None:
        """Return how far settlements with another site are; None before the first one."""
        c = _PROGRESS.c
        query = sql.select(_PROGRESS).where(c.role == role, c.other == other)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else Progress(row.end_s, row.next_place)

    def keep_progress(self, role: str, other: str, progress: Progress) -> None:
        """Note how far settlements with another site are."""
        with self._database.write() as connection:
            _keep_progress(connection, role, other, progress)

    def log_of(self, site: str) -> KnownLog | None:
        """Return what is known of the log of another site; None for nothing."""
        with self._database.read() as connection:
            row = connection.execute(sql.select(_LOGS).where(_LOGS.c.site == site)).first()
        return None if row is None else KnownLog(row.keys, row.checkpoint)

    def keep_log(self, site: str, known: KnownLog) -> None:
        """Note what is known of the log of another site."""
        values = {"site": site, **asdict(known)}
        with self._database.write() as connection:
            connection.execute(insert(_LOGS).values(values).on_conflict_do_update(set_=values))

    def noted(self, target: str, requests: Sequence[str], due_us: int) -> Noted:
        """Return what a home has of these requests, and of those that are due."""
        due = sql.select(_SENT).where(
            _SENT.c.target == target, _SENT.c.is_open, _SENT.c.ended_us < due_us
        )
        with self._database.read() as connection:
            rows = _rows(connection, _SENT, _SENT.c.target == target, requests)
            rows += connection.execute(due).all()
            known = _rows(connection, _KNOWN, _KNOWN.c.target == target, requests)
        progress = self.progress(SENT, target)
        return Noted(
            {row.request: Sent(**orjson.loads(row.bytes)) for row in rows},
            {row.request: _known(row) for row in known},
            frozenset(row.request for row in rows if row.is_missing),
            due_us,
            None if progress is None else progress.next_place,
        )

    def settle(
        self, claimed: Settlement, compared: PeriodComparison, remote: Sequence[RemoteEnergy]
    ) -> None:
        """Keep what a home found out about a period: all of it, or nothing."""
        target, own = claimed.target, compared.settlement
        rows = [
            {"target": target, "end_s": own.end_s, **asdict(known)}
            for _, known in compared.accepted
        ]
        matched = [known.request for _, known in compared.accepted]
        with self._database.write() as connection:
            _replace(connection, _KNOWN, rows)
            _mark(connection, matched, is_missing=False)
            _mark(connection, compared.missing, is_missing=True)
            if own.receipts or claimed.receipts or compared.mismatches:
                settled = SettledPeriod(own, claimed, compared.mismatches, tuple(remote))
                _keep_settled(connection, SENT, target, settled)
            _keep_progress(connection, SENT, target, Progress(own.end_s, claimed.until))

    def keep_served(self, own: Settlement) -> None:
        """Keep what a target claims of a home; it is in the ledger already."""
        with self._database.write() as connection:
            if own.receipts:
                settled = SettledPeriod(own, own, is_logged=True)
                _keep_settled(connection, SERVED, own.home, settled)
            _keep_progress(connection, SERVED, own.home, Progress(own.end_s, own.until))

    def settled(self, most: int, *, unlogged: bool = False) -> list[SettledPeriod]:
        """Return periods that are settled, the newest first.

        Args:
            most: Most of them.
            unlogged: Only those that the own ledger does not have yet.
        """
        c = _SETTLED.c
        query = sql.select(_SETTLED).order_by(c.end_s.desc(), c.role, c.other).limit(most)
        if unlogged:
            query = query.where(c.is_logged.is_(False))
        with self._database.read() as connection:
            return [_settled(row) for row in connection.execute(query)]

    def note_logged(self, own: Settlement) -> None:
        """Note that the own ledger has what a home found out."""
        c = _SETTLED.c
        this = (c.role == SENT) & (c.other == own.target) & (c.end_s == own.end_s)
        with self._database.write() as connection:
            connection.execute(sql.update(_SETTLED).where(this).values(is_logged=True))

    def forget(self, now_s: int) -> None:
        """Remove notes that are too old to be needed."""
        before_s = now_s - KEPT_S
        with self._database.write() as connection:
            connection.execute(sql.delete(_SENT).where(_SENT.c.ended_us < before_s * _US))
            connection.execute(sql.delete(_TAKEN).where(_TAKEN.c.at_us < before_s * _US))
            connection.execute(sql.delete(_KNOWN).where(_KNOWN.c.end_s < before_s))

    def _add(self, table: sql.Table, rows: list[dict[str, Any]]) -> None:
        if rows:
            with self._database.write() as connection:
                connection.execute(insert(table).on_conflict_do_nothing(), rows)


def _replace(connection: sql.Connection, table: sql.Table, rows: list[dict[str, Any]]) -> None:
    """Write rows, in the place of those with the same key."""
    if rows:
        made = insert(table)
        changed = {name: made.excluded[name] for name in rows[0]}
        connection.execute(made.on_conflict_do_update(set_=changed), rows)


def _rows(
    connection: sql.Connection,
    table: sql.Table,
    of: sql.ColumnElement[bool],
    requests: Iterable[str],
) -> list[sql.Row[Any]]:
    """Return the rows of some requests."""
    names, found = list(dict.fromkeys(requests)), list[sql.Row[Any]]()
    for first in range(0, len(names), _CHUNK):
        some = table.c.request.in_(names[first : first + _CHUNK])
        found += connection.execute(sql.select(table).where(of, some)).all()
    return found


def _mark(connection: sql.Connection, requests: Sequence[str], *, is_missing: bool) -> None:
    for first in range(0, len(requests), _CHUNK):
        some = _SENT.c.request.in_(requests[first : first + _CHUNK])
        values = {"is_open": False, "is_missing": is_missing}
        connection.execute(sql.update(_SENT).where(some).values(values))


def _keep_progress(connection: sql.Connection, role: str, other: str, progress: Progress) -> None:
    values = {"role": role, "other": other, **asdict(progress)}
    connection.execute(insert(_PROGRESS).values(values).on_conflict_do_update(set_=values))


def _keep_settled(
    connection: sql.Connection, role: str, other: str, settled: SettledPeriod
) -> None:
    values = {
        "role": role,
        "other": other,
        "end_s": settled.own.end_s,
        "own": settled.own.entry,
        "claimed": settled.claimed.entry,
        "mismatches": orjson.dumps([asdict(one) for one in settled.mismatches]),
        "remote": orjson.dumps([one.entry.decode() for one in settled.remote]),
        "is_logged": settled.is_logged,
    }
    connection.execute(insert(_SETTLED).values(values).on_conflict_do_nothing())


def _settled(row: sql.Row[Any]) -> SettledPeriod:
    return SettledPeriod(
        Settlement.read(row.own),
        Settlement.read(row.claimed),
        tuple(Mismatch(**one) for one in orjson.loads(row.mismatches)),
        tuple(RemoteEnergy.read(one.encode()) for one in orjson.loads(row.remote)),
        bool(row.is_logged),
    )


def _known(row: sql.Row[Any]) -> AcceptedRequest:
    return AcceptedRequest(row.request, row.receipt, row.tenant, row.energy_uj, row.most_uj)
