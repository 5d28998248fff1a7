from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steppe.config import parse_config
from steppe.errors import ConfigError, UsageError
from steppe.run.check_inputs import check_inputs

SYNTHETIC: dict[str, Any] = {
    "engine": {"kind": "synthetic"},
    "device": {"kind": "emulated", "profile": "l4", "count": 2},
    "power": {"supply": [{"kind": "constant", "watts": 100}]},
    "gateway": {"port": 0},
    "models": [{"name": "none", "served_name": n, "replicas": 1} for n in ("large", "small")],
}


def check(**changes: Any) -> None:
    check_inputs(parse_config({**SYNTHETIC, **changes}, "run.yaml", Path(".")))


def test_several_models_that_the_gpus_hold_can_be_served() -> None:
    check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"device": {"kind": "emulated", "profile": "l4", "count": 1}},
            r"models: asked for 2 GPUs in all, found 1 emulated GPUs \(device.count\)",
        ),
        (
            {"fleet": {"sleep": [{"kind": "stopped"}, {"kind": "node_off"}]}},
            "fleet.sleep: node_off needs fleet.node_off_command, found none",
        ),
        ({"ledger": {"key": "no.key"}}, "ledger.key: asked for a file, found none: no.key"),
    ],
)
def test_what_a_live_run_cannot_do_is_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(**changes)


def test_a_tariff_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("id: flat\ncurrency: yuan\nvalid_from_us: 0\nrates: [{}]\n")
    with pytest.raises(UsageError, match=rf"^ledger.tariffs: {prices}: tariff.currency: asked for"):
        check(ledger={"tariffs": [str(prices)]})
