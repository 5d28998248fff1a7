"""Packages of tokens at the service of a run: bought beside it, used, passed on, and run out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.ledger.service.running import NOON_US, Running, ServiceFactory, asked, booked, booking

from steppe.cli import main
from steppe.ledger.tariff import Tariff
from steppe.ledger.verifier import verify_receipt

NANO = 10**9
SERIES = "tokens:large@2099-12-31"
TOKENS = """
id: large-1
currency: tokens:large
valid_from_us: 0
rates:
- {model: m, prompt_nano: 1000000000, cached_nano: 500000000, output_nano: 1000000000}
"""


@pytest.fixture
async def service(tmp_path: Path, tariff_file: Path, open_service: ServiceFactory) -> Running:
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(TOKENS)
    return await open_service(tariffs=[tariff_file, tokens])


async def accounts(service: Running, *arguments: str) -> None:
    """Run `steppe accounts` beside the service, on the same store."""
    command = ["accounts", *arguments, "--ledger", str(service.folder)]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert result.exit_code == 0, result.output


async def funds(service: Running, tenant: str) -> dict[str, tuple[int, int]]:
    data = (await service.get("/steppe/v1/balance", tenant))["data"]
    return {each["unit"]: (each["available"], each["held"]) for each in data}


async def test_a_package_pays_for_requests_and_its_receipts_are_proven(service: Running) -> None:
    await accounts(service, "open", "lab", "CNY")
    await accounts(service, "deposit", "lab", "10", "CNY")
    await accounts(
        service,
        "buy",
        "lab",
        "5000",
        "tokens:large",
        "--price",
        "9.9",
        "CNY",
        "--until",
        "2099-12-31",
    )
    (first,) = await service.admit(asked("r1"))
    assert (first["terms"], first["currency"]) == ("large-1/0", "tokens:large")
    assert (first["held"], first["free"]) == (1_100 * NANO, 3_900 * NANO)
    used = booked("r1", terms=first["terms"], cached_tokens=400)
    await service.service.take(booking(1, used, metered_uj=1_000))
    entry = await service.get("/steppe/v1/receipts/r1")
    assert (entry["currency"], entry["amount_nano"]) == ("tokens:large", 850 * NANO)
    tariff = Tariff.read((await service.call("GET", "/steppe/v1/tariffs/large-1"))[1])
    verify_receipt.check_price(entry, json.loads(tariff.entry))
    assert (await funds(service, "lab"))[SERIES] == (4_150 * NANO, 0)
    assert await service.proof_of("/steppe/v1/receipts/r1")


async def test_of_tokens_that_are_passed_on_each_tenant_uses_its_own(service: Running) -> None:
    for tenant in ("lab", "school"):
        await accounts(service, "open", tenant, "CNY")
    await accounts(service, "grant", "lab", "2500", "tokens:large", "--until", "2099-12-31")
    await accounts(service, "transfer", "lab", "school", "1200", SERIES)
    found = await service.admit(
        asked("r1"), asked("r2"), asked("r3", "school"), asked("r4", "school")
    )
    assert [each.get("code", "held") for each in found] == [
        "held",
        "insufficient_funds",
        "held",
        "insufficient_funds",
    ]


async def test_a_quote_is_used_up_by_what_requests_took(service: Running) -> None:
    body = {"model": "m", "tokens": 2_200}
    quote = json.loads((await service.call("POST", "/steppe/v1/quote", json=body))[1])["id"]
    for number in range(2):
        (found,) = await service.admit(asked(f"r{number}", quote=quote))
        assert (found["terms"], found["held"], found["free"]) == ("flat-1/0", 0, None)
        await service.service.take(
            booking(number + 1, booked(f"r{number}"), metered_uj=1_000 * (number + 1))
        )
    (third,) = await service.admit(asked("r2", quote=quote))
    assert third["message"] == f"quote {quote}: asked for 1100 tokens, found 100 of 2200 left"
    service.clock.now_us = NOON_US + 3_600_000_000
    (late,) = await service.admit(asked("r3", quote=quote, max_tokens=1, prompt_tokens=1))
    assert "it expired at" in late["message"]
