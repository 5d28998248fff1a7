"""One fleet of two vLLM replicas on one machine: its clients, darkness, and engines that die.

The tests share the fleet and leave it as they found it; the last one ends it and audits the books
of all that came before.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fixtures.serving import (
    ENGINE,
    FULL_W,
    MODEL,
    SOON_S,
    EnergyWitness,
    Load,
    PowerSignal,
    Serving,
    end_and_audit,
    wait_until,
)

PROMPT = "The wind comes over the steppe"
MESSAGES: Any = [{"role": "user", "content": "Tell me about the wind."}]
CONTINUED = "steppe_gateway_continued_streams_total"
FORCED = {"ignore_eos": True}

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def metric(fleet: Serving, name: str) -> float:
    """Return the sum of a metric over its labels."""
    families = text_string_to_metric_families(httpx.get(fleet.url + "/metrics").text)
    return sum(s.value for family in families for s in family.samples if s.name == name)


def wait_for_counted_tokens(fleet: Serving) -> float:
    """Wait until the metric has counted the tokens of all requests so far, and return it.

    The controller counts a token one or two ticks after it was sampled.
    """
    asked_s = fleet.last_tick().t_s
    fleet.wait_for_tick(lambda tick: tick.t_s > asked_s + 3, "ticks after the last request")
    return metric(fleet, "steppe_output_tokens_total")


def test_the_official_client_lists_the_model(fleet: Serving) -> None:
    assert [model.id for model in fleet.client.models.list()] == [MODEL]
    with pytest.raises(openai.NotFoundError):
        fleet.client.completions.create(model="another", prompt=PROMPT)


def awake_replicas(fleet: Serving) -> set[str]:
    health = httpx.get(fleet.url + "/health")
    return set(health.json()["awake_replicas"]) if health.status_code == 200 else set()


def replicas_with_metrics(fleet: Serving) -> set[str]:
    answer = httpx.get(fleet.url + "/metrics/replicas")
    if answer.status_code != 200:
        return set()
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    running = families.get("vllm:num_requests_running")
    return {sample.labels["replica"] for sample in running.samples} if running else set()


def test_a_running_fleet_is_ready_and_shows_the_metrics_of_its_engines(fleet: Serving) -> None:
    # A replica may fall asleep or wake between the two requests.
    wait_until(
        lambda: replicas_with_metrics(fleet) == awake_replicas(fleet) != set(),
        "the metrics of the awake replicas",
    )
    text = httpx.get(fleet.url + "/metrics/replicas").text
    assert "_created" not in text + httpx.get(fleet.url + "/metrics").text


def test_errors_of_the_engine_have_openai_s_shape(fleet: Serving) -> None:
    url = fleet.url + "/v1/chat/completions"
    asked: Any = [{"model": "nothing"}, {"model": MODEL, "top_p": 7}]
    missing, invalid = (
        httpx.post(url, json={"messages": MESSAGES} | each, timeout=SOON_S) for each in asked
    )
    found = [(answer.status_code, answer.json()["error"]) for answer in (missing, invalid)]
    codes = [(status, error["type"], error["code"]) for status, error in found]
    assert codes == [
        (404, "invalid_request_error", "model_not_found"),
        (400, "invalid_request_error", "bad_request"),
    ]
    assert "top_p" in found[1][1]["message"]


def test_the_official_client_gets_chats_whole_and_streamed(fleet: Serving) -> None:
    create: Any = fleet.client.chat.completions.create
    judged = metric(fleet, "steppe_slo_judged_total")
    sent: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 12, "extra_body": FORCED}
    whole = create(**sent, temperature=0)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    chunks = list(
        create(
            **sent,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"X-Request-Id": "a-streamed-chat"},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    usage = chunks[-1].usage
    assert (usage.completion_tokens, usage.prompt_tokens) == (12, whole.usage.prompt_tokens)
    assert usage.prompt_tokens_details.cached_tokens <= usage.prompt_tokens
    (recorded,) = fleet.wait_for_requests({"a-streamed-chat"})
    assert (recorded.output_tokens, recorded.prompt_tokens) == (12, whole.usage.prompt_tokens)
    assert (recorded.finish, recorded.energy_source) == ("length", "emulated")
    assert recorded.ttft_s is not None
    assert recorded.e2e_s is not None
    assert 0 < recorded.ttft_s < recorded.e2e_s
    assert (recorded.energy_j or 0) > 0
    assert recorded.cached_tokens == usage.prompt_tokens_details.cached_tokens
    # Both are judged by TTFT and by TPOT.
    wait_until(
        lambda: metric(fleet, "steppe_slo_judged_total") == judged + 4, "two judged requests"
    )


def test_an_answer_has_the_energy_that_the_books_charge(fleet: Serving) -> None:
    sent = {"model": MODEL, "prompt": PROMPT, "max_tokens": 12, "ignore_eos": True}
    asked = {"X-Request-Id": "with-energy", "x-steppe-energy": "true"}
    whole = httpx.post(fleet.url + "/v1/completions", json=sent, headers=asked, timeout=SOON_S)
    energy = whole.json()["usage"]["energy"]
    assert (energy["source"], energy["boundary"]) == ("emulated", "gpu")
    joules = {"with-energy": energy["joules"]}
    assert float(whole.headers["x-steppe-energy-joules"]) == pytest.approx(energy["joules"], 1e-5)
    chunks: Any = list(
        fleet.client.completions.create(
            model=MODEL,
            prompt=PROMPT,
            max_tokens=12,
            stream=True,
            extra_headers={"X-Request-Id": "streamed-with-energy"},
            extra_body=FORCED | {"stream_options": {"include_energy": True}},
        )
    )
    usage = chunks[-1].usage
    assert usage.completion_tokens == 12
    joules["streamed-with-energy"] = usage.energy["joules"]
    for record in fleet.wait_for_requests(set(joules)):
        assert joules[record.id] == pytest.approx(record.energy_j, rel=0.05)
        wait_for_final(f"{fleet.url}/steppe/v1/requests/{record.id}", record.energy_j or 0.0)


def wait_for_final(url: str, energy_j: float) -> None:
    """Wait for the final energy of a request, which is that of its record."""

    def found() -> dict[str, Any]:
        energy: dict[str, Any] | None = httpx.get(url).json()["usage"]["energy"]
        return energy or {"final": False}

    wait_until(lambda: found()["final"], "the final energy")
    assert found()["joules"] == pytest.approx(energy_j, rel=1e-9)


def test_the_limits_of_the_power_change_while_the_fleet_serves(fleet: Serving) -> None:
    url, limit_w = fleet.url + "/steppe/v1/config/power", 0.9 * FULL_W
    limits = [{"kind": "constant", "watts": limit_w}]
    answer = httpx.patch(url, json={"limits": limits}, timeout=SOON_S)
    assert (answer.status_code, answer.json()["applied"]) == (200, True), answer.text
    fleet.wait_for_tick(lambda tick: tick.budget_w <= limit_w, "the lower budget")

    def shown_w() -> list[float]:
        status = httpx.get(fleet.url + "/steppe/v1/status").json()
        return [s["watts"] for s in status["sources"] if s["kind"] == "limit"]

    wait_until(lambda: shown_w() == [limit_w], "the limit in the status")
    assert httpx.patch(url, json={"limits": []}, timeout=SOON_S).status_code == 200
    fleet.wait_for_tick(lambda tick: tick.budget_w > limit_w, "the budget as before")
    bad = httpx.patch(url, json={"reserve": 1})
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_config")
    changes = (fleet.record / "config_changes.jsonl").read_text().splitlines()
    assert [json.loads(line)["by"] for line in changes] == ["localhost"] * 2


def test_the_official_client_gets_completions_whole_and_streamed(fleet: Serving) -> None:
    create: Any = fleet.client.completions.create
    sent: Any = {"model": MODEL, "prompt": PROMPT, "max_tokens": 9, "extra_body": FORCED}
    whole = create(**sent, temperature=0)
    assert (whole.usage.completion_tokens, whole.choices[0].finish_reason) == (9, "length")
    streamed = list(create(**sent, temperature=0, stream=True))
    assert "".join(c.choices[0].text for c in streamed) == whole.choices[0].text
    assert [c.usage for c in streamed] == [None] * len(streamed)


def test_a_client_that_hangs_up_frees_its_place_and_is_charged_for_what_ran(
    fleet: Serving,
) -> None:
    before = wait_for_counted_tokens(fleet)
    stream: Any = fleet.client.completions.create(
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
    fleet.wait_for_tick(lambda tick: tick.running == 1, "a running request in the record")
    stream.close()
    wait_until(lambda: not metric(fleet, "steppe_requests_outstanding"), "the place is free")
    (recorded,) = fleet.wait_for_requests({"hung-up"})
    free_s = recorded.arrival_s + (recorded.e2e_s or 0.0)
    tick = fleet.wait_for_tick(lambda tick: tick.t_s > free_s + 3, "ticks after the request")
    assert tick.running == 0
    wait_until(
        lambda: metric(fleet, "steppe_output_tokens_total") - before == recorded.output_tokens,
        "the metric shows the tokens of the record",
    )
    assert recorded.finish == "cancelled"
    assert 15 <= recorded.output_tokens < 900
    assert (recorded.energy_j or 0) > 0


def test_a_budget_of_zero_puts_the_fleet_to_sleep_and_loses_no_request(
    fleet: Serving, power_signal: PowerSignal, asleep_w: float
) -> None:
    with Load(fleet, 8) as load:
        load.wait_for(8)
        power_signal.set(0.0)
        fleet.wait_for_states("asleep", "asleep")
        dark_s = fleet.last_tick().t_s + 1.5  # GPUs cool down, windows end
        fleet.wait_for_tick(lambda tick: tick.t_s > dark_s + 6, "6 s in the dark")
        power_signal.set(FULL_W)
        load.wait_for(12)
    dark = [tick for tick in fleet.ticks() if dark_s <= tick.t_s <= dark_s + 6]
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


@pytest.mark.parametrize("victim", ["ray::Replica", ENGINE])
def test_a_process_that_is_killed_loses_no_stream_and_comes_back(
    fleet: Serving, victim: str
) -> None:
    with Load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for(12)
        before, continued = fleet.pids(victim), metric(fleet, CONTINUED)
        killed_s = fleet.last_tick().t_s
        os.kill(min(before), signal.SIGKILL)
        load.wait_for(12)
        missing = {"gone", "starting"}
        wait_until(lambda: fleet.states_since(killed_s) & missing, "a replica is missing")
        fleet.wait_for_another(victim, before)
        fleet.wait_for_states("awake", "awake")
        load.wait_for_replicas("replica-1", "replica-2")
    assert not load.failed, [a.error for a in load.failed]
    assert {a.usage for a in load.completed} == {load.output_tokens}
    assert metric(fleet, CONTINUED) > continued
    assert metric(fleet, "steppe_gateway_broken_streams_total") == 0
    continued_ids = {id_ for id_, request in fleet.requests().items() if request.continued}
    for recorded in fleet.wait_for_requests(continued_ids):
        assert recorded.output_tokens == load.output_tokens


def test_ctrl_c_ends_the_run_with_books_that_balance_and_leaves_nothing_behind(
    fleet: Serving, witness: EnergyWitness
) -> None:
    end_and_audit(fleet, witness)
