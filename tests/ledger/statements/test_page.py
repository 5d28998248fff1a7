"""The page of a statement, and its figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.statements.test_statement import FIRST, MONTH, receipt

from steppe.ledger.receipt import Receipt
from steppe.ledger.statements.figures import HEIGHT, STEP, axis_end, figure_html, figures_of, ticks
from steppe.ledger.statements.page import page_html
from steppe.ledger.statements.statement import statement_of

BAD = "<script>x</script>\"'&\x00\n"
ELEMENTS = (
    "html head meta title style body h1 h2 p div span b small table thead tbody tr th td br "
    "figure figcaption svg path i"
)


class Seen(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(*receipts: Receipt, tenant: str = "lab", issuer: str = "Example") -> str:
    return page_html(statement_of(receipts, tenant, MONTH), issuer)


def seen(page: str) -> Seen:
    parser = Seen()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_no_text_of_others_becomes_an_element() -> None:
    bad = {f.name: BAD for f in fields(Receipt) if f.type == "str" and f.name not in ("id",)}
    page = page_of(
        receipt(0, **{**bad, "corrects": "", "id": BAD + "1"}),
        receipt(1, **{**bad, "id": BAD + "2", "boundary": "gpu"}),
        tenant=BAD,
        issuer=BAD,
    )
    found = seen(page)
    assert found.elements == set(ELEMENTS.split())
    assert "script" not in re.sub(r"&lt;/?script&gt;", "", page)
    assert not any(name.startswith("on") for name in found.attributes)
    assert "\x00" not in page
    assert "src=" not in page
    assert "href=" not in page


def test_the_source_of_energy_stands_wherever_a_joule_is() -> None:
    page = page_of(receipt(0, green_uj=7), receipt(1, model="b", energy_source="counter"))
    assert "Energy source: counter, emulated." in page
    for cells in re.findall(r'data-name="(?:Joules|Green)">(.*?)</td>', page):
        assert 'class="tag"' in cells
    energy, green = re.findall(r'"tile"><span class="name">(?:Energy|Green).*?</div>', page)
    assert "emulated" in energy
    assert "emulated" in green
    for caption in re.findall(r"<h2>(?:Joules|Green).*?<figcaption>(.*?)</figcaption>", page):
        assert "emulated" in caption


def test_the_lines_and_the_total_are_exact() -> None:
    page = page_of(receipt(0, amount_nano=1_234_567_890_123), receipt(1, corrects="r0"))
    for text in ("1,234.57", "1,234.567890123", "-0.002109877", "1,234.57 CNY", "r1 corrects r0"):
        assert text in page


def test_a_month_without_receipts_has_no_figures() -> None:
    page = page_of()
    seen(page)
    assert "<figure" not in page
    assert "0.00 XXX" in page


def test_figures_without_a_value_are_left_out() -> None:
    statement = statement_of([receipt(0, energy_uj=0)], "lab", MONTH)
    assert [figure.title for figure in figures_of(statement)] == [
        "Tokens by hour",
        "Green share by hour, %",
    ]


def test_bars_stand_on_each_other_at_their_hour() -> None:
    one = receipt(0, hour=FIRST + 27, prompt_tokens=10, cached_tokens=2, output_tokens=30)
    statement = statement_of([one], "lab", MONTH)
    figure = figures_of(statement)[0]
    assert (figure.hours, max(figure.heights)) == (range(FIRST + 24, FIRST + 48), 40)
    at = f"M{3 * STEP} "
    assert f'd="{at}{HEIGHT * 4 // 5}h9V{HEIGHT}h-9z"' in figure_html(figure, MONTH)  # 8 of 40
    assert f'd="{at}0h9V{HEIGHT * 3 // 4}h-9z"' in figure_html(figure, MONTH)  # 30 of 40


@given(st.integers(0, 10**18))
def test_the_end_of_an_axis_is_a_round_number_above(most: int) -> None:
    end = axis_end(most)
    assert most <= end <= max(2, most * 5 // 2)
    assert str(end).strip("0") in {"1", "2", "4"}


@pytest.mark.parametrize(("days", "labels"), [(1, 4), (2, 8), (8, 8), (9, 5), (31, 8)])
def test_an_axis_has_at_most_eight_labels(days: int, labels: int) -> None:
    assert len(list(ticks(range(FIRST, FIRST + 24 * days), MONTH))) == labels
