"""The section `sites` beside others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steppe.config import RunConfig, parse_config
from steppe.errors import ConfigError
from steppe.ledger.signing import PrivateKey


def config(**ledger: Any) -> RunConfig:
    peer = {
        "name": "hohhot",
        "url": "https://10.0.0.1:8443",
        "region": "cn",
        "token_keys": [PrivateKey("hohhot", bytes(32)).public.text],
    }
    files = dict.fromkeys(("certificate", "key", "authority", "token_key"), "x.pem")
    sites = {"name": "shanghai", "region": "cn", "peers": [peer], **files}
    values: dict[str, Any] = {
        "model": {"name": "m"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
        "sites": sites,
        "ledger": ledger,
    }
    return parse_config(values, "run", Path("/runs"))


def test_a_ledger_is_named_after_its_site() -> None:
    found = config().ledger
    assert found is not None
    assert found.site == "shanghai"


def test_a_ledger_of_another_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ledger\.site: asked for shanghai, .*, found steppe"):
        config(site="steppe")
