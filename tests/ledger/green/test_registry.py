"""Certificates of a registry's file: a table, a JSON list, a JSON object a line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steppe.errors import UsageError
from steppe.ledger.green.certificates import GEC_WH, Certificate
from steppe.ledger.green.registry import COLUMNS, certificates_of

ROWS: list[dict[str, Any]] = [
    {
        "id": "farm-1",
        "form": "granular",
        "owner": "hohhot",
        "producer": "farm",
        "zone": "mengxi",
        "source": "wind",
        "wh": 300,
        "from": "1970-01-02T00:00:00Z",
        "to": "1970-01-02T09:00:00+08:00",
    },
    {
        "id": "9" * 32,
        "form": "gec",
        "owner": "hohhot",
        "producer": "park",
        "zone": "mengxi",
        "source": "sun",
        "wh": GEC_WH,
        "from": "1970-01-01T00:00:00Z",
        "to": "1970-02-01T00:00:00Z",
    },
]
EXPECTED = [
    Certificate("farm-1", "granular", "hohhot", "farm", "mengxi", "wind", 300, 24, 25),
    Certificate("9" * 32, "gec", "hohhot", "park", "mengxi", "sun", GEC_WH, 0, 31 * 24),
]


def table(*rows: dict[str, Any]) -> str:
    lines = [",".join(COLUMNS), *(",".join(str(row[name]) for name in COLUMNS) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        table(*ROWS),
        json.dumps(ROWS),
        "\n" + json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1]) + "\n",
    ],
)
def test_a_file_of_each_form_is_read(text: str) -> None:
    assert certificates_of(text) == EXPECTED


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"from": "1970-01-02T00:30:00Z"}, "certificate 2.from: asked for a whole hour"),
        ({"from": "1970-01-02"}, "asked for a whole hour such as .*, found '1970-01-02'"),
        ({"to": 5}, "certificate 2.to: asked for a whole hour"),
        ({"wh": "many"}, "certificate 2: certificate.wh: asked for int, found 'many'"),
        ({"wh": 5}, "certificate 2: certificate 9*: asked for 1000000 Wh"),
        ({"form": "rec"}, "certificate 2: certificate.form: asked for granular or gec"),
    ],
)
def test_a_row_that_is_no_certificate_is_named(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        certificates_of(json.dumps([ROWS[0], ROWS[1] | changes]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "line 1: asked for the columns id, form, .*, found nothing"),
        ("id,wh\nx,1\n", "line 1: asked for the columns .*, found id, wh"),
        ("[1]", "certificate 1: asked for id, .* found 1"),
        ("[{]", "file: asked for JSON"),
        ('{"id": 1}\n{', "line 2: asked for JSON"),
        (table(ROWS[0]) + "x\n", "certificate 3"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_line(text: str, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        certificates_of(text)
