from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.postgresql import postgresql

from steppe.errors import UsageError
from steppe.tenants.key import make_key
from steppe.tenants.store import TenantStore
from steppe.tenants.tenant import Tenant, TenantLimits

FULL = Tenant(
    "a",
    TenantLimits(60, 10_000, 4, 1e5, 1e6),
    ("m", "n"),
    "standard",
    2.5,
    is_admin=True,
    regions=("cn", "eu"),
    data_class="personal",
)
EARLIER = """
CREATE TABLE steppe_tenants (
    name VARCHAR(128) PRIMARY KEY, requests_per_minute BIGINT, tokens_per_minute BIGINT,
    concurrency BIGINT, joules_per_hour FLOAT, joules_per_day FLOAT, models TEXT,
    priority VARCHAR(16) NOT NULL, weight FLOAT NOT NULL, is_admin BOOLEAN NOT NULL
)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TenantStore]:
    found = TenantStore(str(tmp_path / "tenants.db"))
    yield found
    found.close()


def check_store(store: TenantStore) -> None:
    """Add, change, rotate and revoke; the same for every database."""
    store.add(FULL)
    store.add(Tenant("b"))
    with pytest.raises(UsageError, match="found it already"):
        store.add(Tenant("b", weight=3.0))
    first = make_key("a", 100.0)
    store.add_key(first.stored)
    second = make_key("a", 200.0, 900.0)
    store.rotate(second.stored, 260.0)
    assert store.read().tenants == (FULL, Tenant("b"))
    assert store.read().keys == (replace(first.stored, expires_epoch_s=260.0), second.stored)
    assert store.revoke("a", second.stored.prefix, 300.0) == 1
    assert store.revoke("a", second.stored.prefix, 301.0) == 0
    assert store.read().keys[1].revoked_epoch_s == 300.0
    assert store.revoke("a", None, 302.0) == 1
    changed = replace(FULL, weight=1.0, models=None, regions=None)
    store.update(changed)
    assert store.read().tenants[0] == changed
    with pytest.raises(UsageError, match="none of this name"):
        store.update(Tenant("c"))


def test_it_keeps_what_was_added(store: TenantStore) -> None:
    check_store(store)


def test_another_process_sees_what_was_added(store: TenantStore, tmp_path: Path) -> None:
    store.add(FULL)
    other = TenantStore(str(tmp_path / "tenants.db"))
    assert other.read().tenants == (FULL,)
    other.close()


def test_a_table_of_an_earlier_release_gets_the_columns_it_lacks(tmp_path: Path) -> None:
    place = str(tmp_path / "tenants.db")
    with sqlite3.connect(place) as earlier:
        earlier.execute(EARLIER)
        earlier.execute(
            "INSERT INTO steppe_tenants (name, models, priority, weight, is_admin) "
            "VALUES ('a', '[\"m\"]', 'standard', 2.5, 1)"
        )
    store, again = TenantStore(place), TenantStore(place)
    (old,) = again.read().tenants
    assert (old.name, old.models, old.regions, old.data_class) == ("a", ("m",), None, "general")
    store.update(FULL)
    assert again.read().tenants == (FULL,)
    store.close()
    again.close()


def test_a_rotation_never_prolongs_a_key(store: TenantStore) -> None:
    store.add(Tenant("a"))
    short = make_key("a", 0.0, 50.0)
    store.add_key(short.stored)
    store.rotate(make_key("a", 10.0).stored, 3600.0)
    assert store.read().keys[0].expires_epoch_s == 50.0


def test_the_file_has_no_key(store: TenantStore, tmp_path: Path) -> None:
    key = make_key("a", 0.0)
    store.add(Tenant("a"))
    store.add_key(key.stored)
    store.close()
    secret = key.text.split("-", 3)[3].encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_key_needs_its_tenant(store: TenantStore) -> None:
    with pytest.raises(UsageError, match="FOREIGN KEY"):
        store.add_key(make_key("nobody", 0.0).stored)


def test_an_error_never_shows_the_password_of_the_url() -> None:
    for url in (
        "nosuch://u:hidden@h/d",
        "postgresql+psycopg://u:hidden@127.0.0.1:1/d",
        "://hidden",
    ):
        with pytest.raises(UsageError) as caught:
            TenantStore(url)
        assert "hidden" not in str(caught.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        TenantStore(str(tmp_path / "nowhere" / "tenants.db"))


@pytest.mark.slow
def test_postgresql_keeps_the_same() -> None:
    with postgresql() as url:
        store = TenantStore(url)
        check_store(store)
        store.close()
