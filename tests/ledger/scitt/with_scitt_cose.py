"""Verifies the statement of `scitt_cose_vector.json` with scitt-cose, an implementation of others.

Run it in a virtual environment of its own, after `pip install scitt-cose==0.5.0`:

    python tests/ledger/scitt/with_scitt_cose.py

A test holds that Steppe writes exactly these bytes. scitt-cose is no dependency of Steppe.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

VECTOR = Path(__file__).with_name("scitt_cose_vector.json")


def main() -> None:
    """Verify the statement and the receipt in it, and each with one bit changed."""
    scitt: Any = importlib.import_module("scitt_cose")
    vector = json.loads(VECTOR.read_text())
    statement, pem = bytes.fromhex(vector["statement"]), vector["pem"]
    parsed = scitt.parse_signed_statement(statement, public_key_pem=pem)
    assert parsed["signature_verified"] is True, parsed
    assert parsed["payload"] == vector["entry"].encode()
    assert (parsed["issuer"], parsed["content_type"]) == (vector["origin"], "application/json")
    (receipt,) = scitt.extract_receipts(statement)
    assert receipt.hex() == vector["receipt"]
    found = verified(scitt, receipt, parsed["payload"], pem)
    assert found.ok, found.errors
    assert (found.tree_size, found.leaf_index) == (vector["size"], vector["index"])
    assert (found.issuer, found.subject) == (vector["origin"], parsed["subject"])
    assert not verified(scitt, receipt, parsed["payload"] + b" ", pem).ok
    for place in range(len(receipt)):
        changed = bytearray(receipt)
        changed[place] ^= 1
        assert not verified(scitt, bytes(changed), parsed["payload"], pem).ok, place
    name = f"scitt-cose {scitt.__version__}"
    sys.stdout.write(f"{name}: {parsed['subject']} of {found.tree_size} entries is verified\n")


def verified(scitt: Any, receipt: bytes, entry: bytes, pem: str) -> Any:
    """Return what scitt-cose finds of a receipt."""
    return scitt.verify_receipt(receipt, leaf_entry_hex=entry.hex(), log_public_key_pem=pem)


if __name__ == "__main__":
    main()
