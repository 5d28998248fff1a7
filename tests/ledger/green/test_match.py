"""The record of a match: its bytes, and what is none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from steppe.errors import UsageError
from steppe.ledger.green.match import GreenShare, Match
from steppe.ledger.receipt import canonical

HASH = "0f" * 32
MATCH = Match(
    site="example.org/hohhot",
    boundary="gpu",
    hour=490_000,
    number=0,
    before="",
    period=HASH,
    zone="mengxi",
    load_wh=8,
    load_uj=8 * 3_600_000_000 + 5,
    source_wh={"wind": 5, "grid/coal": 3},
    lost_uj=7,
    green_wh=4,
    gec_wh=2,
    certificates={"w": 4, "g": 2},
    receipts=3,
    receipts_uj=9,
    sold_uj=4,
    gec_sold_uj=2,
    root=HASH,
)


def test_a_match_is_read_back_from_its_bytes() -> None:
    assert Match.read(MATCH.entry) == MATCH
    assert MATCH.id == "example.org/hohhot/490000/0"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"hour": "x"}, "match.hour: asked for int, found 'x'"),
        ({"source_wh": {"wind": -1}}, "match.source_wh: asked for dict"),
        ({"certificates": {"w": True}}, "asked for an integer"),
        ({"certificates": [1]}, "match.certificates: asked for dict, found"),
        ({"root": "0f"}, "match.root: asked for a SHA-256, found '0f'"),
        ({"period": ""}, "match.period: asked for a SHA-256"),
        ({"more": 1}, "match: asked for its 19 fields, found more amiss"),
        ({"kind": "period"}, "match: asked for version 1 of it"),
    ],
)
def test_what_is_no_match_is_refused_in_one_line(changes: dict[str, Any], found: str) -> None:
    values = orjson.loads(MATCH.entry) | changes
    with pytest.raises(UsageError, match=found):
        Match.read(canonical(values))


def test_a_share_has_a_leaf_of_its_own() -> None:
    share = GreenShare("a", HASH, 5, 3, 2)
    assert share.leaf != GreenShare("a", HASH, 5, 2, 3).leaf
