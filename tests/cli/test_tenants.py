from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.config.test_error_messages import VALUES, loaded

from steppe.cli import main
from steppe.tenants.directory import Directory
from steppe.tenants.key import KeyRefusedError
from steppe.tenants.store import TenantStore
from steppe.tenants.tenant import tenants_from_config

KEY = re.compile(r"sk-steppe-[0-9a-f]{8}-[A-Za-z0-9_-]{43}")


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "tenants.db")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tenants", *arguments])


def document(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def directory(place: str) -> Directory:
    store = TenantStore(place)
    known = store.read()
    store.close()
    return Directory(known)


def test_a_new_key_is_shown_once_and_opens_the_gateway(place: str) -> None:
    result = run("add", "team-a", "--store", place, "--tokens-per-minute", "60000")
    key = result.stdout.strip()
    assert KEY.fullmatch(key)
    tenant = directory(place).owner(key, 0.0)
    assert (tenant.name, tenant.limits.tokens_per_minute) == ("team-a", 60000)
    for shown in (run("list", "--store", place), run("show", "team-a", "--store", place)):
        assert key[18:] not in shown.output
        assert "team-a" in shown.output


def test_every_limit_is_kept_listed_and_changed(place: str) -> None:
    limits = ["--requests-per-minute", "60", "--concurrency", "4", "--joules-per-hour", "1e5"]
    rights = ["--model", "m", "--model", "n", "--priority", "standard", "--weight", "2", "--admin"]
    run("add", "a", "--store", place, *limits, *rights)
    (row,) = document("list", "--store", place)["tenants"]
    assert row["models"] == ["m", "n"]
    assert (row["priority"], row["weight"], row["admin"]) == ("standard", 2.0, True)
    assert (row["requests_per_minute"], row["joules_per_hour"]) == (60, 1e5)
    more = ("--joules-per-day", "5e6", "--unlimit", "concurrency", "--no-admin")
    changed = document("set", "a", "--store", place, *more)
    assert (changed["joules_per_day"], changed["concurrency"]) == (5e6, None)
    assert (changed["requests_per_minute"], changed["admin"]) == (60, False)
    assert changed == document("show", "a", "--store", place)


def test_regions_and_the_class_of_data_are_kept_and_changed(place: str) -> None:
    run("add", "a", "--store", place, "--region", "cn", "--region", "eu", "--data-class", "health")
    (row,) = document("list", "--store", place)["tenants"]
    assert (row["regions"], row["data_class"]) == (["cn", "eu"], "health")
    assert "regions=cn,eu  data_class=health" in run("list", "--store", place).output
    changed = document("set", "a", "--store", place, "--own-region", "--data-class", "general")
    assert (changed["regions"], changed["data_class"]) == (None, "general")
    result = run("set", "a", "--store", place, "--region", "two words")
    assert result.exit_code == 2
    assert "asked for at most 64 of A-Z a-z 0-9 ._-, found 'two words'" in result.output
    result = run("set", "a", "--store", place, "--region", "cn", "--own-region")
    assert result.exit_code == 2


def test_a_rotation_has_an_overlap_and_a_revocation_none(place: str) -> None:
    old = document("add", "a", "--store", place)["key"]
    new = document("rotate", "a", "--store", place, "--overlap-s", "3600")["key"]
    found, now_s = directory(place), time.time()
    assert found.owner(old, now_s).name == found.owner(new, now_s).name == "a"
    with pytest.raises(KeyRefusedError, match="expired"):
        found.owner(old, now_s + 3601)
    assert found.owner(new, now_s + 3601).name == "a"
    prefix = new.split("-")[2]
    assert document("revoke", "a", "--store", place, "--key", prefix) == {"revoked": 1}
    with pytest.raises(KeyRefusedError, match="revoked"):
        directory(place).owner(new, now_s)
    states = [key["state"] for key in document("show", "a", "--store", place)["keys"]]
    assert [state.split()[0] for state in states] == ["valid", "revoked"]
    assert document("revoke", "a", "--store", place) == {"revoked": 1}


def test_the_entry_for_a_configuration_has_the_hash_of_its_key(tmp_path: Path) -> None:
    result = run("add", "a", "--yaml", "--weight", "2", "--expires", "2099-01-01T00:00:00Z")
    key = result.stderr.split()[-1]
    assert key not in result.stdout
    config = loaded(tmp_path, {"tenants": {"list": yaml.safe_load(result.stdout)}})
    known = tenants_from_config(config.tenants)
    assert Directory(known).owner(key, 0.0).weight == 2.0


def test_the_store_may_be_that_of_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**VALUES, "tenants": {"store": "t.db"}}))
    run("add", "a", "--config", str(path))
    assert directory(str(tmp_path / "t.db")).names == ("a",)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "a"], "asked for one of --store and --config"),
        (["add", "of mine", "--store", "{}"], "NAME: asked for at most 128"),
        (["add", "a", "--store", "{}", "--expires", "soon"], "asked for a time such as"),
        (["add", "a", "--yaml", "--store", "{}"], "no store beside it"),
        (["show", "a", "--store", "{}"], "asked for tenant a, found none"),
        (["rotate", "a", "--store", "{}"], "asked for tenant a, found none"),
        (["revoke", "a", "--store", "{}"], "asked for tenant a, found none"),
        (["set", "a", "--store", "{}", "--weight", "-1"], "--weight"),
    ],
)
def test_a_bad_request_is_one_line(place: str, arguments: list[str], says: str) -> None:
    result = run(*(part.replace("{}", place) for part in arguments))
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_adding_a_tenant_twice_is_refused(place: str) -> None:
    run("add", "a", "--store", place)
    result = run("add", "a", "--store", place)
    assert (result.exit_code, "found it already" in result.stderr) == (2, True)
