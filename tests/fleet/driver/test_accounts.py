from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fleet_messages import finished_request, replica_report

from steppe.engine.control_block import request_key
from steppe.fleet.driver.accounts import LONGEST_SETTLE_S, QUIET_REPORTS, SILENT_S, Accounts
from steppe.fleet.messages import ReplicaReport
from steppe.gateway.request_tracker import ID_REUSE_S
from steppe.ledger.booking import BookedRequest
from steppe.models.identity import ModelIdentity
from steppe.report.latency import within_slo
from steppe.report.records import RequestRecord, Slo

NAMES = ("a", "b", "c", "d")
uj = st.integers(0, 10**9)


def report_of(
    requests_uj: dict[str, int], idle_uj: int = 0, transition_uj: int = 0, **changes: Any
) -> ReplicaReport:
    whole_uj = sum(requests_uj.values()) + idle_uj + transition_uj
    made = replica_report(
        energy_j=whole_uj / 1e6,
        error_j=0.0,
        requests_uj={request_key(name): energy for name, energy in requests_uj.items()},
        idle_uj=idle_uj,
        transition_uj=transition_uj,
    )
    return replace(made, **changes)


reports = st.builds(report_of, st.dictionaries(st.sampled_from(NAMES), uj, max_size=4), uj, uj)
ticks = st.lists(
    st.tuples(
        st.lists(reports, max_size=3), st.lists(st.sampled_from(NAMES), max_size=2), st.booleans()
    ),
    max_size=12,
)


@settings(deadline=None)
@given(ticks)
def test_the_parts_sum_to_the_whole_at_every_tick_and_at_the_end(
    happened: list[tuple[list[ReplicaReport], list[str], bool]],
) -> None:
    accounts = Accounts("emulated", 1000.0)
    records = list[RequestRecord]()
    for tick, (came, ended, drops) in enumerate(happened):
        accounts.add(came)
        accounts.finish([finished_request(name) for name in ended])
        records += accounts.close_tick(20.0 * tick)
        if drops:
            accounts.drop_unclaimed([])
        assert accounts.parts_uj == accounts.energy_uj
    records += accounts.close()
    assert accounts.parts_uj == accounts.energy_uj
    reported = sum(round((record.energy_j or 0) * 1e6) for record in records)
    explained = accounts.idle_uj + accounts.transition_uj + accounts.unclaimed_uj
    assert reported + explained == accounts.energy_uj
    assert Counter(r.id for r in records) == Counter(
        name for _, names, _ in happened for name in names
    )


def open_uj(accounts: Accounts, receipts_uj: int) -> int:
    explained = accounts.idle_uj + accounts.transition_uj + accounts.unclaimed_uj
    return sum(accounts.meters_uj.values()) - explained - receipts_uj


late_reports = st.builds(
    report_of,
    st.dictionaries(st.sampled_from(NAMES), st.integers(-3, 10**9), max_size=4),
    st.integers(-3, 10**9),
    uj,
    replica=st.sampled_from(("replica-1", "replica-2")),
    energy_j=st.integers(-3, 2 * 10**9).map(lambda energy_uj: energy_uj / 1e6 + 4e-7),
)
"""What is attributed in a window is not what was metered in it: a step in progress comes later."""


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(late_reports, max_size=3),
            st.lists(st.sampled_from(NAMES), max_size=2),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_receipts_and_other_parts_and_what_is_open_are_what_the_meters_read_at_every_step(
    happened: list[tuple[list[ReplicaReport], list[str], bool]],
) -> None:
    accounts = Accounts("emulated", 1000.0, models={})
    booked, meters = list[BookedRequest](), dict[str, int]()
    for tick, (came, ended, drops) in enumerate(happened):
        accounts.add(came)
        accounts.finish([finished_request(name) for name in ended])
        accounts.close_tick(20.0 * tick)
        if drops:
            accounts.drop_unclaimed([])
        booked += accounts.take_booked()
        assert open_uj(accounts, sum(request.energy_uj for request in booked)) >= 0
        assert all(accounts.meters_uj[name] >= before for name, before in meters.items())
        meters = accounts.meters_uj
    records = accounts.close()
    booked += accounts.take_booked()
    assert open_uj(accounts, sum(request.energy_uj for request in booked)) == 0
    assert all(request.energy_uj >= 0 for request in booked)
    assert len(booked) >= len(records)
    assert accounts.energy_uj == sum(meters.values())


def test_a_request_is_booked_with_whole_microjoules_and_times_of_the_wall_clock() -> None:
    models = {"small": ModelIdentity("0a" * 20, "5f" * 8)}
    accounts = Accounts("emulated", 1000.0, models=models)
    ended = finished_request(
        "a", model="small", engine_id="e", terms="flat/0", key_id="0a1b2c3d", cached_tokens=9
    )
    refused = finished_request("b", finish="shed", replica=None, ttft_s=None)
    key = request_key("e")
    accounts.add([replica_report(energy_j=5.0, requests_uj={key: 3_000_001}, idle_uj=1)])
    accounts.finish([ended, refused])
    accounts.close()
    booked, without = accounts.take_booked()
    assert (booked.id, booked.request, booked.energy_uj) == ("e", "a", 3_000_001)
    times_us = (booked.started_us, booked.first_us, booked.ended_us)
    assert times_us == (1_010_000_000, 1_010_100_000, 1_010_500_000)
    assert (booked.terms, booked.key_id, booked.finish) == ("flat/0", "0a1b2c3d", "length")
    assert (booked.prompt_tokens, booked.cached_tokens) == (7, 7)
    assert (without.finish, without.had_replica, without.first_us) == ("shed", False, 0)
    assert (booked.model_rev, booked.tokenizer_sha) == ("0a" * 20, "5f" * 8)
    assert (without.model_rev, without.tokenizer_sha) == ("", "")
    assert accounts.take_booked() == []


def test_without_a_ledger_no_request_is_kept_for_one() -> None:
    accounts = Accounts("emulated", 1000.0)
    accounts.finish([finished_request("a")])
    assert len(accounts.close()) == 1
    assert accounts.take_booked() == []


def test_a_stream_that_went_on_elsewhere_is_charged_for_its_parts_at_all_replicas() -> None:
    accounts = Accounts("counter", 1000.0)
    key = request_key("a")
    first = report_of({"a": 2_000_000}, replica="replica-1", tokens={key: (7, 3)})
    rest = report_of({"a": 5_000_000}, replica="replica-2", tokens={key: (10, 4)})
    accounts.add([first, rest])
    ended = finished_request("a", replica="replica-2", output_tokens=7, continued=1)
    accounts.finish([ended])
    for tick in range(QUIET_REPORTS):
        accounts.add([report_of({}, replica="replica-2")])
        records = accounts.close_tick(float(tick))
    (record,) = records
    assert (record.energy_j, record.continued) == (7.0, 1)
    assert (record.prompt_tokens, record.output_tokens) == (7, 7)
    assert accounts.parts_uj == accounts.energy_uj


def test_energy_beside_the_gpus_counts_and_that_of_neighbours_does_not() -> None:
    accounts = Accounts("counter", 1000.0, "node")
    report = report_of({"a": 6_000_000}, idle_uj=4_000_000, quality="estimated")
    report = replace(
        report, energy_j=7.0, beside_j=3.0, error_j=0.5, beside_error_j=0.9, neighbour_j=5.0
    )
    accounts.finish([finished_request("a")])
    settle(accounts, report)
    (record,) = accounts.close()
    assert (accounts.energy_uj, accounts.neighbour_uj) == (10_000_000, 5_000_000)
    assert accounts.parts_uj == accounts.energy_uj
    assert accounts.error_j == pytest.approx(1.4)
    assert (record.energy_j, record.energy_source, record.boundary) == (6.0, "estimated", "node")


def step_of(name: str, energy_uj: int = 0) -> ReplicaReport:
    """Return a report of a window in which a step of this request alone ended."""
    return report_of({name: energy_uj}, tokens={request_key(name): (0, 1)}, stepping=True)


def settle(accounts: Accounts, *reported: ReplicaReport) -> list[float | None]:
    """Report once a tick, and return the joules of what is recorded."""
    records = list[RequestRecord]()
    for number, report in enumerate(reported):
        accounts.add([report])
        records += accounts.close_tick(float(number))
    return [record.energy_j for record in records]


QUIET = [report_of({})] * QUIET_REPORTS
UNDER_WAY = [report_of({}, stepping=True)] * 20


def test_a_request_is_recorded_once_its_last_steps_have_been_metered() -> None:
    accounts = Accounts("emulated", 1000.0)
    accounts.add([report_of({"a": 3_000_000})])
    accounts.finish([finished_request("a")])
    accounts.close_tick(0.0)
    assert settle(accounts, *QUIET[1:], step_of("a", 1_000_000), *QUIET[1:]) == []
    accounts.add(QUIET[:1])
    (record,) = accounts.close_tick(9.0)
    assert (record.energy_j, record.energy_source) == (4.0, "emulated")
    assert record.arrival_s == pytest.approx(10.0)
    assert accounts.close() == []


@pytest.mark.parametrize("reported", [UNDER_WAY, [report_of({})] * 20])
def test_a_request_that_was_cut_off_waits_for_its_last_step(
    reported: list[ReplicaReport],
) -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.finish([finished_request("a", finish="cancelled")])
    assert settle(accounts, *reported) == []
    assert settle(accounts, step_of("a", 5_000_000), *QUIET) == [5.0]


@pytest.mark.parametrize(("seen", "waits_s"), [(True, SILENT_S), (False, LONGEST_SETTLE_S)])
def test_the_wait_without_any_step_is_longest_for_the_first_step_of_a_request(
    seen: bool, waits_s: float
) -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.add([step_of("a" if seen else "b", 3_000_000)])
    accounts.finish([finished_request("a", finish="cancelled")])
    accounts.add(QUIET)
    assert accounts.close_tick(waits_s - 0.1) == []
    assert len(accounts.close_tick(waits_s)) == 1


def test_a_request_is_recorded_while_others_continue_in_long_steps() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.finish([finished_request("a", finish="cancelled")])
    reported = [step_of("a", 5_000_000), *UNDER_WAY, step_of("b"), *UNDER_WAY, step_of("b")]
    assert settle(accounts, *reported) == []
    assert settle(accounts, *UNDER_WAY, step_of("b")) == [5.0]


def test_reports_of_another_replica_do_not_settle_a_request() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.finish([finished_request("a")])
    assert settle(accounts, *[replace(QUIET[0], replica="replica-2")] * 20) == []


def test_a_request_whose_replica_is_lost_does_not_wait_for_ever() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.close_tick(5.0)
    accounts.finish([finished_request("a", finish="error")])
    assert accounts.close_tick(LONGEST_SETTLE_S + 4.9) == []
    assert [record.id for record in accounts.close_tick(LONGEST_SETTLE_S + 5.0)] == ["a"]


def test_energy_after_the_longest_wait_is_an_estimate() -> None:
    accounts = Accounts("counter", 0.0)
    accounts.add([replace(step_of("a", 3_000_000), quality="counter")])
    silent = finished_request("c", replica="replica-2", finish="cancelled")
    accounts.finish(
        [finished_request("a"), finished_request("b", finish="shed", replica=None), silent]
    )
    accounts.add([replace(QUIET[0], replica="replica-2", quality="counter")] * QUIET_REPORTS)
    records = accounts.close_tick(LONGEST_SETTLE_S)
    reported = [(record.id, record.energy_j, record.energy_source) for record in records]
    assert reported == [("a", 3.0, "estimated"), ("b", 0.0, "counter"), ("c", 0.0, "counter")]


def test_a_request_is_recorded_before_its_id_can_be_reused() -> None:
    assert LONGEST_SETTLE_S < ID_REUSE_S


def test_a_request_that_no_replica_had_is_recorded_at_once() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.finish([finished_request("a", finish="shed", replica=None)])
    assert [record.id for record in accounts.close_tick(1.0)] == ["a"]


def test_a_request_that_another_site_served_is_booked_at_once_without_energy() -> None:
    accounts = Accounts("counter", 0.0, models={})
    ended = finished_request("a", replica=None, site="shanghai", terms="flat/0")
    accounts.add([report_of({"b": 5})])
    accounts.finish([ended])
    (record,) = accounts.close_tick(1.0)
    assert (record.site, record.replica, record.energy_j) == ("shanghai", None, 0.0)
    assert (record.prompt_tokens, record.output_tokens) == (7, ended.output_tokens)
    (booked,) = accounts.take_booked()
    assert (booked.energy_uj, booked.had_replica, booked.terms) == (0, True, "flat/0")
    assert booked.output_tokens == ended.output_tokens


def test_what_was_computed_here_of_a_request_that_went_on_at_a_site_is_charged_exactly() -> None:
    accounts = Accounts("counter", 0.0, models={})
    accounts.add([report_of({"a": 2_000_001}, idle_uj=3)])
    accounts.finish([finished_request("a", site="shanghai", continued=1)])
    late = report_of({"a": 40}, idle_uj=2)  # its last step here is reported after its end
    records = list[RequestRecord]()
    for tick, report in enumerate([late, *(report_of({}),) * QUIET_REPORTS]):
        accounts.add([report])
        records += accounts.close_tick(float(tick))
    (booked,) = accounts.take_booked()
    assert (records[0].site, booked.energy_uj) == ("shanghai", 2_000_041)
    assert accounts.energy_uj == booked.energy_uj + accounts.idle_uj == 2_000_046


def test_energy_that_no_request_claims_is_a_line_of_its_own_at_the_end() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.add([report_of({"a": 2_000_000, "b": 1_000_000}, idle_uj=5)])
    accounts.finish([finished_request("a")])
    (record,) = accounts.close()
    assert record.energy_j == 2.0
    assert (accounts.unclaimed_uj, accounts.idle_uj) == (1_000_000, 5)


def test_metered_energy_that_no_node_attributed_is_unclaimed_at_the_end() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.add([report_of({"a": 2_000_000}, idle_uj=5, energy_j=3.0)])
    accounts.finish([finished_request("a")])
    accounts.close()
    assert accounts.unclaimed_uj == 3_000_000 - 2_000_005
    assert accounts.parts_uj == accounts.energy_uj


def test_the_requests_of_a_measurement_count_as_idle() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.lent.add("replica-1")
    accounts.add([report_of({"measured": 2_000_000})])
    accounts.lent.discard("replica-1")
    accounts.add([report_of({"measured": 500_000, "stray": 1_000_000})])  # its last step
    accounts.close()
    assert (accounts.idle_uj, accounts.unclaimed_uj) == (2_500_000, 1_000_000)


def test_energy_that_stops_growing_is_unclaimed_after_two_searches() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.add([report_of({"a": 2_000_000}, tokens={request_key("a"): (20, 3)})])
    for _ in range(2):
        accounts.drop_unclaimed([])
        assert (accounts.unclaimed_uj, accounts.parts_uj) == (0, 2_000_000)
    accounts.drop_unclaimed([])
    assert (accounts.unclaimed_uj, accounts.parts_uj) == (2_000_000, 2_000_000)
    accounts.finish([finished_request("a", prompt_tokens=None)])
    (record,) = accounts.close()
    assert (record.energy_j, record.prompt_tokens) == (0.0, 0)


def test_an_open_request_claims_its_energy_however_long_it_is_frozen() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.add([report_of({"frozen": 2_000_000})])
    for _ in range(5):
        accounts.drop_unclaimed(["frozen"])
    accounts.finish([finished_request("frozen")])
    (record,) = accounts.close()
    assert record.energy_j == 2.0


def test_the_energy_of_a_running_or_just_finished_request_is_kept() -> None:
    accounts = Accounts("emulated", 0.0)
    for _ in range(3):
        accounts.add([report_of({"long": 1_000_000})])
        accounts.drop_unclaimed([])
    accounts.finish([finished_request("long")])
    for _ in range(3):
        accounts.drop_unclaimed([])
    (record,) = accounts.close()
    assert record.energy_j == 3.0


def test_a_request_cut_short_is_charged_for_the_tokens_that_ran() -> None:
    accounts = Accounts("emulated", 0.0)
    for _ in range(2):
        accounts.add([report_of({}, tokens={request_key("a"): (20, 3)})])
    cut = finished_request("a", prompt_tokens=None, output_tokens=None, finish="cancelled")
    accounts.finish([cut])
    (record,) = accounts.close()
    assert (record.prompt_tokens, record.output_tokens) == (40, 6)


def test_a_stream_without_usage_has_the_times_and_tokens_of_its_steps() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.add([report_of({}, tokens={request_key("a"): (7, 5)})])
    unreported: dict[str, None] = dict.fromkeys(("prompt_tokens", "cached_tokens", "output_tokens"))
    accounts.finish([finished_request("a", finish="stop", **unreported), finished_request("b")])
    (silent, reported) = accounts.close()
    assert silent.output_tokens == 5
    assert silent.tpot_s == reported.tpot_s == pytest.approx(0.1)
    slo = Slo(ttft_s=1.0, tpot_s=0.2)
    assert within_slo(silent, slo)
    assert within_slo(reported, slo)


@pytest.mark.parametrize("changes", [{"output_tokens": 1}, {"ttft_s": None}])
def test_one_token_or_no_stream_has_no_time_per_output_token(changes: dict[str, Any]) -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.finish([finished_request("a", **changes)])
    assert [record.tpot_s for record in accounts.close()] == [None]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_record_says_whether_the_answer_was_streamed(streamed: bool) -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.finish([finished_request("a", streamed=streamed)])
    assert [record.streamed for record in accounts.close()] == [streamed]


def test_usage_takes_precedence_over_the_tokens_of_steps() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.add([report_of({}, tokens={request_key("a"): (20, 3)})])
    accounts.finish([finished_request("a", prompt_tokens=24, output_tokens=0)])
    (record,) = accounts.close()
    assert (record.prompt_tokens, record.output_tokens) == (24, 0)


@pytest.mark.parametrize(
    ("finish", "written"),
    [
        ("length", "completed"),
        ("stop", "completed"),
        ("error", "failed"),
        ("abort", "failed"),
        ("invalid", "invalid"),
        ("rejected", "rejected"),
        ("shed", "shed"),
        ("cancelled", "cancelled"),
    ],
)
def test_every_end_has_an_outcome(finish: str, written: str) -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.finish([finished_request("a", finish=finish)])
    (record,) = accounts.close()
    assert record.outcome == written


def test_a_record_has_the_worst_quality_of_its_joules_and_the_run_of_all() -> None:
    accounts = Accounts("counter", 0.0)
    accounts.add([report_of({"a": 5, "b": 5}, quality="counter")])
    accounts.add([report_of({"a": 5}, quality="estimated")])
    accounts.add([report_of({"a": 5, "c": 5}, quality="integrated")])
    accounts.finish([finished_request(name) for name in ("a", "b", "c", "d")])
    sources = [record.energy_source for record in accounts.close()]
    assert sources == ["estimated", "counter", "integrated", "counter"]
    assert accounts.energy_source == "estimated"


def test_an_emulated_run_stays_emulated_whatever_its_sensors_do() -> None:
    accounts = Accounts("emulated", 0.0)
    accounts.add([report_of({"a": 5}, quality="estimated")])
    accounts.finish([finished_request("a"), finished_request("b")])
    assert {record.energy_source for record in accounts.close()} == {"emulated"}
    assert accounts.energy_source == "emulated"


def test_the_errors_of_different_replicas_add_up_and_those_of_one_do_not() -> None:
    accounts = Accounts("emulated", 0.0)
    for error_j in (3.0, 2.0, 1.0):
        accounts.add([report_of({}, replica=name, error_j=error_j) for name in ("r1", "r2")])
    assert accounts.error_j == pytest.approx(2 * (3.0 + 3.0))


def test_the_errors_of_emulated_windows_with_holes_add_up_too() -> None:
    accounts = Accounts("emulated", 0.0)
    for error_j in (1.0, 9.0, 9.0):
        accounts.add([report_of({}, error_j=error_j, wrong_inside=error_j > 1.0)])
    assert accounts.error_j == pytest.approx(2 * 1.0 + 2 * 9.0)


@pytest.mark.parametrize("quality", ["estimated", "integrated"])
def test_the_errors_inside_windows_add_up(quality: str) -> None:
    accounts = Accounts("counter", 0.0)
    for wrong_inside in (False, True, True, False):
        report = report_of({}, replica="r1", error_j=9.0 if wrong_inside else 1.0)
        accounts.add([replace(report, quality=quality if wrong_inside else "counter")])
    assert accounts.error_j == pytest.approx(2 * 1.0 + 2 * 9.0)


def test_the_energy_of_a_waiting_answer_is_told_once_its_window_has_been_read() -> None:
    accounts = Accounts("emulated", 1000.0)
    accounts.add([report_of({"a": 5_000_000, "b": 1_000_000})])
    accounts.finish([finished_request("a", wants_energy=True), finished_request("b")])
    assert accounts.energy_so_far() == []
    accounts.add([report_of({"a": 2_000_000}, replica="replica-1")])
    (told,) = accounts.energy_so_far()
    assert (told.id, told.energy_j, told.source, told.is_final) == ("a", 7.0, "emulated", False)
    assert accounts.energy_so_far() == []
