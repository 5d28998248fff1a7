from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from steppe.errors import UsageError
from steppe.sites.service.note_book import KEPT_DAYS, US_PER_DAY, SentBook
from steppe.sites.settlement.sent import Sent

NOW_US = 20_000 * US_PER_DAY + 5_000_000
SENT = Sent(
    request="e1.1", target="shanghai", tenant="acme", model="m", prompt_tokens=10,
    output_tokens=20, started_us=NOW_US - 1_000_000, ended_us=NOW_US, end="served", status=200,
    most_uj=10**9,
)  # fmt: skip


def notes_of(book: SentBook) -> list[Sent]:
    return book.between(NOW_US - US_PER_DAY, NOW_US + US_PER_DAY)


def test_a_book_that_is_opened_again_has_what_was_noted(tmp_path: Path) -> None:
    sent = [replace(SENT, request=f"e{n}.1") for n in range(3)]
    assert SentBook(tmp_path, NOW_US).add(sent) == 3
    assert notes_of(SentBook(tmp_path, NOW_US)) == sent


def test_a_note_that_comes_twice_is_written_once(tmp_path: Path) -> None:
    book = SentBook(tmp_path, NOW_US)
    assert book.add([SENT, SENT]) == 1
    assert book.add([SENT]) == 0
    assert SentBook(tmp_path, NOW_US).add([SENT]) == 0
    assert notes_of(book) == [SENT]


def test_ids_of_days_long_ago_are_not_kept(tmp_path: Path) -> None:
    book = SentBook(tmp_path, NOW_US)
    for day in range(30):
        sent = replace(SENT, request=f"e{day}.1", ended_us=NOW_US + day * US_PER_DAY)
        assert book.add([sent]) == 1
        assert book.add([sent]) == 0
    assert sum(map(len, book._known.values())) <= 4


def test_a_line_without_its_end_is_cut_off_and_the_next_note_is_whole(tmp_path: Path) -> None:
    SentBook(tmp_path, NOW_US).add([SENT])
    (path,) = tmp_path.glob("sent-*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"request":"e2.1","targ')
    book = SentBook(tmp_path, NOW_US)
    later = replace(SENT, request="e3.1")
    assert book.add([later]) == 1
    assert notes_of(book) == [SENT, later]


def test_a_damaged_line_is_left_out_alone(tmp_path: Path) -> None:
    book = SentBook(tmp_path, NOW_US)
    book.add([SENT])
    (path,) = tmp_path.glob("sent-*.jsonl")
    path.write_bytes(b"\x00\x00\n" + path.read_bytes())
    assert notes_of(SentBook(tmp_path, NOW_US)) == [SENT]


def test_a_period_has_the_notes_that_ended_in_it(tmp_path: Path) -> None:
    book = SentBook(tmp_path, NOW_US)
    ends_us = (NOW_US - US_PER_DAY, NOW_US, NOW_US + 1, NOW_US + 2)
    book.add([replace(SENT, request=f"e{n}.1", ended_us=end) for n, end in enumerate(ends_us)])
    assert [note.ended_us for note in book.between(NOW_US, NOW_US + 2)] == [NOW_US, NOW_US + 1]
    assert [n.ended_us for n in book.between(NOW_US - US_PER_DAY, NOW_US)] == [ends_us[0]]
    assert book.between(NOW_US + 3 * US_PER_DAY, NOW_US + 4 * US_PER_DAY) == []


def test_notes_of_long_ago_are_removed(tmp_path: Path) -> None:
    book = SentBook(tmp_path, NOW_US)
    old = replace(SENT, request="e0.1", ended_us=NOW_US - (KEPT_DAYS + 2) * US_PER_DAY)
    book.add([old, SENT])
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    SentBook(tmp_path, NOW_US)
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"^[^\n]*file/sites: Not a directory$"):
        SentBook(tmp_path / "file" / "sites", NOW_US)
