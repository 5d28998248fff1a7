"""The tables of the ledger's store."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

import sqlalchemy as sql

from steppe.database import Schema, about_table

VERSION = 2
_Value = TypeVar("_Value", bound=Hashable)
_NUMBER = sql.BigInteger().with_variant(sql.Integer, "sqlite")
"""SQLite counts up only a column of type INTEGER."""

TABLES = sql.MetaData()
ABOUT = about_table("steppe_ledger_about", TABLES)
ENTRIES = sql.Table(
    "steppe_ledger_entries",
    TABLES,
    sql.Column("seq", _NUMBER, primary_key=True, autoincrement=False),  # its place in the log
    sql.Column("kind", sql.String(32), nullable=False),
    sql.Column("id", sql.String(128), nullable=False),
    sql.Column("tenant", sql.String(128), nullable=False),
    sql.Column("time_us", sql.BigInteger, nullable=False),
    sql.Column("name", sql.String(128), nullable=False, server_default=""),
    sql.Column("bytes", sql.LargeBinary, nullable=False),
    sql.UniqueConstraint("kind", "id"),
    sql.Index("steppe_ledger_entries_by_tenant", "tenant", "time_us"),
    sql.Index("steppe_ledger_entries_by_name", "tenant", "name"),
    sql.Index("steppe_ledger_entries_by_time", "kind", "time_us"),
)
BALANCES = sql.Table(
    "steppe_ledger_balances",
    TABLES,
    sql.Column("account", sql.String(256), primary_key=True),
    sql.Column("unit", sql.String(256), primary_key=True),
    sql.Column("balance", sql.BigInteger, nullable=False),
    sql.Column("high", sql.BigInteger, nullable=False),  # 2^62 times this is added to it
    sql.Column("floor", sql.BigInteger),  # null: no floor
    sql.CheckConstraint(
        "floor IS NULL OR (balance >= floor AND high = 0)", name="not_below_the_floor"
    ),
)
MOVEMENTS = sql.Table(
    "steppe_ledger_movements",
    TABLES,
    sql.Column("seq", _NUMBER, primary_key=True),
    sql.Column("cause", sql.String(256), nullable=False),
    sql.Column("kind", sql.String(16), nullable=False),
    sql.Column("taken_from", sql.String(256), nullable=False, index=True),
    sql.Column("given_to", sql.String(256), nullable=False, index=True),
    sql.Column("unit", sql.String(256), nullable=False),
    sql.Column("amount", sql.BigInteger, nullable=False),
    sql.Column("time_us", sql.BigInteger, nullable=False),
    sql.UniqueConstraint("cause", "kind"),
    sql.CheckConstraint("amount > 0", name="moves_something"),
    sqlite_autoincrement=True,
)
HOLDS = sql.Table(
    "steppe_ledger_holds",
    TABLES,
    sql.Column("request", sql.String(128), primary_key=True),
    sql.Column("part", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("tenant", sql.String(128), nullable=False),
    sql.Column("unit", sql.String(256), nullable=False),
    sql.Column("amount", sql.BigInteger, nullable=False),
    sql.Column("expires_us", sql.BigInteger, nullable=False, index=True),
    sql.Column("rate", sql.String(128), nullable=False),
    sql.Column("currency", sql.String(64), nullable=False),
    sql.Column("asked", sql.String(64), nullable=False),
)
RUNS = sql.Table(
    "steppe_ledger_runs",
    TABLES,
    sql.Column("run", sql.String(128), primary_key=True),
    sql.Column("site", sql.String(128), nullable=False, index=True),
    sql.Column("books", sql.LargeBinary, nullable=False),  # JSON: its last booking
)
HOURS = sql.Table(
    "steppe_ledger_hours",
    TABLES,
    sql.Column("site", sql.String(128), primary_key=True),
    sql.Column("boundary", sql.String(16), primary_key=True),
    sql.Column("hour", sql.BigInteger, primary_key=True, autoincrement=False),
    sql.Column("sums", sql.LargeBinary, nullable=False),  # JSON: what was counted in it
    sql.Column("closed", sql.Integer, nullable=False),  # 1: it has its period
)
NUMBERS = sql.Table(
    "steppe_ledger_numbers",
    TABLES,
    sql.Column("site", sql.String(128), primary_key=True),
    sql.Column("receipts", sql.BigInteger, nullable=False),  # number of the next receipt
)
CERTIFICATES = sql.Table(
    "steppe_ledger_certificates",
    TABLES,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("form", sql.String(16), nullable=False),
    sql.Column("producer", sql.String(64), nullable=False),
    sql.Column("source", sql.String(64), nullable=False),  # without a battery: `wind`
    sql.Column("is_own", sql.Boolean, nullable=False),
    sql.Column("from_hour", sql.BigInteger, nullable=False),
    sql.Column("to_hour", sql.BigInteger, nullable=False),
    sql.Index("steppe_ledger_certificates_by_plant", "producer", "source", "to_hour"),
)
HOLDINGS = sql.Table(
    "steppe_ledger_holdings",
    TABLES,
    sql.Column("owner", sql.String(64), primary_key=True),
    sql.Column("certificate", sql.String(64), primary_key=True),
    sql.Column("zone", sql.String(64), nullable=False),
    sql.Column("turn", sql.Integer, nullable=False),  # what is used first has the lowest
    sql.Column("from_hour", sql.BigInteger, nullable=False),
    sql.Column("to_hour", sql.BigInteger, nullable=False),
    sql.Column("free_wh", sql.BigInteger, nullable=False),  # its balance, Wh
)
sql.Index(  # only what is left: used certificates cost nothing
    "steppe_ledger_holdings_free",
    HOLDINGS.c.owner,
    HOLDINGS.c.zone,
    HOLDINGS.c.turn,
    HOLDINGS.c.to_hour,
    HOLDINGS.c.certificate,
    sqlite_where=HOLDINGS.c.free_wh > 0,
    postgresql_where=HOLDINGS.c.free_wh > 0,
)
GREEN = sql.Table(
    "steppe_ledger_green",
    TABLES,
    sql.Column("site", sql.String(128), primary_key=True),
    sql.Column("terms", sql.LargeBinary, nullable=False),  # JSON: its zone, the mix of its grid
    sql.Column("hour", sql.BigInteger, nullable=False),  # the last one that was matched
    sql.Column("carried", sql.LargeBinary, nullable=False),  # JSON: what it left to the next one
)
SINKS = sql.Table(
    "steppe_ledger_sinks",
    TABLES,
    sql.Column("sink", sql.String(512), primary_key=True),
    sql.Column("place", sql.BigInteger, nullable=False),  # the first entry that it has still to get
)
REFUSED_EVENTS = sql.Table(
    "steppe_ledger_refused_events",
    TABLES,
    sql.Column("sink", sql.String(512), primary_key=True),
    sql.Column("seq", sql.BigInteger, primary_key=True, autoincrement=False),
    sql.Column("problem", sql.String(512), nullable=False),
)
COMMITMENTS = sql.Table(
    "steppe_ledger_commitments",
    TABLES,
    sql.Column("seq", _NUMBER, primary_key=True),  # in the order in which they were sold
    sql.Column("site", sql.String(128), nullable=False),
    sql.Column("id", sql.String(128), nullable=False),
    sql.Column("taken_until_s", sql.BigInteger, nullable=False),
    sql.Column("bytes", sql.LargeBinary, nullable=False),  # its entry of the log
    sql.UniqueConstraint("site", "id"),
    sql.Index("steppe_ledger_commitments_by_end", "site", "taken_until_s"),
    sqlite_autoincrement=True,
)
SCHEMA = Schema("ledger store", TABLES, ABOUT, VERSION)


def any_of(name: str) -> sql.BindParameter[Any]:
    """Return a parameter that takes a list of values, so that a statement is made only once."""
    return sql.bindparam(name, expanding=True)


def row_of(value: Any) -> dict[str, Any]:
    """Return the row of a flat dataclass; `dataclasses.asdict` takes ten times as long."""
    return {name: getattr(value, name) for name in value.__slots__}


def unique(values: Iterable[_Value]) -> list[_Value]:
    """Return the values in their order, each once."""
    return list(dict.fromkeys(values))
