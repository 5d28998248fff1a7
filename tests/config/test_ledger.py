from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from steppe.config import LedgerSection, RunConfig, parse_config, shipped_config
from steppe.config.yaml_file import read_mapping
from steppe.control.admission import PRIORITIES
from steppe.errors import ConfigError
from steppe.ledger.tariff import BANDS, tariff_of


def parsed(ledger: dict[str, Any] | None, folder: Path = Path("/runs")) -> RunConfig:
    values: dict[str, Any] = {
        "model": {"name": "m"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
    }
    return parse_config(values if ledger is None else {**values, "ledger": ledger}, "run", folder)


def test_without_the_section_there_is_no_ledger() -> None:
    assert parsed(None).ledger is None


def test_an_empty_section_is_a_ledger_without_prices_in_the_folder_of_the_record() -> None:
    ledger = parsed({}).ledger
    assert ledger is not None
    assert (ledger.folder, ledger.store, ledger.key, ledger.tariffs) == (None, None, None, ())
    assert (ledger.site, ledger.accounts) == ("steppe", "optional")


def test_paths_are_relative_to_the_file_and_a_url_is_not(tmp_path: Path) -> None:
    ledger = parsed(
        {
            "folder": "books",
            "store": "books.db",
            "key": "hohhot.key",
            "tariffs": ["tariffs/cny.yaml", "/etc/tokens.yaml"],
            "sink": {"url": "https://meter.example.org/events", "token_file": "token"},
        },
        tmp_path,
    ).ledger
    assert ledger is not None
    assert (ledger.folder, ledger.store) == (tmp_path / "books", str(tmp_path / "books.db"))
    assert ledger.key == tmp_path / "hohhot.key"
    assert ledger.tariffs == (tmp_path / "tariffs/cny.yaml", Path("/etc/tokens.yaml"))
    assert ledger.sink is not None
    assert ledger.sink.token_file == tmp_path / "token"
    url = "postgresql+psycopg://db/steppe"
    assert LedgerSection(store=url).resolved(tmp_path).store == url


def test_a_tariff_that_ships_has_a_name_unless_the_folder_has_such_a_file(tmp_path: Path) -> None:
    shipped = LedgerSection(tariffs=(Path("demo"), Path("none"))).resolved(tmp_path)
    assert shipped.tariffs == (shipped_config("tariffs/demo.yaml"), tmp_path / "none")
    (tmp_path / "demo").touch()
    assert LedgerSection(tariffs=(Path("demo"),)).resolved(tmp_path).tariffs == (tmp_path / "demo",)


@pytest.mark.parametrize("path", sorted((shipped_config("tariffs")).glob("*.yaml")))
def test_each_tariff_that_ships_has_a_rate_for_every_request(path: Path) -> None:
    tariff = tariff_of(read_mapping(path))
    for hour, priority, band in product(range(24), PRIORITIES, BANDS):
        assert tariff.rate_of("any", priority, band, hour * 3_600_000_000) >= 0


@pytest.mark.parametrize(
    ("ledger", "says"),
    [
        ({"price": 5}, "ledger.price"),
        ({"site": "two words"}, "ledger.site"),
        ({"accounts": "some"}, "ledger.accounts"),
        ({"hold_output_tokens": 0}, "ledger.hold_output_tokens"),
        ({"hold_s": 0.0}, "ledger.hold_s"),
        ({"tariffs": ["a.yaml", "a.yaml"]}, "ledger.tariffs: asked for each file once"),
        ({"witnesses": [{"url": "witness.example.org", "key": "k"}]}, "ledger.witnesses"),
        ({"sink": {"url": "meter.example.org"}}, "ledger.sink.url"),
        ({"sink": {"url": "http://m/e", "batch": 0}}, "ledger.sink.batch"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_key(ledger: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as found:
        parsed(ledger)
    assert says in str(found.value)
    assert "\n" not in str(found.value)
