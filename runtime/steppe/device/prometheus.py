"""One value from a Prometheus server: its HTTP API, instant queries only."""

from __future__ import annotations

import http.client
import json
import math
import ssl
import urllib.parse
import urllib.request
from pathlib import Path

from steppe.errors import TransientDeviceError

TIMEOUT_S = 5.0
"""Longest wait for an answer, s."""
_MOST_BYTES = 1_000_000


def ask_prometheus(
    url: str,
    query: str,
    timeout_s: float = TIMEOUT_S,
    *,
    token: str = "",
    ca_file: Path | None = None,
) -> float:
    """Return the value of an instant query that has exactly one.

    Args:
        url: Address of the server, such as `http://prometheus:9090`.
        query: PromQL.
        timeout_s: Longest wait for the answer, s.
        token: Bearer token; none if empty. It does not follow a redirect.
        ca_file: Certificates of the authorities that are trusted, PEM; those of the system if None.

    Raises:
        TransientDeviceError: There is no answer, or it is no single finite number.
    """
    asked = urllib.request.Request(
        f"{url.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    )
    if token:
        asked.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        trust = None if ca_file is None else ssl.create_default_context(cafile=ca_file)
        with urllib.request.urlopen(asked, timeout=timeout_s, context=trust) as answer:
            return _value(json.loads(answer.read(_MOST_BYTES)))
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise TransientDeviceError(f"{url}: asked for {query}, found: {error}") from error


def _value(answer: dict[str, object]) -> float:
    """Return the value of an answer of Prometheus's API.

    Raises:
        ValueError: It has none, or several.
        LookupError: It is not in the form of the API.
        TypeError: It is not in the form of the API.
    """
    data = answer["data"]
    if not isinstance(data, dict):
        raise TypeError(f"data of type {type(data).__name__}")
    kind, result = data["resultType"], data["result"]
    if kind == "vector":
        if len(result) != 1:
            raise ValueError(f"{len(result)} values instead of one")
        pair = result[0]["value"]
    elif kind == "scalar":
        pair = result
    else:
        raise ValueError(f"a {kind} instead of one value")
    watts = float(pair[1])
    if not math.isfinite(watts):
        raise ValueError(f"{pair[1]}, which is no number")
    return watts
