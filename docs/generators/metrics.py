"""The metrics reference, from an exposition in which every metric has a sample."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from generators.markdown import NOTICE, page, table
from steppe.agent.messages import AgentStatus, GpuLimits, LeaseStatus
from steppe.agent.metrics import AgentCounts, MetricsFile
from steppe.batch.service.metrics import BatchMetrics
from steppe.config.site_meter import SiteMeterSection
from steppe.control.affinity import Decisions
from steppe.control.state import Learned, Observation
from steppe.fleet.controller.exposition import Exposition
from steppe.fleet.messages import ReplicaReport
from steppe.gateway.ledger.link import Admitted
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.request import FinishedRequest
from steppe.gateway.sharing.exposition import exposition, of_all
from steppe.gateway.status import GatewayStatus, ModelStatus
from steppe.grid.limits.limit import Link
from steppe.grid.meters.part import SiteMeterPart
from steppe.grid.meters.site_meter import MeteredDraw, SiteMeter
from steppe.grid.service.metrics import GridMetrics
from steppe.grid.service.refusals import Refusals
from steppe.ledger.admission import AdmissionTerms
from steppe.ledger.booking import BookedRequest
from steppe.ledger.outbox.outbox import SentCounts
from steppe.ledger.receipts_of import Place, receipts_of
from steppe.ledger.service.metrics import LedgerMetrics
from steppe.ledger.settlement import Mismatch, Settlement
from steppe.ledger.store.books import BookingResult
from steppe.ledger.witnesses.asking import WitnessState
from steppe.power.battery import Charge
from steppe.report.records import GridTick, ReplicaTick, ShortageTick, TickRecord
from steppe.roofline.lengths import RequestLengths
from steppe.sites.beats.peers import Health
from steppe.sites.notes import Notes
from steppe.sites.peer import TryOutcome
from steppe.sites.quotas import QuotaLease
from steppe.sites.router_counts import RouterCounts
from steppe.sites.service.call_counts import CallCounts
from steppe.sites.service.door_connections import DoorConnections
from steppe.sites.service.metrics import Counts, SitesMetrics
from steppe.sites.settlement.compare import PeriodComparison
from steppe.sites.settlement.counts import SettlementCounts
from steppe.sites.state import PeerState, SitesState
from steppe.sites.view import SiteView

INTRODUCTION = """
The gateway answers Prometheus at `/metrics`, on the port of the API. Units are base units (watts,
joules, seconds, hertz) and counters end in `_total`. Energy carries the label `source`: `counter`,
`integrated`, `estimated` or `emulated` (see [energy](../energy.md)). Values of the fleet are those
of the last tick.
"""
QUERIES = (
    ("mean draw of the fleet", "sum(steppe_power_watts)"),
    ("its budget", "steppe_power_budget_watts"),
    (
        "output tokens per joule, last 5 minutes",
        "sum(rate(steppe_output_tokens_total[5m])) / sum(rate(steppe_energy_joules_total[5m]))",
    ),
    (
        "95th percentile of the time to the first token",
        "histogram_quantile(0.95, rate(steppe_time_to_first_token_seconds_bucket[5m]))",
    ),
    (
        "share of requests that miss the SLO, by TTFT and by TPOT",
        "rate(steppe_slo_missed_total[5m]) / rate(steppe_slo_judged_total[5m])",
    ),
    ("requests per second that clients send", "rate(steppe_requests_arrived_total[1m])"),
    (
        "prompt tokens of a request, last 5 minutes",
        "rate(steppe_prompt_tokens_arrived_total[5m]) / rate(steppe_requests_arrived_total[5m])",
    ),
    ("refusals per second, by reason", "rate(steppe_rejections_total[5m])"),
    ("joules of each tenant in the last hour", "increase(steppe_tenant_energy_joules_total[1h])"),
    ("links to the grid that are lost", "steppe_grid_link_lost == 1"),
    ("the budget is below what a sleeping fleet draws", "steppe_budget_feasible == 0"),
)


def metrics_page() -> str:
    """Return the page."""
    return page(
        NOTICE,
        "# Metrics",
        INTRODUCTION,
        "## Fleet",
        _rows(fleet_exposition()),
        "## Gateway",
        _rows(gateway_exposition()),
        "Of [several gateways](../gateways.md) each of them has a label `gateway`, too.",
        "## Batch",
        "With a section `batch` in the configuration; behind the gateway's own at `/metrics`.",
        _rows(batch_exposition()),
        "## Ledger",
        "With a section `ledger` in the configuration; of the process of the ledger.",
        _rows(ledger_exposition()),
        "## Grid",
        "With a section `grid` in the configuration; of the process of the grid service.",
        _rows(grid_exposition()),
        "## Sites",
        "With a section `sites` in the configuration. Of each gateway:",
        _rows(router_exposition()),
        "Of the process of the sites service:",
        _rows(sites_exposition()),
        "## Agent",
        "In the file that `steppe agent --metrics-file` names, for node_exporter.",
        _rows(agent_exposition()),
        "## Queries",
        table(("question", "query"), [(question, f"`{query}`") for question, query in QUERIES]),
    )


def agent_exposition() -> str:
    """Return what an agent writes while a client holds a GPU and limits it."""
    gpu = GpuLimits("GPU-1", 900, 900, 300.0, True, None, "run 1", 1)
    status = AgentStatus((LeaseStatus("run 1", 1, 2.0),), "restore", (gpu,))
    return MetricsFile(Path("agent.prom"), AgentCounts()).text(status).decode()


def batch_exposition() -> str:
    """Return what the batch service publishes after a job."""
    metrics = BatchMetrics()
    metrics.count_job("completed")
    return metrics.exposition({}, ()).decode()


def ledger_exposition() -> str:
    """Return what the ledger service publishes after a booking with one receipt."""
    metrics = LedgerMetrics()
    metrics.count_admissions([AdmissionTerms("flat-1/0", "CNY", 1, 1)])
    request = BookedRequest("1", "1", "a", "m", "standard", 1, 0, 1, 1, "counter", 0, 1, "stop")
    receipts = receipts_of([request], Place("steppe", "gpu", 0, 0), {})
    metrics.count_booking(BookingResult(1, receipts))
    metrics.note_outside({"grid.example/w1": WitnessState()}, SentCounts())
    return metrics.exposition(1, 1).decode()


def grid_exposition() -> str:
    """Return what the grid service publishes while it has a meter of the site."""
    settings = {"url": "http://prometheus:9090", "query": "site_power_watts"}
    signal = "steppe.grid.meters.prometheus:PrometheusMeter"
    meter = SiteMeterPart(SiteMeter(SiteMeterSection(signal=signal, settings=settings)))
    meter.latest = MeteredDraw(1000.0, 1.0, 990.0)
    metrics = GridMetrics((Link("http", 0.0, 1.0),), Refusals(lambda: 0.0), (meter,), lambda: False)
    return metrics.exposition().decode()


def router_exposition() -> str:
    """Return what a gateway publishes after a request at another site."""
    counts = RouterCounts()
    counts.choose("shanghai", "green")
    counts.end("shanghai", TryOutcome(200, 10, 20, 0.0, 1.0, "served"))
    site = frozenset({"shanghai"})
    found = counts.metrics(sites=site, usable=site, resting=site, age_s=1.0, moved=1, notes=Notes())
    return exposition(found).decode()


def sites_exposition() -> str:
    """Return what the sites service publishes while it has a lease and a call of another site."""
    lease = QuotaLease("shanghai", "llama", "interactive", 100.0, 10.0, 0.0, 60.0)
    peer = PeerState("shanghai", "https://10.0.0.2:8443", "cn", Health.LIVE, 0.02)
    here = SiteView("hohhot", 1, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, (), (), (), "CNY", "cn", frozenset())
    state = SitesState("hohhot", "0" * 16, 1, 1.0, here, (peer,), (lease,))
    counts = Counts(
        1, 0, {"shanghai": 0}, 1, 1, 0, 0.1, 86_400.0, is_away=False, ages_s={"shanghai": 0.5}
    )
    calls = CallCounts()
    calls.begin("shanghai")
    calls.end("shanghai", "answered")
    connections = DoorConnections()
    connections.guard.on_cut_off("handshake")
    parts = [calls.metrics, connections.metrics, lambda: settlement_counts().metrics(())]
    return SitesMetrics(lambda: state, lambda: counts, parts).exposition().decode()


def settlement_counts() -> SettlementCounts:
    """Return the counts of settlements after a period with a mismatch."""
    settlement = Settlement("hohhot", "shanghai", 1, 3600, "shanghai", 0, 1)
    mismatch = Mismatch("missing_there", "r1.0", "", "asked for a receipt, found none")
    counts = SettlementCounts(["shanghai"])
    counts.note("shanghai", PeriodComparison(settlement, True, (), (), (mismatch,), ()))
    return counts


def fleet_exposition() -> str:
    """Return what the controller publishes after a tick that has everything."""
    replica = ReplicaTick("r0", "awake", 1980, 8, 300.0, 100.0)
    shortage = ShortageTick("demand", 10.0, 0.0, 60.0)
    tick = TickRecord(
        t_s=1.0,
        budget_w=300.0,
        draw_w=300.0,
        supply_w=400.0,
        demand_tps=100.0,
        output_tps=100.0,
        energy_j=300.0,
        output_tokens=100,
        waiting=1,
        running=8,
        shortages=(shortage,),
        battery=Charge(0.5, 10.0),
        grid=GridTick("http/e1", 70.0, "http/e1", 70.0, 100.0, 30.0, complies=True),
        took_s=0.02,
        replicas=(replica,),
    )
    report = ReplicaReport(
        replica="r0",
        clock_mhz=1980,
        batch_limit=8,
        draw_w=300.0,
        energy_j=300.0,
        error_j=1.0,
        quality="counter",
        running=8,
        output_tokens=100,
        requests_uj={},
        tokens={},
        idle_uj=0,
        transition_uj=0,
    )
    observation = Observation(
        now_s=1.0,
        gpu_budget_w=300.0,
        draw_w=300.0,
        demand_tps=100.0,
        waiting=1,
        replicas=(),
        lengths=RequestLengths(900.0, 200.0, 100.0),
    )
    exposition = Exposition("counter", models={"replica-1": "llama"})
    exposition.set_links({"http": False})
    return exposition.update(tick, [report], observation, Learned(), {"r0": 330.0}).decode()


def gateway_exposition() -> str:
    """Return what the gateway publishes after one request and one refusal."""
    metrics = GatewayMetrics()
    metrics.deny("default", "rate_limit_exceeded")
    metrics.add_energy("default", 1.0)
    metrics.count_client_error("bad_request")
    metrics.cut_off("headers")
    metrics.watch(lambda: 1, lambda: 1)
    ledger = metrics.add_ledger()
    ledger.note(Admitted("flat-1/0", "CNY", 1, 1), 0.001)
    ledger.wait()
    metrics.count(
        FinishedRequest(
            id="1",
            engine_id="1",
            tenant="default",
            priority="standard",
            arrival_s=0.0,
            arrival_epoch_s=0.0,
            ttft_s=0.1,
            e2e_s=1.0,
            prompt_tokens=10,
            cached_tokens=0,
            output_tokens=10,
            finish="stop",
            status=200,
            replica="r0",
            streamed=True,
            model="llama",
        )
    )
    metrics.reject("queue_full")
    status = GatewayStatus.of({"llama": ModelStatus()}, {"r0": 1})
    own = metrics.exposition(ready=True, status=status, placements={"model": Decisions()})
    return (own + of_all({"0": ()})).decode()


def _rows(exposition: str) -> str:
    families: Iterable[Metric] = text_string_to_metric_families(exposition)
    rows = []
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        rows.append(
            (
                f"`{family.name}{suffix}`",
                family.type,
                ", ".join(f"`{label}`" for label in labels) or "–",
                family.documentation,
            )
        )
    return table(("metric", "type", "labels", "meaning"), rows)
