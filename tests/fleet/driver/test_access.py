from __future__ import annotations

from pathlib import Path

import pytest
from tests.config.test_error_messages import loaded

from steppe.errors import UsageError
from steppe.fleet.driver.access import access_settings, admin_key, settled
from steppe.report.records import RequestRecord
from steppe.tenants.limiter import Taken


def test_the_gateway_gets_the_tenants_and_the_proxies_of_the_configuration(tmp_path: Path) -> None:
    key = {"prefix": "0123abcd", "sha256": "ab" * 32}
    gateway = {"trusted_proxies": ["10.0.0.1"], "open_metrics": True}
    listed = {"list": [{"name": "a", "keys": [key]}], "refresh_s": 2.0}
    found = access_settings(loaded(tmp_path, {"gateway": gateway, "tenants": listed}))
    assert [tenant.name for tenant in found.tenants.tenants] == ["a"]
    assert (found.trusted_proxies, found.open_metrics) == (("10.0.0.1",), True)
    assert (found.store, found.refresh_s, found.is_open) == (None, 2.0, False)
    assert access_settings(loaded(tmp_path, {})).is_open


def test_the_admin_key_is_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    file.write_text("0123456789abcdef\n")
    config = loaded(tmp_path, {"gateway": {"admin_key_file": "admin.key"}})
    assert config.gateway.admin_key_file == file
    assert admin_key(config.gateway) == "0123456789abcdef"
    file.write_text("short")
    with pytest.raises(UsageError, match="of at least 16 characters"):
        admin_key(config.gateway)
    file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        admin_key(config.gateway)
    assert admin_key(loaded(tmp_path, {}).gateway) == ""


def test_a_record_settles_tokens_and_energy_of_its_request() -> None:
    record = RequestRecord(
        id="r1",
        tenant="a",
        priority="standard",
        arrival_s=0.0,
        ttft_s=0.1,
        e2e_s=1.0,
        tpot_s=None,
        prompt_tokens=7,
        cached_tokens=0,
        output_tokens=2,
        energy_j=5.5,
        energy_source="emulated",
        finish="stop",
        replica="replica-1",
    )
    found = settled(record)
    assert (found.id, found.tenant, found.taken) == ("r1", "a", Taken(7, 2, 5.5))
