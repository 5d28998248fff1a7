"""Tenants and keys in a database: SQLite, or PostgreSQL for several gateways."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, NoSuchModuleError, SQLAlchemyError

from steppe.config.sites import GENERAL
from steppe.errors import InstallError, UsageError
from steppe.tenants.key import StoredKey
from steppe.tenants.tenant import KnownTenants, Tenant, TenantLimits

_TABLES = sql.MetaData()
_TENANTS = sql.Table(
    "steppe_tenants",
    _TABLES,
    sql.Column("name", sql.String(128), primary_key=True),
    sql.Column("requests_per_minute", sql.BigInteger),
    sql.Column("tokens_per_minute", sql.BigInteger),
    sql.Column("concurrency", sql.BigInteger),
    sql.Column("joules_per_hour", sql.Float),
    sql.Column("joules_per_day", sql.Float),
    sql.Column("models", sql.Text),  # a JSON list
    sql.Column("priority", sql.String(16), nullable=False),
    sql.Column("weight", sql.Float, nullable=False),
    sql.Column("is_admin", sql.Boolean, nullable=False),
    sql.Column("regions", sql.Text),  # a JSON list
    sql.Column("data_class", sql.String(64)),
)
_ADDED = ("regions", "data_class")
"""Columns that tables of earlier releases lack. They may be empty: an earlier release that writes
to the same table does not fill them."""
_KEYS = sql.Table(
    "steppe_tenant_keys",
    _TABLES,
    sql.Column("prefix", sql.String(8), primary_key=True),
    sql.Column("tenant", sql.ForeignKey("steppe_tenants.name"), nullable=False, index=True),
    sql.Column("digest", sql.String(64), nullable=False),
    sql.Column("created_epoch_s", sql.Float, nullable=False),
    sql.Column("expires_epoch_s", sql.Float),
    sql.Column("revoked_epoch_s", sql.Float),
)
_LIMITS = tuple(TenantLimits.__slots__)


class TenantStore:
    """Reads and changes the tenants of a database; the tables are made if they are missing."""

    def __init__(self, place: str) -> None:
        """Open the database.

        Args:
            place: Path of an SQLite file, or a URL of SQLAlchemy.

        Raises:
            UsageError: It cannot be opened.
            InstallError: The driver of this database is not installed.
        """
        try:
            self._engine = sql.create_engine(_url(place))
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise InstallError(f"tenants.store: found no driver for it: {error}") from error
        except SQLAlchemyError as error:
            # The URL may contain a password, so it is not shown.
            raise UsageError("tenants.store: asked for a path or a URL of SQLAlchemy") from error
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _use_wal)
        self.name = self._engine.url.render_as_string(hide_password=True)
        with self._errors():
            _TABLES.create_all(self._engine)
            self._add_columns()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def read(self) -> KnownTenants:
        """Return all tenants and keys; revoked and expired keys are among them.

        Raises:
            UsageError: The database cannot be read.
        """
        with self._errors(), self._engine.connect() as connection:
            tenants = connection.execute(sql.select(_TENANTS).order_by(_TENANTS.c.name))
            keys = connection.execute(sql.select(_KEYS).order_by(_KEYS.c.created_epoch_s))
            return KnownTenants(
                tuple(_tenant(row) for row in tenants.mappings()),
                tuple(StoredKey(**row) for row in keys.mappings()),
            )

    def add(self, tenant: Tenant) -> None:
        """Add a tenant.

        Raises:
            UsageError: There is one of this name, or the database cannot be written.
        """
        with self._errors(), self._engine.begin() as connection:
            try:
                connection.execute(sql.insert(_TENANTS), _row(tenant))
            except IntegrityError as error:
                raise UsageError(f"asked to add {tenant.name}, found it already") from error

    def update(self, tenant: Tenant) -> None:
        """Replace the limits of a tenant.

        Raises:
            UsageError: There is none of this name, or the database cannot be written.
        """
        change = sql.update(_TENANTS).where(_TENANTS.c.name == tenant.name)
        with self._errors(), self._engine.begin() as connection:
            if not connection.execute(change, _row(tenant)).rowcount:
                raise UsageError(f"asked for tenant {tenant.name}, found none of this name")

    def add_key(self, key: StoredKey) -> None:
        """Add a key.

        Raises:
            UsageError: The database cannot be written.
        """
        row = {name: getattr(key, name) for name in StoredKey.__slots__}
        with self._errors(), self._engine.begin() as connection:
            connection.execute(sql.insert(_KEYS), row)

    def rotate(self, new: StoredKey, overlap_until_epoch_s: float) -> None:
        """Add a key, and let the tenant's other keys expire when the overlap ends.

        Raises:
            UsageError: The database cannot be written.
        """
        keys = _KEYS.c
        others = (
            sql.update(_KEYS)
            .where(keys.tenant == new.tenant, keys.prefix != new.prefix)
            .where(keys.revoked_epoch_s.is_(None))
            .where(keys.expires_epoch_s.is_(None) | (keys.expires_epoch_s > overlap_until_epoch_s))
        )
        row = {name: getattr(new, name) for name in StoredKey.__slots__}
        with self._errors(), self._engine.begin() as connection:
            connection.execute(sql.insert(_KEYS), row)
            connection.execute(others, {"expires_epoch_s": overlap_until_epoch_s})

    def revoke(self, tenant: str, prefix: str | None, now_epoch_s: float) -> int:
        """Revoke a key, or all keys of a tenant without a prefix; return how many there were.

        Raises:
            UsageError: The database cannot be written.
        """
        change = (
            sql.update(_KEYS)
            .where(_KEYS.c.tenant == tenant, _KEYS.c.revoked_epoch_s.is_(None))
            .where(sql.true() if prefix is None else _KEYS.c.prefix == prefix)
        )
        with self._errors(), self._engine.begin() as connection:
            return connection.execute(change, {"revoked_epoch_s": now_epoch_s}).rowcount

    def _add_columns(self) -> None:
        """Add the columns that a table of an earlier release lacks."""
        for name in self._missing():
            column = sql.schema.CreateColumn(_TENANTS.c[name]).compile(self._engine)
            try:
                with self._engine.begin() as connection:
                    connection.execute(sql.text(f"ALTER TABLE {_TENANTS.name} ADD COLUMN {column}"))
            except SQLAlchemyError:
                if name in self._missing():  # else another process has added it meanwhile
                    raise

    def _missing(self) -> tuple[str, ...]:
        found = {column["name"] for column in sql.inspect(self._engine).get_columns(_TENANTS.name)}
        return tuple(name for name in _ADDED if name not in found)

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or type(error).__name__
            raise UsageError(f"tenants.store: {self.name}: {cause}") from error


def _url(place: str) -> sql.URL:
    if "://" in place:
        return sql.make_url(place)
    return sql.URL.create("sqlite", database=str(Path(place).absolute()))


def _use_wal(connection: Any, _record: Any) -> None:
    """Let SQLite read while another process writes, and check the tenants of keys."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _row(tenant: Tenant) -> dict[str, Any]:
    return {
        "name": tenant.name,
        **{name: getattr(tenant.limits, name) for name in _LIMITS},
        "models": None if tenant.models is None else json.dumps(tenant.models),
        "priority": tenant.priority,
        "weight": tenant.weight,
        "is_admin": tenant.is_admin,
        "regions": None if tenant.regions is None else json.dumps(tenant.regions),
        "data_class": tenant.data_class,
    }


def _tenant(row: Mapping[Any, Any]) -> Tenant:
    return Tenant(
        row["name"],
        TenantLimits(**{name: row[name] for name in _LIMITS}),
        None if row["models"] is None else tuple(json.loads(row["models"])),
        row["priority"],
        row["weight"],
        row["is_admin"],
        None if row["regions"] is None else tuple(json.loads(row["regions"])),
        row["data_class"] or GENERAL,
    )
