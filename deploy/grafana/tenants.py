"""The dashboard of tenants: requests, tokens and joules of each, and batch jobs."""

from __future__ import annotations

from deploy.grafana.panels import (
    Json,
    Target,
    bars,
    dashboard,
    lines,
    number,
    of_energy,
    rate,
    rise,
    row,
    site,
    sources,
)

OUTPUT = 'kind="output"'
JOULES = of_energy(f"sum by (tenant) ({rise('steppe_tenant_energy_joules_total')})", "{{tenant}}")
WATTS = of_energy(f"sum by (tenant) ({rate('steppe_tenant_energy_joules_total')})", "{{tenant}}")
PER_TOKEN = of_energy(
    f"sum by (tenant) ({rate('steppe_tenant_energy_joules_total')})"
    f" / sum by (tenant) ({rate('steppe_tenant_tokens_total', OUTPUT)})",
    "{{tenant}}",
)


def board() -> Json:
    """Return the dashboard."""
    text = "What does each tenant ask for, get, and take in joules?"
    panels = [sources(), *_tenants(), *_batch()]
    return dashboard("steppe-tenants", "Steppe: tenants", text, panels)


def _tenants() -> list[Json]:
    requests = f"sum by (tenant, finish) ({rate('steppe_tenant_requests_total')})"
    tokens = f"sum by (tenant, kind) ({rate('steppe_tenant_tokens_total')})"
    denied = f"sum by (tenant, code) ({rate('steppe_tenant_denied_total')})"
    used = f"sum by (tenant) ({rise('steppe_tenant_tokens_total', OUTPUT)})"
    aliases = f"sum by (alias, model) ({rate('steppe_alias_requests_total')})"
    scarce = Target(f"sum({rate('steppe_gateway_ledger_scarce_total')})", "little or unknown")
    answers = f"sum by (answer) ({rate('steppe_gateway_ledger_answers_total')})"
    return [
        row("Tenants"),
        bars("Energy", "Of closed books, in the time shown.", "joule", *JOULES),
        bars("Output tokens", "In the time shown.", "short", Target(used, "{{tenant}}")),
        lines("Power of the requests", "", "watt", *WATTS),
        lines("Joules per output token", "", "joule", *PER_TOKEN),
        lines("Requests per second", "", "reqps", Target(requests, "{{tenant}} {{finish}}")),
        lines("Tokens per second", "", "short", Target(tokens, "{{tenant}} {{kind}}")),
        lines(
            "Denied per second",
            "401, 402, 403, 429",
            "reqps",
            Target(denied, "{{tenant}} {{code}}"),
        ),
        lines("Requests for an alias", "", "reqps", Target(aliases, "{{alias}} at {{model}}")),
        lines("Answers of the ledger", "", "reqps", Target(answers, "{{answer}}")),
        lines("Requests that wait for the ledger", "", "reqps", scarce),
    ]


def _batch() -> list[Json]:
    jobs = Target(site("steppe_batch_jobs"), "{{state}}")
    behind = Target(site("steppe_batch_jobs_behind"), "behind")
    rows = Target(f"sum by (state) ({rate('steppe_batch_rows_total')})", "{{state}}")
    ended = Target(f"sum by (state) ({rise('steppe_batch_jobs_ended_total')})", "{{state}}")
    waiting = Target(site("steppe_batch_rows_waiting"), "waiting")
    running = Target(site("steppe_batch_rows_running"), "running")
    return [
        row("Batch jobs"),
        number("Jobs behind their deadline", "", "none", behind, bad_above=1),
        lines("Open jobs", "", "none", jobs, width=10, stacked=True),
        lines("Rows", "", "none", waiting, running, width=10),
        lines("Rows that end per second", "", "short", rows),
        bars("Jobs that ended", "In the time shown.", "none", ended),
    ]
