"""The report of an event as one HTML page that needs nothing else: for a screen, a phone, paper."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from steppe.grid.verify.delivery import Direction, Row
from steppe.grid.verify.figure import STYLE as FIGURE_STYLE
from steppe.grid.verify.figure import figure_html, time_text
from steppe.grid.verify.report import EventReport
from steppe.ledger.statements.amounts import NANO_DIGITS, decimal_text, grouped_text
from steppe.ledger.statements.escaping import escaped
from steppe.ledger.statements.page_style import STYLE
from steppe.ledger.tariff import divided

MOST_ROWS = 100
"""More intervals than these are shown as means of several."""
_NAMES = ("From", "Baseline, W", "Drawn, W", "Promised, W", "Delivered, W", "Missing, W")
_J_PER_WH = 3600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Tile = tuple[str, str, str]


def page_html(report: EventReport) -> str:
    """Return the page of an event."""
    title = f"Event {report.asked.id} at {report.asked.site}"
    tiles = (*_delivery_tiles(report), *_score_tiles(report))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none';style-src 'unsafe-inline'\">"
        f"<title>{escaped(title)}</title><style>{STYLE}{FIGURE_STYLE}</style></head><body>"
        f"<h1>{escaped(title)}</h1>{_said(report)}{_tiles(tiles)}{figure_html(report)}"
        f"<h2>Intervals of the event {_tag(report)}</h2>{_table(report)}{_proof(report)}"
        "</body></html>\n"
    )


def _said(report: EventReport) -> str:
    asked, times, offset_s = report.asked, report.times, report.utc_offset_s
    notice_s = times.start_s - times.foreseeable_s
    notice = f"could be foreseen {_duration(notice_s)} before" if notice_s else "without notice"
    said = (
        f"{asked.program}, {asked.kind}, from {asked.source}. The grid asked for "
        f"{report.direction} from {_day_time(times.start_s, offset_s)} for "
        f"{_duration(times.end_s - times.start_s)}; {notice}."
    )
    if report.beside:
        said += f" At the same time: {', '.join(report.beside)}; the draw is that of all of them."
    return f'<p class="muted">{escaped(said)}</p>'


def _delivery_tiles(report: EventReport) -> Sequence[Tile]:
    sums, tag = report.sums, _tag(report)
    gaps = f"; {_count(sums.unmetered, 'interval')} without a reading" if sums.unmetered else ""
    over = "" if sums.over_ppm is None else f"; {_percent(sums.over_ppm)} above the promise"
    ratio = "nothing was promised" if sums.ratio_ppm is None else f"{_percent(sums.ratio_ppm)}"
    tiles = [
        (
            "Delivered",
            f"{_energy(sums.delivered_j)}",
            f"{tag} of {_energy(sums.committed_j)} promised{over}{gaps}",
        ),
        (
            "Performance ratio",
            ratio,
            f"{tag} missing in some interval: {_energy(sums.deficiency_j)}",
        ),
        _baseline_tile(report),
        _rebound_tile(report),
    ]
    if settled := report.settlement:
        currency = escaped(settled.currency)
        price, penalty, net = (
            _trimmed(grouped_text(each, NANO_DIGITS))
            for each in (settled.price_nano, settled.penalty_nano, settled.net_nano)
        )
        tiles.append(("Net", f"{net} {currency}", f"price {price}, penalty {penalty}"))
    return tiles


def _tag(report: EventReport) -> str:
    """Return where watts and joules are from, to stand beside them."""
    return f'<span class="tag">{escaped(report.energy_source)}</span>'


def _baseline_tile(report: EventReport) -> Tile:
    name, error, bias_j = report.baseline.name, report.error, report.bias_j
    fallen = ""
    if report.baseline.in_place_of:
        fallen = f"; in place of {escaped(report.baseline.in_place_of)}"
    if error is None or bias_j is None:
        unknown = f"its error on days without an event is not known{fallen}"
        return ("Baseline", escaped(name), unknown)
    height = "high" if error.bias_ppm > 0 else "low"
    claims = "too much" if bias_j > 0 else "too little"
    on_days = f"{_tag(report)} on {_count(error.days, 'placebo day')}"
    said = (
        f"{on_days}: {_percent(abs(error.bias_ppm))} too {height} "
        f"(claims {_energy(abs(bias_j))} {claims}), CVRMSE {_percent(error.cvrmse_ppm)}"
    )
    if not error.bias_ppm:
        said = f"{on_days}: no bias, CVRMSE {_percent(error.cvrmse_ppm)}"
    return ("Baseline", escaped(name), said + fallen)


def _rebound_tile(report: EventReport) -> Tile:
    back = report.rebound
    beyond = "above" if report.direction is Direction.LESS else "below"
    gaps = f"; {_count(back.unmetered, 'interval')} without a reading" if back.unmetered else ""
    if not back.span_s:
        return ("Rebound", "-", "the time after the event is not in the report")
    peak = f"{_percent(back.peak_ppm)}" if back.peak_w else "none"
    said = (
        f"{_tag(report)} most {beyond} the baseline in {_duration(back.span_s)} after: "
        f"{back.peak_w:,} W; snapback {_energy(back.snapback_j)}{gaps}"
    )
    return ("Rebound", peak, said)


def _score_tiles(report: EventReport) -> Sequence[Tile]:
    tiles = []
    if (found := report.following) is not None:
        settled = "not in the band at the end"
        if found.settled_s is not None:
            settled = f"in the band after {_duration(found.settled_s)}"
        tiles.append(
            (
                "Following the target",
                f"RMSE {found.rmse_w:,} W",
                f"{_tag(report)} {_percent(found.nrmse_ppm)} of it; {settled}; at most "
                f"{_percent(found.peak_ppm)} above it; {_energy(found.overshoot_j)} above it; "
                f"{_count(found.warnings, 'warning')}, "
                f"{_count(found.criticals, 'critical breach')}",
            )
        )
    if (score := report.regulation) is not None:
        tiles.append(
            (
                "Regulation score",
                decimal_text(divided(score.score_ppm, 1000), 3),
                f"correlation {_thousandths(score.correlation_ppm)}, delay "
                f"{_thousandths(score.delay_ppm)}, precision {_thousandths(score.precision_ppm)}; "
                f"{_count(score.windows, 'window')} of 5 min",
            )
        )
    return tiles


def _tiles(tiles: Sequence[Tile]) -> str:
    inner = "".join(
        f'<div class="tile"><span class="name">{name}</span><b>{value}</b><small>{more}</small>'
        "</div>"
        for name, value, more in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _table(report: EventReport) -> str:
    each = -(-len(report.rows) // MOST_ROWS)
    groups = [report.rows[n : n + each] for n in range(0, len(report.rows), each)]
    head = "".join(f'<th scope="col">{name}</th>' for name in _NAMES)
    rows = "".join(_row(group, report) for group in groups)
    note = ""
    if each > 1:
        note = f'<p class="muted">Each row is the mean of {each} intervals; the entry has all.</p>'
    return f"{note}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(group: Sequence[Row], report: EventReport) -> str:
    drawn = [row.load_w for row in group if row.load_w is not None]
    cells = (
        f"{_mean([row.baseline_w for row in group]):,}",
        f"{_mean(drawn):,}" if drawn else "no reading",
        f"{_mean([row.committed_w for row in group]):,}",
        f"{_mean([row.delivered_w for row in group]):,}",
        f"{_mean([row.deficiency_w for row in group]):,}",
    )
    named = "".join(
        f'<td data-name="{name}">{cell}</td>' for name, cell in zip(_NAMES[1:], cells, strict=True)
    )
    with_seconds = bool(report.interval_s % 60)
    begin = time_text(group[0].start_s, report.utc_offset_s, with_seconds=with_seconds)
    return f"<tr><td>{begin}</td>{named}</tr>"


def _proof(report: EventReport) -> str:
    made = report.baseline
    days = f" Its days: {', '.join(made.days)}; factor {decimal_text(made.factor_ppm, 6)}."
    fallen = f" In place of {made.in_place_of}." if made.in_place_of else ""
    said = (
        f"SHA-256 of the inputs of the baseline, which were fixed when the event could be "
        f"foreseen: {made.sha256}.{days if made.days else ''}{fallen} "
        f"SHA-256 of the metered load: {report.load_sha256}.{_meter(report)}"
    )
    return f'<p class="muted">{escaped(said)}</p>'


def _meter(report: EventReport) -> str:
    """Return how much of the draw was not read at the meter of the site; empty without one."""
    if report.computed_s is None:
        return ""
    said = f" Draw not read at the meter of the site but computed: {_duration(report.computed_s)}"
    if report.baseline_computed_s is None:
        return f"{said} of the event."
    of_inputs = f"{_duration(report.baseline_computed_s)} of the inputs of the baseline"
    return f"{said} of the event, {of_inputs}."


def _energy(energy_j: int) -> str:
    """Return an energy in J, Wh or kWh, to three decimal digits."""
    if abs(energy_j) < 100 * _J_PER_WH:
        return f"{energy_j:,} J"
    watt_hours = divided(energy_j, _J_PER_WH)
    if abs(watt_hours) < 10_000:
        return f"{watt_hours:,} Wh"
    return f"{grouped_text(watt_hours, 3)} kWh"


def _percent(ppm: int) -> str:
    return f"{decimal_text(divided(ppm, 1000), 1)} %"


def _thousandths(ppm: int) -> str:
    return decimal_text(divided(ppm, 1000), 3)


def _duration(time_s: int) -> str:
    """Return a time in the largest units that it has: `3 h`, `1 h 30 min`, `40 s`."""
    hours, rest_s = divmod(time_s, 3600)
    minutes, seconds = divmod(rest_s, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def _day_time(time_s: int, utc_offset_s: int) -> str:
    return f"{_EPOCH + timedelta(seconds=time_s + utc_offset_s):%Y-%m-%d %H:%M:%S}"


def _count(count: int, what: str) -> str:
    plural = "es" if what.endswith("ch") else "s"
    return f"1 {what}" if count == 1 else f"{count:,} {what}{plural}"


def _mean(values: Sequence[int]) -> int:
    return divided(sum(values), len(values))


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".")
