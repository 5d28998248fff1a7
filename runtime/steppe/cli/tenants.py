"""`steppe tenants add|list|show|set|rotate|revoke`: who may ask a gateway, and how much."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from steppe.config import load_config
from steppe.config.sites import GENERAL, label
from steppe.control.admission import PRIORITIES
from steppe.errors import UsageError
from steppe.options import ABOVE_ZERO, GivenPath, GivenText, json_option
from steppe.tenants.key import NewKey, StoredKey, make_key
from steppe.tenants.tenant import KnownTenants, Tenant, TenantLimits

_LIMITS = tuple(TenantLimits.__slots__)
_Command = TypeVar("_Command", bound=Callable[..., Any])
_COUNT = click.IntRange(min=1)


class _Time(click.ParamType[float]):
    """A time with its zone; its value is s since the Unix epoch."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the time; fail unless it has a zone."""
        if isinstance(value, float):
            return value
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            self.fail(f"asked for a time such as 2027-01-31T00:00:00Z, found {value!r}", param, ctx)
        return found.timestamp()


class _Label(click.ParamType[str]):
    """A region or a class of data, as the configuration has it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the label; fail if it has other characters or too many."""
        try:
            return label(str(value))
        except ValueError as error:
            self.fail(f"{error}, found {value!r}", param, ctx)


def _store_options(command: _Command) -> _Command:
    """Add the two ways to name the store."""
    config = click.option(
        "--config", type=GivenPath(path_type=Path), help="Use `tenants.store` of this run."
    )
    store = click.option("--store", type=GivenText(), help="SQLite file, or URL of SQLAlchemy.")
    return store(config(command))


def _limit_options(command: _Command) -> _Command:
    """Add an option for each limit and right of a tenant."""
    options = (
        click.option("--requests-per-minute", type=_COUNT, help="Requests in any minute."),
        click.option("--tokens-per-minute", type=_COUNT, help="Tokens in any minute."),
        click.option("--concurrency", type=_COUNT, help="Requests open at the same time."),
        click.option("--joules-per-hour", type=ABOVE_ZERO, help="Energy in any hour, J."),
        click.option("--joules-per-day", type=ABOVE_ZERO, help="Energy in any 24 hours, J."),
        click.option("--model", "models", multiple=True, help="A model that it may use; repeat."),
        click.option("--priority", type=click.Choice(PRIORITIES), help="Highest class."),
        click.option("--weight", type=ABOVE_ZERO, help="Share among the tenants of a class."),
        click.option(
            "--region",
            "regions",
            multiple=True,
            type=_Label("region"),
            help="A region that its requests may go to; repeat.",
        ),
        click.option("--data-class", type=_Label("data_class"), help="Class of its data."),
        click.option("--admin/--no-admin", default=None, help="Metrics and admin calls."),
    )
    for option in reversed(options):
        command = option(command)
    return command


_expires_option = click.option("--expires", type=_Time(), help="When the key ends; with its zone.")


@click.group("tenants", epilog="Example: steppe tenants list --store tenants.db")
def tenants_group() -> None:
    """Say who may ask a gateway, and how much."""


@tenants_group.command(
    "add", epilog="Example: steppe tenants add team-a --store tenants.db --tokens-per-minute 60000"
)
@click.argument("name", type=GivenText())
@_store_options
@_limit_options
@_expires_option
@click.option("--yaml", "as_yaml", is_flag=True, help="Store nothing: print an entry of `tenants`.")
@json_option
def add_command(
    name: str,
    *,
    store: str | None,
    config: Path | None,
    expires: float | None,
    as_yaml: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Add the tenant NAME with one key, which is shown only now."""
    tenant = _changed(Tenant(_valid(name)), given)
    key = make_key(name, time.time(), expires)
    if as_yaml:
        if store is not None or config is not None:
            raise UsageError("--yaml: asked for no store beside it, found one")
        click.echo(_yaml(tenant, key), nl=False)
        click.echo(f"key: {key.text}", err=True)
        return
    with _opened(store, config) as opened:
        opened.add(tenant)
        opened.add_key(key.stored)
    _show_new(key, as_json, f"added {name}")


@tenants_group.command("list", epilog="Example: steppe tenants list --store tenants.db --json")
@_store_options
@json_option
def list_command(store: str | None, config: Path | None, *, as_json: bool) -> None:
    """List the tenants of a store with their limits."""
    with _opened(store, config) as opened:
        known = opened.read()
    if as_json:
        click.echo(json.dumps({"tenants": [_row(tenant, known) for tenant in known.tenants]}))
        return
    for tenant in known.tenants:
        click.echo(_line(tenant, known))


@tenants_group.command("show", epilog="Example: steppe tenants show team-a --store tenants.db")
@click.argument("name", type=GivenText())
@_store_options
@json_option
def show_command(name: str, store: str | None, config: Path | None, *, as_json: bool) -> None:
    """Show the limits and the keys of the tenant NAME; of a key only its prefix is known."""
    with _opened(store, config) as opened:
        known = opened.read()
    row = _row(_tenant(known, name), known)
    if as_json:
        click.echo(json.dumps(row))
        return
    keys = row.pop("keys")
    for field, value in row.items():
        click.echo(f"{field}: {'-' if value is None else value}")
    for key in keys:
        click.echo(f"key sk-steppe-{key['prefix']}-...: {key['state']}")


@tenants_group.command(
    "set", epilog="Example: steppe tenants set team-a --store tenants.db --joules-per-day 5e6"
)
@click.argument("name", type=GivenText())
@_store_options
@_limit_options
@click.option("--unlimit", multiple=True, type=click.Choice(_LIMITS), help="Remove this limit.")
@click.option("--own-region", is_flag=True, help="Requests go to the region of this site alone.")
@json_option
def set_command(
    name: str,
    *,
    store: str | None,
    config: Path | None,
    unlimit: tuple[str, ...],
    own_region: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Change the limits of the tenant NAME; what is not given stays."""
    if own_region and given["regions"]:
        raise UsageError("--own-region: asked for no --region beside it, found one")
    with _opened(store, config) as opened:
        tenant = _changed(_tenant(opened.read(), name), given)
        if own_region:
            tenant = replace(tenant, regions=None)
        limits = replace(tenant.limits, **dict.fromkeys(unlimit))
        opened.update(replace(tenant, limits=limits))
        known = opened.read()
    found = _tenant(known, name)
    click.echo(json.dumps(_row(found, known)) if as_json else _line(found, known))


@tenants_group.command(
    "rotate", epilog="Example: steppe tenants rotate team-a --store tenants.db --overlap-s 3600"
)
@click.argument("name", type=GivenText())
@_store_options
@click.option(
    "--overlap-s",
    type=click.FloatRange(min=0),
    default=86400.0,
    show_default=True,
    help="How long the old keys stay valid, s.",
)
@_expires_option
@json_option
def rotate_command(
    name: str,
    *,
    store: str | None,
    config: Path | None,
    overlap_s: float,
    expires: float | None,
    as_json: bool,
) -> None:
    """Give the tenant NAME a new key; its old keys end after the overlap."""
    now_s = time.time()
    key = make_key(name, now_s, expires)
    with _opened(store, config) as opened:
        _tenant(opened.read(), name)
        opened.rotate(key.stored, now_s + overlap_s)
    _show_new(key, as_json, f"old keys of {name} end at {_shown(now_s + overlap_s)}")


@tenants_group.command("revoke", epilog="Example: steppe tenants revoke team-a --store tenants.db")
@click.argument("name", type=GivenText())
@_store_options
@click.option("--key", "prefix", help="Prefix of one key; all keys of the tenant without it.")
@json_option
def revoke_command(
    name: str, *, store: str | None, config: Path | None, prefix: str | None, as_json: bool
) -> None:
    """Revoke the keys of the tenant NAME; gateways refuse them within `tenants.refresh_s`."""
    with _opened(store, config) as opened:
        _tenant(opened.read(), name)
        revoked = opened.revoke(name, prefix, time.time())
    if not revoked:
        what = "a valid key" if prefix is None else f"a valid key sk-steppe-{prefix}-..."
        raise UsageError(f"{name}: asked to revoke {what}, found none")
    click.echo(json.dumps({"revoked": revoked}) if as_json else f"revoked keys: {revoked}")


@contextmanager
def _opened(store: str | None, config: Path | None) -> Generator[Any]:
    """Open the store that the options name."""
    from steppe.tenants.store import TenantStore  # `--help` needs no SQLAlchemy

    if (store is None) == (config is None):
        raise UsageError("asked for one of --store and --config")
    if config is not None:
        store = load_config(config).tenants.store
        if store is None:
            raise UsageError(f"{config}: asked for tenants.store, found none")
    assert store is not None, "one of the two names it"
    opened = TenantStore(store)
    try:
        yield opened
    finally:
        opened.close()


def _valid(name: str) -> str:
    from steppe.config.tenants import customer_name

    try:
        return customer_name(name)
    except ValueError as error:
        raise UsageError(f"NAME: {error}, found {name!r}") from error


def _changed(tenant: Tenant, given: dict[str, Any]) -> Tenant:
    """Return a tenant with the limits and rights that were given."""
    new = {field: given[field] for field in _LIMITS if given[field] is not None}
    named = ("priority", "weight", "data_class")
    rights = {field: given[field] for field in named if given[field] is not None}
    rights |= {field: given[field] for field in ("models", "regions") if given[field]}
    if given["admin"] is not None:
        rights["is_admin"] = given["admin"]
    return replace(tenant, limits=replace(tenant.limits, **new), **rights)


def _tenant(known: KnownTenants, name: str) -> Tenant:
    for tenant in known.tenants:
        if tenant.name == name:
            return tenant
    found = ", ".join(tenant.name for tenant in known.tenants) or "none"
    raise UsageError(f"asked for tenant {name}, found {found}")


def _row(tenant: Tenant, known: KnownTenants) -> dict[str, Any]:
    now_s = time.time()
    return {
        "name": tenant.name,
        **{field: getattr(tenant.limits, field) for field in _LIMITS},
        "models": None if tenant.models is None else list(tenant.models),
        "priority": tenant.priority,
        "weight": tenant.weight,
        "admin": tenant.is_admin,
        "regions": None if tenant.regions is None else list(tenant.regions),
        "data_class": tenant.data_class,
        "keys": [
            {"prefix": key.prefix, "state": _state(key, now_s)}
            for key in known.keys
            if key.tenant == tenant.name
        ],
    }


def _state(key: StoredKey, now_s: float) -> str:
    if key.revoked_epoch_s is not None:
        return f"revoked at {_shown(key.revoked_epoch_s)}"
    if key.expires_epoch_s is None:
        return "valid"
    verb = "valid until" if key.is_valid(now_s) else "expired at"
    return f"{verb} {_shown(key.expires_epoch_s)}"


def _line(tenant: Tenant, known: KnownTenants) -> str:
    row = _row(tenant, known)
    valid = sum(key["state"].startswith("valid") for key in row["keys"])
    limits = [f"{field}={row[field]:g}" for field in _LIMITS if row[field] is not None]
    rights = [tenant.priority, f"weight={tenant.weight:g}", *(["admin"] if row["admin"] else [])]
    rights += [] if tenant.models is None else [f"models={','.join(tenant.models)}"]
    rights += [] if tenant.regions is None else [f"regions={','.join(tenant.regions)}"]
    rights += [] if tenant.data_class == GENERAL else [f"data_class={tenant.data_class}"]
    return "  ".join([tenant.name, f"keys={valid}", *rights, *limits])


def _yaml(tenant: Tenant, key: NewKey) -> str:
    """Return the entry of `tenants.list` for a tenant, with the hash of its key."""
    import yaml

    stored: dict[str, Any] = {"prefix": key.stored.prefix, "sha256": key.stored.digest}
    if key.stored.expires_epoch_s is not None:
        stored["expires"] = _shown(key.stored.expires_epoch_s)
    row = _row(tenant, KnownTenants()) | {"keys": [stored]}
    usual = _row(Tenant(tenant.name), KnownTenants())
    entry = {field: value for field, value in row.items() if value != usual[field]}
    return yaml.safe_dump([{"name": tenant.name, **entry}], sort_keys=False)


def _show_new(key: NewKey, as_json: bool, note: str) -> None:
    if as_json:
        document = {"tenant": key.stored.tenant, "key": key.text, "prefix": key.stored.prefix}
        click.echo(json.dumps({**document, "expires_epoch_s": key.stored.expires_epoch_s}))
        return
    click.echo(key.text)
    click.echo(f"{note}; the key is not shown again", err=True)


def _shown(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")
