"""One fleet of two replicas on one machine, through everything that may happen to it.

Its tests share the fleet, and leave it as they found it; the last one ends it and audits the
books of all that came before.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

MODEL = "tiny"
PROMPT = "The wind comes over the steppe"
MESSAGES: Any = [{"role": "user", "content": "Tell me about the wind."}]
FORCED = {"ignore_eos": True}
FULL_W = 200.0

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def whole_run(
    serve: Callable[..., Any], power_signal: Any, make_witness: Callable[[int], Any]
) -> Iterator[tuple[Any, Any]]:
    """Return the running fleet and the witness of its joules."""
    supply = [{"kind": "signal", "path": str(power_signal.path)}]
    running = serve(power={"supply": supply, "stale_s": 10.0, "fallback_w": 0.0})
    running.wait_for_words("opening the GPUs")
    running.wait_for_words("starting 2 replicas")
    with make_witness(running.pid) as witness:
        running.wait_for_words("running")
        yield running, witness


@pytest.fixture
def fleet(whole_run: tuple[Any, Any], power_signal: Any, wait_until: Callable[..., Any]) -> Any:
    """Return the running fleet with full power, nothing to do and no replica missing."""
    fleet, _ = whole_run
    power_signal.say(FULL_W)

    def is_well() -> bool:
        ticks = fleet.ticks()
        return (
            bool(ticks)
            and ticks[-1].budget_w == FULL_W
            and ticks[-1].running + ticks[-1].waiting == 0
            and set(fleet.states()) <= {"awake", "asleep"}
        )

    wait_until(is_well, 90, "a fleet that is well")
    return fleet


@pytest.fixture
def witness(whole_run: tuple[Any, Any]) -> Any:
    return whole_run[1]


def metric(fleet: Any, name: str) -> float:
    """Return the sum of a metric over its labels."""
    text = httpx.get(fleet.url + "/metrics").text
    families = text_string_to_metric_families(text)
    return sum(s.value for family in families for s in family.samples if s.name == name)


def request_of(fleet: Any, id_: str, wait_until: Callable[..., Any]) -> Any:
    """Wait until a request is written down, and return it."""
    wait_until(lambda: id_ in fleet.requests(), 20, f"request {id_} in the record")
    return fleet.requests()[id_]


def test_the_official_client_lists_the_model(fleet: Any) -> None:
    assert [model.id for model in fleet.client.models.list()] == [MODEL]
    with pytest.raises(openai.NotFoundError):
        fleet.client.completions.create(model="another", prompt=PROMPT)


def test_the_official_client_gets_chats_whole_and_streamed(
    fleet: Any, wait_until: Callable[..., Any]
) -> None:
    create = fleet.client.chat.completions.create
    asked: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 12, "extra_body": FORCED}
    whole = create(**asked, temperature=0)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    id_ = "a-streamed-chat"
    chunks = list(
        create(
            **asked,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"X-Request-Id": id_},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    written = request_of(fleet, id_, wait_until)
    assert (written.output_tokens, written.prompt_tokens) == (12, whole.usage.prompt_tokens)
    assert (written.finish, written.energy_source) == ("length", "emulated")
    assert 0 < written.ttft_s < written.e2e_s
    assert written.energy_j > 0


def test_the_official_client_gets_completions_whole_and_streamed(fleet: Any) -> None:
    create = fleet.client.completions.create
    asked: Any = {"model": MODEL, "prompt": PROMPT, "max_tokens": 9, "extra_body": FORCED}
    whole = create(**asked, temperature=0)
    assert (whole.usage.completion_tokens, whole.choices[0].finish_reason) == (9, "length")
    streamed = list(create(**asked, temperature=0, stream=True))
    assert "".join(c.choices[0].text for c in streamed) == whole.choices[0].text
    assert [c.usage for c in streamed] == [None] * len(streamed)


def test_a_client_that_hangs_up_frees_its_place_at_once_and_is_charged_for_what_ran(
    fleet: Any, wait_until: Callable[..., Any]
) -> None:
    before = metric(fleet, "steppe_output_tokens_total")
    stream = fleet.client.completions.create(
        model=MODEL,
        prompt=PROMPT,
        max_tokens=900,
        stream=True,
        extra_body=FORCED,
        extra_headers={"X-Request-Id": "hung-up"},
    )
    for _ in range(15):
        next(stream)
    assert metric(fleet, "steppe_requests_outstanding") == 1
    wait_until(lambda: fleet.ticks()[-1].running == 1, 10, "a running request in the record")
    hung_up_s = time.monotonic()
    stream.close()
    wait_until(lambda: not metric(fleet, "steppe_requests_outstanding"), 5, "the place is free")
    assert time.monotonic() - hung_up_s < 1.0
    written = request_of(fleet, "hung-up", wait_until)
    free_s = written.arrival_s + written.e2e_s + 1.0  # the gateway saw it leave, and a second
    wait_until(lambda: fleet.ticks()[-1].t_s > free_s + 1, 10, "ticks after it was gone")
    assert not any(tick.running for tick in fleet.ticks() if tick.t_s > free_s)
    ran = metric(fleet, "steppe_output_tokens_total") - before
    assert (written.finish, written.output_tokens) == ("cancelled", ran)
    assert 15 <= written.output_tokens < 900
    assert written.energy_j > 0


def test_a_signal_that_steps_is_followed_between_two_regular_ticks(
    fleet: Any, power_signal: Any, wait_until: Callable[..., Any]
) -> None:
    for part, watts in enumerate(3 * (0.7 * FULL_W, FULL_W)):
        time.sleep(part / 6)  # the record grows once a second, like ticks: the steps must not
        power_signal.say(watts)
        wait_until(lambda w=watts: fleet.ticks()[-1].budget_w == w, 10, f"a budget of {watts} W")
    pairs = list(pairwise(fleet.ticks()))[-30:]
    steps_s = [before.t_s for before, after in pairs if before.budget_w != after.budget_w]
    assert sum(0.1 < at_s % 1.0 < 0.9 for at_s in steps_s[-6:]) >= 2


def test_a_budget_of_zero_puts_the_fleet_to_sleep_and_loses_no_request(
    fleet: Any, power_signal: Any, make_load: Callable[..., Any], asleep_w: float, wait_until: Any
) -> None:
    with make_load(fleet, 8) as load:
        load.wait_for(8)
        power_signal.say(0.0)
        fleet.wait_for_states("asleep", "asleep", within_s=20)
        dark_s = fleet.ticks()[-1].t_s + 1.5  # GPUs cool down, windows end
        wait_until(lambda: fleet.ticks()[-1].t_s > dark_s + 11, 30, "11 s in the dark")
        power_signal.say(FULL_W)
        load.wait_for(12)
    dark = [tick for tick in fleet.ticks() if dark_s <= tick.t_s <= dark_s + 11]
    assert {tick.budget_w for tick in dark} == {0.0}
    assert {replica.state for tick in dark for replica in tick.replicas} == {"asleep"}
    assert sum(tick.output_tokens for tick in dark) == 0
    for tick in dark:
        assert tick.draw_w == pytest.approx(2 * asleep_w, rel=0.05)
    assert all(
        isinstance(a.error, openai.APIStatusError)
        and a.error.status_code == 503
        and int(a.error.response.headers["Retry-After"]) > 0
        for a in load.failed
    )
    assert len(load.completed) + len(load.failed) == len(load.answers)


def restarted(fleet: Any, title: str, pid: int, wait_until: Callable[..., Any]) -> None:
    """Wait until another process than `pid` stands in its place."""
    wait_until(lambda: fleet.pids(title) - {pid}, 60, f"another {title}", every_s=0.2)


@pytest.mark.parametrize(
    ("victim", "fate"),
    [
        ("ray::Replica", signal.SIGKILL),
        ("VLLM::EngineCore", signal.SIGKILL),
        ("ray::Replica", signal.SIGSTOP),
    ],
)
def test_a_replica_that_dies_or_hangs_costs_only_what_it_was_streaming_and_comes_back(
    fleet: Any,
    make_load: Callable[..., Any],
    wait_until: Callable[..., Any],
    victim: str,
    fate: signal.Signals,
) -> None:
    with make_load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for(12)
        before = fleet.pids(victim)
        os.kill(min(before), fate)
        hit_epoch_s = time.time()
        load.wait_for(12)
        wait_until(lambda: set(fleet.states()) & {"gone", "starting"}, 20, "a replica is missed")
        wait_until(lambda: len(fleet.pids(victim) - before) == 1, 60, f"a new {victim}")
        fleet.wait_for_states("awake", "awake")
        load.wait_for(24)
    assert all(a.tokens > 0 for a in load.failed), [a.error for a in load.failed]
    assert all(a.sent_epoch_s < hit_epoch_s for a in load.failed), (hit_epoch_s, load.failed)
    ids = {a.id for a in load.completed[-24:]}
    wait_until(lambda: ids <= set(fleet.requests()), 20, "the last answers in the record")
    assert {fleet.requests()[id_].replica for id_ in ids} == {"replica-1", "replica-2"}


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_controller_that_dies_or_hangs_comes_back_and_finds_what_is_set(
    fleet: Any,
    witness: Any,
    make_load: Callable[..., Any],
    wait_until: Callable[..., Any],
    fate: signal.Signals,
) -> None:
    with make_load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for(12)
        (pid,) = fleet.pids("ray::Controller")
        replicas = fleet.pids("ray::Replica")
        os.kill(pid, fate)
        seen = fleet.ticks()[-1]
        while not fleet.pids("ray::Controller") - {pid}:
            assert witness.locked() == [0, 1]
            time.sleep(0.05)
        load.wait_for(12)
        fleet.wait_for_states("awake", "awake")
        after = [tick for tick in fleet.ticks() if tick.t_s > seen.t_s]
    assert not load.failed
    assert fleet.pids("ray::Replica") == replicas
    assert {r.state for tick in after for r in tick.replicas} == {"awake"}
    assert all(r.clock_mhz > 0 and r.batch_limit > 0 for r in after[0].replicas)


def test_a_node_actor_that_is_killed_leaves_no_limit_behind_and_meters_on(
    fleet: Any, witness: Any, make_load: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    with make_load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for(12)
        (pid,) = fleet.pids("ray::Node")
        os.kill(pid, signal.SIGKILL)
        killed_s = fleet.ticks()[-1].t_s
        wait_until(lambda: witness.locked() == [], 10, "the agent undoes the limits")
        restarted(fleet, "ray::Node", pid, wait_until)
        wait_until(lambda: witness.locked() == [0, 1], 30, "the limits are set anew")
        load.wait_for(24)
        fleet.next_tick()
    assert not load.failed
    after = [tick for tick in fleet.ticks() if tick.t_s > killed_s + 1]
    assert all(tick.energy_j > 0 for tick in after)
    ids = {a.id for a in load.completed[-8:]}
    wait_until(lambda: ids <= set(fleet.requests()), 20, "the last answers in the record")
    assert all(fleet.requests()[id_].energy_j > 0 for id_ in ids)


def test_a_gateway_that_is_killed_comes_back_at_the_same_address(
    fleet: Any, make_load: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    with make_load(fleet, 4) as load:
        load.wait_for(4)
        (pid,) = fleet.pids("ray::GatewayActor")
        os.kill(pid, signal.SIGKILL)
        restarted(fleet, "ray::GatewayActor", pid, wait_until)
        load.wait_for(8)
    assert all(
        isinstance(a.error, openai.APIConnectionError | ConnectionError) or a.tokens
        for a in load.failed
    )
    assert httpx.get(fleet.url + "/health").json()["status"] == "ok"


def test_ctrl_c_ends_the_run_with_books_that_balance_and_leaves_nothing_behind(
    fleet: Any, witness: Any, wait_until: Callable[..., Any]
) -> None:
    id_ = "the-last-one"
    sent_epoch_s = time.time()
    fleet.client.completions.create(
        model=MODEL,
        prompt=PROMPT,
        max_tokens=5,
        extra_headers={"X-Request-Id": id_},
        extra_body=FORCED,
    )
    shared_before = {path.name for path in Path("/dev/shm").glob("steppe-*")}
    assert set(fleet.files()) <= shared_before
    assert len(fleet.files()) == 2
    assert fleet.end(signal.SIGINT) == 0
    wait_until(lambda: not fleet.alive(), 15, "no process is left")
    assert fleet.files() == []
    assert witness.locked() == []
    summary = json.loads((fleet.record / "summary.json").read_text())
    requests = fleet.requests().values()
    assert sum(r.output_tokens for r in requests) == summary["output_tokens"] > 0
    parts_j = summary["idle_energy_j"] + summary["transition_energy_j"]
    parts_j += sum(r.energy_j for r in requests)
    assert parts_j == pytest.approx(summary["energy_j"], rel=0.01)
    began_epoch_s = sent_epoch_s - fleet.requests()[id_].arrival_s
    true_j = witness.energy_j(began_epoch_s, began_epoch_s + summary["duration_s"])
    assert summary["energy_j"] == pytest.approx(true_j, rel=0.01)
    assert summary["energy_source"] == "emulated"
    assert (fleet.record / "figure.png").stat().st_size > 10_000
