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
    panels = [*_now(), *_tenants(), *_batch()]
    return dashboard("steppe-tenants", "Steppe: tenants", text, panels)


def _now() -> list[Json]:
    requests = Target(f"sum({rate('steppe_tenant_requests_total')})", "requests")
    tokens = Target(f"sum({rate('steppe_tenant_tokens_total', OUTPUT)})", "output")
    denied = Target(f"sum({rate('steppe_tenant_denied_total')}) or vector(0)", "denied")
    behind = Target(site("steppe_batch_jobs_behind"), "behind")
    joules = of_energy(
        f"sum({rate('steppe_tenant_energy_joules_total')})"
        f" / sum({rate('steppe_tenant_tokens_total', OUTPUT)})",
        "joules per token",
    )
    return [
        sources(),
        number("Requests per second", "Of all tenants.", "reqps", requests),
        number("Output tokens per second", "", "short", tokens),
        number("Joules per output token", "", "joule", *joules),
        number("Denied per second", "401, 402, 403, 429", "reqps", denied),
        number("Jobs behind their deadline", "", "none", behind, bad_above=1),
    ]


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
    rows = Target(f"sum by (state) ({rate('steppe_batch_rows_total')})", "{{state}}")
    ended = Target(f"sum by (state) ({rise('steppe_batch_jobs_ended_total')})", "{{state}}")
    waiting = Target(site("steppe_batch_rows_waiting"), "waiting")
    running = Target(site("steppe_batch_rows_running"), "running")
    return [
        row("Batch jobs"),
        lines("Open jobs", "", "none", jobs, stacked=True),
        lines("Rows", "", "none", waiting, running),
        lines("Rows that end per second", "", "short", rows),
        bars("Jobs that ended", "In the time shown.", "none", ended),
    ]
