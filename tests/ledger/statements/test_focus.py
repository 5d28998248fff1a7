"""The table of a statement in columns of FOCUS 1.2."""

from __future__ import annotations

import csv
import io

from tests.ledger.statements.test_statement import FIRST, MONTH, receipt

from steppe.ledger.receipt import Receipt
from steppe.ledger.statements.focus import COLUMNS, focus_csv
from steppe.ledger.statements.statement import statement_of

MANDATORY = """BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd
BillingPeriodStart ChargeCategory ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart
ContractedCost EffectiveCost InvoiceIssuerName ListCost PricingQuantity PricingUnit ProviderName
PublisherName ServiceCategory ServiceName"""
GOLDEN = {
    "BilledCost": "0.01",
    "BillingCurrency": "CNY",
    "BillingPeriodStart": "2026-10-31T16:00:00Z",
    "BillingPeriodEnd": "2026-11-30T16:00:00Z",
    "ChargeCategory": "Usage",
    "ChargeClass": "",
    "ConsumedQuantity": "42.0",
    "ConsumedUnit": "Tokens",
    "EffectiveCost": "0.012000001",
    "InvoiceId": "lab/2026-11",
    "PricingCurrency": "CNY",
    "PricingCurrencyEffectiveCost": "0.012000001",
    "PricingUnit": "Tokens",
    "ServiceCategory": "AI and Machine Learning",
    "ServiceSubcategory": "Generative AI",
    "SkuPriceId": "t/0:smollm2-135m:standard",
    "x_CachedTokens": "4",
    "x_EnergyJoules": "1.234567",
    "x_EnergySource": "emulated",
    "x_GcIds": '["gc-1","gc-2"]',
    "x_GreenJoules": "0.000001",
    "x_OutputTokens": "30",
}
"""What the row of one receipt holds, in part."""


def rows_of(*receipts: Receipt, certificates: tuple[str, ...] = ()) -> list[dict[str, str]]:
    text = focus_csv(statement_of(receipts, "lab", MONTH), "Example", certificates)
    return list(csv.DictReader(io.StringIO(text)))


def test_the_row_of_a_line() -> None:
    one = receipt(0, tariff="t/0", amount_nano=12_000_001, green_uj=1)
    row, rounding = rows_of(one, certificates=("gc-1", "gc-2"))
    assert {name: row[name] for name in GOLDEN} == GOLDEN
    assert len(row["x_ReceiptRoot"]) == 64
    assert (rounding["BilledCost"], rounding["EffectiveCost"]) == ("0.002000001", "0.000000000")
    assert rounding["ChargeCategory"] == "Adjustment"


def test_mandatory_columns_are_there_and_each_once() -> None:
    assert set(MANDATORY.split()) < set(COLUMNS)
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_a_line_that_needs_no_rounding_has_no_row_of_it() -> None:
    assert len(rows_of(receipt(0, amount_nano=120_000_000))) == 1


def test_a_correction_of_an_earlier_statement_is_of_the_class_correction() -> None:
    (row,) = rows_of(receipt(1, corrects="r0", output_tokens=-42, prompt_tokens=0))
    assert (row["ChargeCategory"], row["ChargeClass"]) == ("Usage", "Correction")
    assert (row["ConsumedQuantity"], row["x_Corrects"]) == ("-42.0", "r0")


def test_a_correction_on_the_same_statement_is_an_adjustment_without_quantity() -> None:
    later = receipt(1, hour=FIRST + 1, corrects="r0", output_tokens=-30, prompt_tokens=0)
    _, row = rows_of(receipt(0), later)
    assert (row["ChargeCategory"], row["ChargeClass"]) == ("Adjustment", "")
    assert (row["ConsumedQuantity"], row["PricingQuantity"], row["PricingUnit"]) == ("", "", "")
    assert row["x_OutputTokens"] == "-30"


def test_what_was_paid_with_tokens_is_in_no_column_of_money() -> None:
    (row,) = rows_of(receipt(0, currency="tokens:small", tariff="t/0", amount_nano=42 * 10**9))
    assert (row["PricingCurrency"], row["BillingCurrency"]) == ("tokens:small", "XXX")
    assert row["PricingCurrencyEffectiveCost"] == "42.000000000"
    assert {row[name] for name in ("BilledCost", "EffectiveCost", "ListCost")} == {"0.000000000"}


def test_separators_in_names_stay_in_their_cells() -> None:
    (row,) = rows_of(receipt(0, model='a,"b"\nc'))
    assert row["x_Model"] == 'a,"b"\nc'
