"""The receipt of one request: what it took and what it costs, in integers only.

A receipt is written once, as an entry of the log, and never changes; a correction is a receipt of
its own. It holds no text of the request. Its bytes are JSON with sorted keys, without spaces, ASCII
only: for such values these are the bytes of RFC 8785 too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import orjson

from steppe.errors import UsageError

VERSION = 1
KIND = "receipt"
"""What the log calls this kind of entry."""
ENERGY_SOURCES = ("counter", "integrated", "estimated", "emulated", "modelled")
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one request took; times are us since the Unix epoch (UTC).

    Attributes:
        id: Its id: that which the gateway made for the request. No client chooses it.
        request: The id that the client knows the request by.
        seq: Number of the receipt at its site, from 0.
        site: The site that served it.
        tenant: The tenant, or a pseudonym of it.
        key_id: Public part of the API key; empty without one.
        model: The model that served it.
        model_rev: Revision of its weights; empty if unknown.
        tokenizer_sha: SHA-256 of its tokenizer, the first 16 hexadecimal digits; empty if unknown.
        priority: Its class: `interactive`, `standard` or `deferrable`.
        prompt_tokens: Tokens of the prompt, cached ones too.
        cached_tokens: Those of them that the prefix cache held.
        output_tokens: Tokens generated.
        energy_uj: Energy attributed to it, uJ.
        idle_uj: Its share of the energy without work, uJ; 0 before the hour is closed.
        energy_source: Where the energy is from, one of `ENERGY_SOURCES`.
        boundary: What the energy encloses: `gpu`, `node` or `site`.
        green_uj: The part of `energy_uj` that was matched to renewable generation, uJ.
        hour: The hour in which the books took it, hours since the Unix epoch.
        tariff: Id of the tariff that was fixed at admission; empty for none.
        amount_nano: Its price, 10^-9 of the currency.
        currency: Three letters, `tokens:NAME` or `energy`; empty without a tariff.
        started_us: When it arrived.
        first_us: When its first token left; 0 if none did, or if that is unknown.
        ended_us: When it ended.
        clock_err_us: Bound of the error of these times.
        finish: How it ended, as in the record of a request.
        retry_of: Id of the request that it repeats; empty if it repeats none.
        corrects: Id of the receipt that it corrects; empty if it corrects none. Then all amounts
            are differences.
    """

    id: str
    request: str
    seq: int
    site: str
    tenant: str
    model: str
    priority: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    energy_uj: int
    energy_source: str
    boundary: str
    hour: int
    started_us: int
    ended_us: int
    finish: str
    key_id: str = ""
    model_rev: str = ""
    tokenizer_sha: str = ""
    idle_uj: int = 0
    green_uj: int = 0
    tariff: str = ""
    amount_nano: int = 0
    currency: str = ""
    first_us: int = 0
    clock_err_us: int = 0
    retry_of: str = ""
    corrects: str = ""

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        values = {name: getattr(self, name) for name in _FIELDS}
        return canonical({"kind": KIND, "v": VERSION, **values})

    @classmethod
    def read(cls, entry: bytes) -> Receipt:
        """Return the receipt of an entry.

        Raises:
            UsageError: It is none, or a field is missing, unknown, or of another type.
        """
        return cls(**checked(cls, read_entry(entry, KIND, VERSION), KIND))


_FIELDS = tuple(field.name for field in fields(Receipt))


def canonical(values: dict[str, Any]) -> bytes:
    """Return the bytes of an entry: sorted keys, integers and ASCII text only.

    Raises:
        UsageError: A value is a float, a truth value or null, an integer of more than 64 bits, or
            text that is not ASCII.
    """
    _refuse_inexact(values, "entry")
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)


def read_entry(entry: bytes, kind: str, version: int) -> dict[str, Any]:
    """Return the values of an entry of a kind, without `kind` and `v`.

    Raises:
        UsageError: It is no entry of this kind and version, or not in its canonical bytes.
    """
    try:
        values: Any = orjson.loads(entry)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{kind}: asked for JSON, found {error}") from error
    if not isinstance(values, dict) or values.get("kind") != kind or values.get("v") != version:
        found = values.get("kind") if isinstance(values, dict) else type(values).__name__
        raise UsageError(f"{kind}: asked for version {version} of it, found {found!r:.60}")
    if canonical(values) != entry:
        raise UsageError(f"{kind}: asked for sorted keys without spaces, found other bytes")
    del values["kind"], values["v"]
    return values


def checked(record: type[Any], values: Any, where: str) -> dict[str, Any]:
    """Return values after a check that they are the fields of a dataclass.

    Whole numbers and texts have to be of their type; others are the caller's to check.

    Args:
        record: The dataclass.
        values: What was read.
        where: What messages call it.

    Raises:
        UsageError: A field is missing, unknown, or of another type.
    """
    known = {field.name: str(field.type) for field in fields(record)}
    if not isinstance(values, dict) or known.keys() != values.keys():
        wrong = known.keys() ^ values.keys() if isinstance(values, dict) else [repr(values)[:60]]
        found = ", ".join(sorted(wrong))
        raise UsageError(f"{where}: asked for its {len(known)} fields, found {found} amiss")
    types = {"int": int, "str": str}
    for name, kind in known.items():
        expected = types.get(kind)
        if expected is not None and type(values[name]) is not expected:
            asked = f"{where}.{name}: asked for {expected.__name__}"
            raise UsageError(f"{asked}, found {values[name]!r:.60}")
    return values


def _refuse_inexact(value: Any, where: str) -> None:
    if _is_exact(value):
        return
    match value:
        case dict():
            for name, inner in value.items():
                if not (_is_exact(name) and _is_exact(inner)):
                    _refuse_inexact(name, where)
                    _refuse_inexact(inner, f"{where}.{name}")
        case list() | tuple():
            for inner in value:
                _refuse_inexact(inner, where)
        case str() if value.isascii():
            return
        case _:
            raise UsageError(f"{where}: asked for an integer or ASCII text, found {value!r:.60}")


def _is_exact(value: Any) -> bool:
    """Return whether it is a plain ASCII text, or an integer of at most 64 bits."""
    if type(value) is str:
        return value.isascii()
    return type(value) is int and -_MOST <= value <= _MOST
