from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from steppe.load.arrivals import Arrival
from steppe.load.results import LoadResult, RequestResult
from steppe.load.stream import Completed, Failed, Outcome
from steppe.run.demo_sites.outcome import (
    BooksFound,
    ClientSums,
    client_sums,
    faults_of,
    lines_of,
)
from steppe.run.demo_sites.served import PhaseSums

NEAR = PhaseSums(100, 10, 0, 1000, 9000.0, 8000.0, {"hohhot": 0})
FAR = PhaseSums(100, 60, 55, 1000, 9000.0, 4000.0, {"hohhot": 55})
SUMS = {"nearest": NEAR, "anywhere": FAR}
SEEN = ClientSums(100, 100, (), 0.5, 1.5)
CLIENTS = {"nearest": SEEN, "anywhere": SEEN}
ENDED = {"hohhot": 0, "shanghai": 0}


def answer(first_s: float) -> Completed:
    return Completed(first_s, first_s + 1, array("f", [1.0]), 4, 2, "length")


def result(*outcomes: Outcome) -> LoadResult:
    arrival = Arrival(0.0, 4, 2)
    requests = [RequestResult(i, arrival, 0.0, 0.0, 0, each) for i, each in enumerate(outcomes)]
    return LoadResult("m", 0.0, 10.0, 1, tuple(requests))


def test_more_on_surplus_with_whole_answers_and_true_books_is_a_success() -> None:
    assert faults_of(SUMS, CLIENTS, BooksFound(), ENDED) == ()


@pytest.mark.parametrize("on_surplus", [9, 10])
def test_no_more_on_surplus_than_at_the_nearest_site_is_a_fault(on_surplus: int) -> None:
    sums = {**SUMS, "anywhere": replace(FAR, on_surplus=on_surplus)}
    (fault,) = faults_of(sums, CLIENTS, BooksFound(), ENDED)
    expected = f"asked for more requests on surplus than 10 at the nearest site, found {on_surplus}"
    assert fault == expected


def test_each_thing_that_does_not_hold_is_a_line() -> None:
    sums = {"nearest": replace(NEAR, moved=3), "anywhere": replace(FAR, moved=0)}
    lost = {**CLIENTS, "anywhere": replace(SEEN, completed=98, errors=("broke off", "shed"))}
    books = BooksFound(faults=("hohhot and shanghai: 3 uJ apart",))
    assert faults_of(sums, lost, books, {**ENDED, "hohhot": 1}) == (
        "asked for requests that move to another site, found none",
        "nearest site: asked for none that moves, found 3",
        "anywhere: asked for 100 whole answers, found 98: broke off; shed",
        "hohhot: asked for exit code 0, found 1",
        "hohhot and shanghai: 3 uJ apart",
    )


def test_the_clients_of_all_sites_are_one_sum() -> None:
    east = result(answer(1.0), answer(2.0), Failed("the stream broke off before [DONE]"))
    found = client_sums({"east": east, "west": result(answer(3.0))})
    assert (found.sent, found.completed) == (4, 3)
    assert found.p50_ttft_s == 2.0
    assert found.p99_ttft_s == pytest.approx(2.98)
    assert found.errors[0] == "the stream broke off before [DONE]"


def test_a_request_that_was_never_sent_counts_as_one_without_an_answer() -> None:
    found = client_sums({"east": replace(result(), not_sent=2)})
    assert (found.sent, found.completed, found.p50_ttft_s) == (2, 0, None)


def test_the_end_shows_both_phases_side_by_side() -> None:
    rows = {name: (near, far) for name, near, far in lines_of(SUMS, CLIENTS)}
    assert rows["on surplus"] == ("10 (10 %)", "60 (60 %)")
    assert rows["moved to another site"] == ("0 (0 %)", "55 (55 %)")
    assert rows["TTFT p50, p99"] == ("0.50 s, 1.50 s",) * 2
    assert rows["from the grid"] == ("8.00 kJ", "4.00 kJ")
