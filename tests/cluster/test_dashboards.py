"""Every query of every dashboard and alert, on a Prometheus that scrapes a run."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.fixtures.running_sites import RunningSite, Sites, open_sites
from tests.fixtures.serving import FULL_W, MODEL, SOON_S, Load, Serving, free_port, wait_until

pytest.importorskip("promql_parser", reason="pip install promql-parser (extra `deploy`)")

from deploy.check.observability import RULES
from deploy.check.on_prometheus import Asked, ask_alerts, ask_panels, unanswered
from deploy.check.prometheus_server import Prometheus, scraping
from deploy.grafana.make import dashboards
from deploy.grafana.panels import Json, Target, dashboard, lines

from steppe.agent.messages import AgentStatus, GpuLimits, LeaseStatus
from steppe.agent.metrics import AgentCounts, MetricsFile
from steppe.sites.check import tls_of
from steppe.tenants.key import NewKey, make_key

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("prometheus-node-exporter")),
        reason="apt-get install prometheus prometheus-node-exporter",
    ),
]

PERIOD_S = 1.0
LIMIT_W = 120.0
TARIFF = (
    "id: flat\ncurrency: CNY\nvalid_from_us: 0\nrates:\n- {prompt_nano: 100, output_nano: 400}\n"
)
RULES_FILE = yaml.safe_load((RULES / "rules.yml").read_text())


@contextmanager
def node_exporter(folder: Path) -> Iterator[str]:
    """Run node_exporter over the file of an agent that holds a GPU; yield its address."""
    gpu = GpuLimits("GPU-1", 900, 900, 300.0, True, None, "run 1", 1)
    status = AgentStatus((LeaseStatus("run 1", 1, 2.0),), "restore", (gpu,))
    MetricsFile(folder / "agent.prom", AgentCounts()).write_if_due(status, 0.0)
    address = f"127.0.0.1:{free_port()}"
    options = (
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={folder}",
        f"--web.listen-address={address}",
    )
    with (folder / "exporter.log").open("wb") as log:
        process = subprocess.Popen(["prometheus-node-exporter", *options], stdout=log, stderr=log)
    try:
        yield f"http://{address}/metrics"
    finally:
        process.terminate()
        process.wait(SOON_S)


def tenants(*keys: NewKey) -> dict[str, Any]:
    """Return a section of one tenant that may do all, and of one that may ask once a minute."""
    whole, little = ([{"prefix": key.stored.prefix, "sha256": key.stored.digest}] for key in keys)
    return {
        "list": [
            {"name": "lab", "admin": True, "keys": whole},
            {"name": "guest", "requests_per_minute": 1, "keys": little},
        ]
    }


def sections(sites: Sites, folder: Path, meter_url: str, *keys: NewKey) -> dict[str, Any]:
    """Return a configuration with all that dashboards show."""
    (folder / "tariff.yaml").write_text(TARIFF)
    section = sites.section("hohhot", period_s=PERIOD_S)
    meter = {"url": meter_url, "query": "sum(steppe_power_watts)", "period_s": 1.0}
    signal = "steppe.grid.meters.prometheus:PrometheusMeter"
    return {
        "tenants": tenants(*keys),
        "gateway": {"port": free_port(), "open_metrics": True},
        "ledger": {"tariffs": [str(folder / "tariff.yaml")], "site": "hohhot"},
        "batch": {"folder": str(folder / "batch")},
        "grid": {"site": "hohhot", "site_meter": {"signal": signal, "settings": meter}},
        "sites": section.model_dump(mode="json", exclude={"folder"}),
        "power": {
            "supply": [{"kind": "constant", "watts": FULL_W}],
            "battery": {"capacity_wh": 100.0, "max_charge_w": 20.0, "max_discharge_w": 20.0},
        },
    }


def use(fleet: Serving, guest: NewKey) -> None:
    """Do what makes samples: requests, a refusal, a batch job, a limit and an event of the grid."""
    guests = {"Authorization": f"Bearer {guest.text}"}
    body = {"model": MODEL, "prompt": "The wind", "max_tokens": 4}
    for _ in range(2):
        httpx.post(f"{fleet.url}/v1/completions", json=body, headers=guests, timeout=SOON_S)
    row = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": body}
    with fleet.client as client:
        file = client.files.create(file=("in.jsonl", json.dumps(row).encode()), purpose="batch")
        client.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="1h"
        )
    whole = {"Authorization": f"Bearer {fleet.key}"}
    for path, told in (
        ("budget", {"limit_w": LIMIT_W}),
        ("grid/events/calm", {"limit_w": LIMIT_W, "hold_s": 600.0, "notice_s": 1.0}),
    ):
        answer = httpx.put(
            f"{fleet.url}/steppe/v1/{path}", json=told, headers=whole, timeout=SOON_S
        )
        assert answer.is_success, answer.text


def planted() -> Json:
    """Return a dashboard that asks for a metric which does not exist."""
    wrong = lines("Budget", "", "watt", Target("steppe_power_budget_wats", "budget"), width=24)
    return dashboard("planted", "Planted", "", [wrong])


def places(asked: list[Asked]) -> list[str]:
    return [f"{each.place}: {each.query} {each.problem}" for each in asked]


def watch(prometheus: Prometheus) -> None:
    """Check all queries, once the run has fed them."""

    def asked() -> list[Asked]:
        panels = ask_panels(prometheus, dashboards())
        return [*panels, *ask_alerts(prometheus, RULES_FILE)]

    def have_series() -> bool:
        missing = places(unanswered(asked()))
        shown.append(missing)
        return not missing

    shown: list[list[str]] = []
    try:
        wait_until(have_series, "all queries have series", every_s=0.5)
    except AssertionError as late:
        raise AssertionError(f"no series, and no reason for it: {shown[-1]}") from late
    found = asked()
    assert places([each for each in found if each.problem or each.doubled]) == []
    assert {rule["health"] for rule in prometheus.rules()} == {"ok"}
    # The sites service reads the status of a gateway that has keys.
    shown_of_itself = 'steppe_sites_surplus_watts{site="hohhot"}'
    wait_until(lambda: prometheus.series(shown_of_itself), "the surplus of this site")
    (wrong,) = unanswered(ask_panels(prometheus, {"planted.json": planted()}))
    assert wrong.query == "steppe_power_budget_wats"


def call_without_token(sites: Sites, caller: RunningSite) -> None:
    """Call the run as another site that has signed no token: it is refused."""
    tls = tls_of(caller.section, time.time()).client
    url = f"https://127.0.0.1:{sites.ports['hohhot']}/v1/completions"
    body = {"model": MODEL, "prompt": "The wind", "max_tokens": 4}
    with httpx.Client(verify=tls, timeout=SOON_S) as client:
        answer = client.post(url, json=body, extensions={"sni_hostname": "hohhot"})
    assert answer.is_client_error, answer.text


async def test_every_query_has_series_on_a_run_that_serves(
    serve: Callable[..., Serving], synthetic: dict[str, Any], tmp_path: Path
) -> None:
    lab, guest = (make_key(name, time.time()) for name in ("lab", "guest"))
    port = free_port()
    async with open_sites(tmp_path, "hohhot", "shanghai") as sites:
        meter_url = f"http://127.0.0.1:{port}"
        fleet = serve(**sections(sites, tmp_path, meter_url, lab, guest), **synthetic)
        fleet.key = lab.text
        shanghai = await sites.start("shanghai", period_s=PERIOD_S)

        def check() -> None:  # in a thread: the service of the other site runs on this loop
            fleet.wait_for_words("running")
            with node_exporter(tmp_path) as agents, Load(fleet, 4) as load:
                load.wait_for(4)
                use(fleet, guest)
                call_without_token(sites, shanghai)
                targets = {
                    "steppe": f"{fleet.url}/metrics",
                    "steppe-replicas": f"{fleet.url}/metrics/replicas",
                    "node": agents,
                }
                with scraping(targets, tmp_path, port) as prometheus:
                    watch(prometheus)

        await asyncio.to_thread(check)
        assert fleet.end() == 0
