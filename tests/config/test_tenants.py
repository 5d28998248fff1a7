from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.config.test_error_messages import loaded, refusal

from steppe.config import load_config, shipped_runs
from steppe.tenants.tenant import tenants_from_config

KEY = {"prefix": "0123abcd", "sha256": "ab" * 32}


def tenants(*listed: dict[str, Any], **section: Any) -> dict[str, Any]:
    return {"tenants": {"list": list(listed), **section}}


def test_a_tenant_of_the_file_has_its_limits_and_keys(tmp_path: Path) -> None:
    key = {**KEY, "expires": "2027-01-01T00:00:00+00:00"}
    limits = {"requests_per_minute": 60, "joules_per_day": 1e6, "models": ["m"]}
    given = {"name": "a", "keys": [key], "priority": "standard", "weight": 2.0, **limits}
    config = loaded(tmp_path, tenants(given))
    assert config.tenants.asks_for_keys
    known = tenants_from_config(config.tenants)
    (tenant,), (stored,) = known.tenants, known.keys
    assert (tenant.name, tenant.priority, tenant.weight) == ("a", "standard", 2.0)
    assert tenant.limits.requests_per_minute == 60
    assert tenant.limits.joules_per_day == 1e6
    assert (stored.tenant, stored.expires_epoch_s) == ("a", 1798761600.0)
    assert tenant.may_ask_for("m")
    assert not tenant.may_ask_for("n")
    assert [tenant.may_have(each) for each in ("interactive", "standard")] == [False, True]


def test_the_store_is_relative_to_the_file_and_a_url_is_not(tmp_path: Path) -> None:
    assert loaded(tmp_path, tenants(store="t.db")).tenants.store == str(tmp_path / "t.db")
    url = "postgresql+psycopg://steppe@db/steppe"
    assert loaded(tmp_path, tenants(store=url)).tenants.store == url


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (tenants({"name": "of mine"}), "at most 128 of A-Z a-z 0-9 ._:@-, found 'of mine'"),
        (tenants({"name": "a"}, {"name": "a"}), "each name once, found a twice"),
        (
            tenants({"name": "a", "keys": [KEY]}, {"name": "b", "keys": [KEY]}),
            "each key once, found 0123abcd twice",
        ),
        (tenants({"name": "a", "keys": [{"prefix": "xyz", "sha256": "1"}]}), "8 digits"),
        (tenants({"name": "a", "keys": [{**KEY, "sha256": "1"}]}), "64 digits"),
        (tenants({"name": "a", "keys": [{**KEY, "expires": "soon"}]}), "asked for a time"),
        (tenants({"name": "a", "keys": [{**KEY, "expires": "2027-01-01"}]}), "with its zone"),
        (tenants({"name": "a", "requests_per_minute": 0}), "at least 1, found 0"),
        (tenants({"name": "a", "priority": "urgent"}), "interactive"),
        ({"gateway": {"trusted_proxies": ["proxy.lab"]}}, "an IP address or a network"),
    ],
)
def test_a_wrong_tenant_is_one_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    line = refusal(tmp_path, changes)
    assert says in line
    assert "\n" not in line


def test_a_certificate_needs_its_key_and_both_are_relative_to_the_file(tmp_path: Path) -> None:
    files = {"tls_certificate": "cert.pem", "tls_key": "/etc/key.pem"}
    found = loaded(tmp_path, {"gateway": files}).gateway
    assert (found.tls_certificate, found.tls_key) == (tmp_path / "cert.pem", Path("/etc/key.pem"))
    assert "tls_key" in refusal(tmp_path, {"gateway": {"tls_certificate": "cert.pem"}})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gpu-1.lab"])
def test_without_keys_another_host_is_refused_in_one_line(tmp_path: Path, host: str) -> None:
    line = refusal(tmp_path, {"gateway": {"host": host}})
    assert line.startswith("gateway.host: asked for a host of this machine")
    assert f"found {host}; gateway.allow_without_keys" in line
    for closed in (
        tenants({"name": "a", "keys": [KEY]}),
        tenants(store="t.db"),
        {"gateway": {"host": host, "trusted_proxies": ["10.0.0.0/8"]}},
        {"gateway": {"host": host, "allow_without_keys": True}},
    ):
        given = {"gateway": {"host": host}} | closed
        assert loaded(tmp_path, given).gateway.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST."])
def test_without_keys_hosts_of_this_machine_are_allowed(tmp_path: Path, host: str) -> None:
    assert loaded(tmp_path, {"gateway": {"host": host}}).gateway.is_local


@pytest.mark.parametrize("path", shipped_runs().values(), ids=lambda path: path.stem)
def test_the_shipped_runs_need_no_keys_and_listen_here_only(path: Path) -> None:
    config = load_config(path)
    assert config.gateway.is_local
    assert not config.tenants.asks_for_keys


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"nodes": "every"}, "found nodes: every; gateway.allow_without_keys serves everybody"),
        (
            {"nodes": "every", "port": 0},
            "asked for nodes: every, which needs a port, found port: 0",
        ),
        (
            {"nodes": "every", "host": "10.0.0.5"},
            "asked for nodes: every, which uses the address of each, found host: 10.0.0.5",
        ),
        ({"processes": 0}, "gateway.processes"),
    ],
)
def test_gateways_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, section: dict[str, Any], says: str
) -> None:
    line = refusal(tmp_path, {"gateway": section})
    assert says in line
    assert "\n" not in line
