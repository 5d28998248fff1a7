"""Receipts as CloudEvents 1.0, for sinks that meter by events, such as OpenMeter.

The same receipt is the same bytes every time: a sink that drops a second event of the same `source`
and `id` counts each receipt once, however often it is sent. Sources:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, https://openmeter.io/docs
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from steppe.ledger.receipt import Receipt, canonical
from steppe.ledger.statements.month import EPOCH

TYPE = "steppe.receipt"
"""The type of these events."""
EVENT_MEDIA_TYPE = "application/cloudevents+json"
BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"


def event_of(receipt: Receipt) -> bytes:
    """Return the event of a receipt, as JSON with sorted keys.

    Its data are the fields of the receipt. A meter adds up one of them (`$.output_tokens`,
    `$.energy_uj`) and groups by others; a correction then counts as the difference that it is. The
    subject, the customer, is left out if the receipt names no tenant.
    """
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": receipt.id,
        "source": f"/steppe/sites/{quote(receipt.site, safe='')}",
        "type": TYPE,
        "time": _time_text(receipt.ended_us),
        "datacontenttype": "application/json",
        "data": asdict(receipt),
    }
    if receipt.tenant:
        event["subject"] = receipt.tenant
    return canonical(event)


def batch_of(receipts: Iterable[Receipt]) -> bytes:
    """Return the events of receipts as one JSON array."""
    return b"[" + b",".join(event_of(receipt) for receipt in receipts) + b"]"


def _time_text(time_us: int) -> str:
    return f"{EPOCH + timedelta(microseconds=time_us):%Y-%m-%dT%H:%M:%S.%fZ}"
