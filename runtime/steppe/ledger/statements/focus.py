"""A statement as a table in columns of FOCUS 1.2, the FinOps Open Cost and Usage Specification.

One row for each line, and one for what rounding took. Numbers are exact decimal text. A rate has
prices of three kinds of tokens and of a joule, so a row has no unit price; `x_Tariff` names it.
The columns that begin with `x_` are ours, as the specification has it. Source:
https://focus.finops.org/focus-specification/v1-2/
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import orjson

from steppe.ledger.statements.amounts import (
    MICRO_DIGITS,
    NANO_DIGITS,
    NO_CURRENCY,
    decimal_text,
    minor_digits,
)
from steppe.ledger.statements.month import hour_text
from steppe.ledger.statements.statement import Line, Statement
from steppe.ledger.units import is_money

SERVICE = "Language model inference"
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "PricingCategory",
    "PricingCurrency",
    "PricingCurrencyEffectiveCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "x_CachedTokens",
    "x_Class",
    "x_Corrects",
    "x_EnergyBoundary",
    "x_EnergyJoules",
    "x_EnergySource",
    "x_GcIds",
    "x_GreenJoules",
    "x_IdleJoules",
    "x_Model",
    "x_OutputTokens",
    "x_PromptTokens",
    "x_ReceiptRoot",
    "x_Receipts",
    "x_Sites",
    "x_Tariff",
)
"""The columns, in the order of the table; one without a value is empty, which is FOCUS's null."""
_MONEY = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")


def focus_csv(statement: Statement, issuer: str, certificates: Sequence[str] = ()) -> str:
    """Return a statement as CSV with a row of column names.

    Args:
        statement: The statement.
        issuer: Name of the operator that bills it.
        certificates: Ids of the energy certificates that were cancelled for it.
    """
    common = _common(statement, issuer)
    named = {"x_GcIds": _list_text(certificates)} if certificates else {}
    rows = [common | named | _row(line, statement) for line in statement.lines]
    if statement.rounding_nano:
        rows.append(common | _rounding(statement))
    rows = [_with_pricing(row, statement.currency) for row in rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _with_pricing(row: dict[str, str], unit: str) -> dict[str, str]:
    """Return a row with the unit of its price.

    FOCUS calls tokens a virtual currency: it has no place in the columns of money, in which they
    were paid for when they were bought.
    """
    priced = {"PricingCurrency": unit, "PricingCurrencyEffectiveCost": row["EffectiveCost"]}
    if is_money(unit):
        return row | priced
    return (
        row
        | dict.fromkeys(_MONEY, decimal_text(0, NANO_DIGITS))
        | {"BillingCurrency": NO_CURRENCY}
        | priced
    )


def _common(statement: Statement, issuer: str) -> dict[str, str]:
    hours = statement.month.hours
    begin, end = hour_text(hours.start), hour_text(hours.stop)
    return {
        "BillingAccountId": statement.tenant,
        "BillingAccountName": statement.tenant,
        "BillingCurrency": statement.currency,
        "BillingPeriodStart": begin,
        "BillingPeriodEnd": end,
        "ChargePeriodStart": begin,
        "ChargePeriodEnd": end,
        "InvoiceId": statement.name,
        "InvoiceIssuerName": issuer,
        "ProviderName": issuer,
        "PublisherName": issuer,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": SERVICE,
        "ServiceSubcategory": "Generative AI",
    }


def _row(line: Line, statement: Statement) -> dict[str, str]:
    sums, exact = line.sums, decimal_text(line.sums.amount_nano, NANO_DIGITS)
    sku = f"{line.model}:{line.priority}"
    return {
        "BilledCost": decimal_text(line.billed_minor, minor_digits(statement.currency)),
        "ContractedCost": exact,
        "EffectiveCost": exact,
        "ListCost": exact,
        "SkuId": sku,
        "SkuMeter": "Tokens",
        "SkuPriceDetails": _details_text(line),
        "SkuPriceId": f"{line.tariff or 'none'}:{sku}",
        "x_EnergyBoundary": _list_text(line.boundaries),
        "x_CachedTokens": str(sums.cached_tokens),
        "x_Class": line.priority,
        "x_EnergyJoules": decimal_text(sums.energy_uj, MICRO_DIGITS),
        "x_EnergySource": _list_text(line.energy_sources),
        "x_GreenJoules": decimal_text(sums.green_uj, MICRO_DIGITS),
        "x_IdleJoules": decimal_text(sums.idle_uj, MICRO_DIGITS),
        "x_Model": line.model,
        "x_OutputTokens": str(sums.output_tokens),
        "x_PromptTokens": str(sums.prompt_tokens),
        "x_ReceiptRoot": line.root,
        "x_Receipts": str(sums.receipts),
        "x_Sites": _list_text(line.sites),
        "x_Tariff": line.tariff,
        **_charge(line),
    }


def _charge(line: Line) -> dict[str, str]:
    """Return the columns that a correction changes.

    FOCUS's class `Correction` is for what an earlier statement billed. Its usage within the same
    one is never negative, so there a correction is an adjustment, without quantities.
    """
    tokens = f"{line.sums.tokens}.0"  # FOCUS asks for a decimal, and readers guess types
    used = {
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{line.model}, {line.priority}",
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": tokens,
        "ConsumedUnit": "Tokens",
        "PricingCategory": "Standard",
        "PricingQuantity": tokens,
        "PricingUnit": "Tokens",
    }
    if line.correction is None:
        return used
    said = f"Receipt {line.correction.id} corrects {line.correction.corrects}"
    corrects = {"ChargeDescription": said, "x_Corrects": line.correction.corrects}
    if line.correction.is_of_month:
        return {"ChargeCategory": "Adjustment", "ChargeFrequency": "One-Time", **corrects}
    return used | {"ChargeClass": "Correction"} | corrects


def _rounding(statement: Statement) -> dict[str, str]:
    nothing = decimal_text(0, NANO_DIGITS)
    return {
        "BilledCost": decimal_text(statement.rounding_nano, NANO_DIGITS),
        "ContractedCost": nothing,
        "EffectiveCost": nothing,
        "ListCost": nothing,
        "ChargeCategory": "Adjustment",
        "ChargeDescription": "What the rounding of lines took",
        "ChargeFrequency": "One-Time",
    }


def _list_text(values: Sequence[str]) -> str:
    """Return the text of a list: itself if it is one value, else JSON."""
    return values[0] if len(values) == 1 else orjson.dumps(list(values)).decode()


def _details_text(line: Line) -> str:
    """Return what FOCUS calls key-value text; keys of ours begin with `x_`."""
    named = {"x_Class": line.priority, "x_Model": line.model, "x_Tariff": line.tariff}
    return orjson.dumps(named).decode()
