from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from steppe.run.demo_sites.table import (
    Head,
    RequestTail,
    live_table,
    plain_line,
    row_of,
    start_view,
)

STATUS = {
    "power": {"supply_w": 110.0, "firm_w": 30.0, "draw_w": 50.0},
    "models": {"m": {"waiting": 2, "output_tps": 41.6}, "other": {"waiting": 1}},
}
HEAD = Head("Steppe", hour=13.5, elapsed_s=100.0, left_s=65.0)


def line(tenant: str, site: str = "", tokens: int = 3) -> bytes:
    return json.dumps({"tenant": tenant, "site": site, "output_tokens": tokens}).encode() + b"\n"


def printed(view: object) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_a_row_shows_what_its_own_power_leaves() -> None:
    row = row_of("hohhot", STATUS, {"here": 4})
    assert (row.own_w, row.surplus_w, row.waiting, row.output_tps, row.here) == (80, 30, 3, 41.6, 4)


def test_the_table_has_a_row_for_each_site_with_the_time_of_the_day_and_what_is_left() -> None:
    rows = [row_of("hohhot", STATUS, {"from_others": 7}), row_of("shanghai", None, {})]
    text = printed(live_table(HEAD, rows))
    assert "13:30" in text
    assert "1:05 left" in text
    cells = {words[0]: " ".join(words[1:]) for line in text.splitlines() if (words := line.split())}
    assert cells["hohhot"] == "80 W 50 W +30 W 0 7 0 3 42"
    assert cells["shanghai"].startswith("– –")


def test_a_log_gets_the_table_in_a_line() -> None:
    found = plain_line(HEAD, [row_of("hohhot", STATUS, {"here": 4}), row_of("shanghai", None, {})])
    expected = "hohhot +30 W, 4 own, 0 of others, 0 sent, 42 tok/s"
    assert found == f"Steppe 13:30: {expected} (1:05 left)"


def test_the_end_of_the_day_is_24_hours() -> None:
    assert Head("Steppe", hour=24.0, elapsed_s=1.0, left_s=1.0).clock == "24:00"


def test_while_the_sites_start_the_last_line_of_each_is_shown() -> None:
    text = printed(start_view(12.0, 60.0, {"hohhot": "loading 1 replica", "shanghai": ""}))
    assert "loading 1 replica" in text
    assert "0:12, about 1:00 left" in text


def test_requests_are_counted_while_the_record_is_written(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    tail = RequestTail("city", file)
    tail.update()
    assert not tail.counts, "there is no record yet"
    whole = line("anywhere") + line("anywhere", site="hohhot") + line("site:hohhot")
    half = line("anywhere")
    file.write_bytes(whole + half[:5])
    tail.update()
    assert tail.counts == {"here": 1, "to_others": 1, "from_others": 1}
    file.write_bytes(whole + half)
    tail.update()
    assert tail.counts["here"] == 2


def test_a_new_phase_counts_from_zero(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_bytes(line("nearest"))
    tail = RequestTail("city", file)
    tail.reset()
    file.write_bytes(line("nearest") + line("anywhere") + line("anywhere", tokens=0))
    tail.update()
    assert tail.counts == {"here": 1}, "one without tokens was not served"
