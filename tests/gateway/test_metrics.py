"""The Prometheus endpoints."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.gateway.site import Site

from steppe.gateway.replica_metrics import merge

ENGINE = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} %d.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{model_name="m"} 7.0
# HELP vllm:prompt_tokens_created Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{model_name="m"} 1.7e+09
# HELP vllm:e2e_request_latency_seconds Histogram.
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 3.0
vllm:e2e_request_latency_seconds_count 3.0
vllm:e2e_request_latency_seconds_sum 4.5
"""


async def test_metrics_are_those_of_the_gateway_and_the_controller(site: Site) -> None:
    await site.awake_replica()
    await site.post()
    site.gateway.set_metrics(b"steppe_power_budget_watts 50.0\n")
    text = (await site.get("/metrics"))[2].decode()
    assert 'steppe_requests_total{finish="length",model="m"} 1.0\n' in text
    assert 'steppe_prompt_tokens_total{model="m"} 11.0\n' in text
    assert text.endswith("\nsteppe_power_budget_watts 50.0\n")
    assert "_created" not in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (build,) = families["steppe_build_info"].samples
    assert (build.value, set(build.labels)) == (1.0, {"version", "python", "vllm", "ray", "torch"})


async def test_the_metrics_of_engines_have_the_label_replica(site: Site) -> None:
    replicas = [await site.replica(f"r{number}") for number in range(3)]
    for running, replica in enumerate(replicas):
        replica.body = ENGINE % running
    replicas[2].status = 404  # an engine without metrics
    site.route(*replicas)
    status, headers, body = await site.get("/metrics/replicas")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    families = {f.name: f for f in text_string_to_metric_families(body.decode())}
    running_of = {
        s.labels["replica"]: s.value for s in families["vllm:num_requests_running"].samples
    }
    assert running_of == {"r0": 0.0, "r1": 1.0}
    assert families["vllm:prompt_tokens"].type == "counter"
    assert len(families["vllm:e2e_request_latency_seconds"].samples) == 2 * 3
    assert b"_created" not in body
    assert body.count(b"# TYPE vllm:num_requests_running gauge\n") == 1


async def test_a_replica_that_does_not_return_its_metrics_in_time_is_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steppe.gateway.replica_metrics.SCRAPE_TIMEOUT_S", 0.05)
    awake, frozen = await site.replica("r0"), await site.replica("r1", answers=False)
    awake.body = frozen.body = ENGINE % 1
    site.route(awake, frozen)
    body = (await site.get("/metrics/replicas"))[2]
    assert b'replica="r0"' in body
    assert b'replica="r1"' not in body


def test_samples_without_type_lines_and_with_braces_in_labels_are_merged() -> None:
    text = 'plain 1\nbraced{path="/a}b {c"} 2 1700000000\n'
    assert merge({"r0": text, "r1": "plain 3\n"}) == (
        'plain{replica="r0"} 1\n'
        'plain{replica="r1"} 3\n'
        'braced{replica="r0",path="/a}b {c"} 2 1700000000\n'
    )
    assert merge({}) == ""
