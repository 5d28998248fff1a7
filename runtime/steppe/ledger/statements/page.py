"""A statement as one HTML page that needs nothing else: for a screen, a phone, and paper."""

from __future__ import annotations

from collections.abc import Sequence

from steppe.ledger.statements.amounts import (
    MICRO_DIGITS,
    NANO_DIGITS,
    decimal_text,
    grouped_text,
    minor_digits,
)
from steppe.ledger.statements.elsewhere import Elsewhere
from steppe.ledger.statements.escaping import escaped
from steppe.ledger.statements.figures import figure_html, figures_of
from steppe.ledger.statements.month import Month
from steppe.ledger.statements.page_style import STYLE
from steppe.ledger.statements.statement import Line, ReceiptSums, Statement
from steppe.ledger.tariff import divided

_UJ_PER_MILLIWATT_HOUR = 3_600_000
"""10^-6 kWh are as many uJ."""
_LINE_NAMES = ("For", "Prompt", "Cached", "Output", "Joules", "Green", "Exact", "Amount")
_SITE_NAMES = ("Site", "Receipts", "Prompt", "Output", "Joules")
_DAY_NAMES = ("Day", "Requests", "Tokens", "Joules", "Green", "Exact")


def page_html(
    statement: Statement, issuer: str, open_hours: int = 0, elsewhere: Sequence[Elsewhere] = ()
) -> str:
    """Return the page of a statement.

    Args:
        statement: The statement.
        issuer: Name of the operator that bills it.
        open_hours: Number of its hours that are not closed: they have no shares yet.
        elsewhere: What other sites used for the tenant.
    """
    title = f"Statement {statement.month.text} of {statement.tenant}"
    figures = "".join(figure_html(one, statement.month) for one in figures_of(statement))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none';style-src 'unsafe-inline'\">"
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escaped(title)}</h1>{_period(statement, issuer, open_hours)}{_tiles(statement)}"
        f"<h2>Lines</h2>{_lines(statement)}{_elsewhere(elsewhere)}"
        f"{figures}{_days(statement)}{_proof(statement)}"
        "</body></html>\n"
    )


def _period(statement: Statement, issuer: str, open_hours: int) -> str:
    offset = statement.month.utc_offset_hours
    zone = f"UTC{offset:+}" if offset else "UTC"
    said = f"{issuer}. Days and hours are of {zone}. {statement.sums.receipts:,} receipts."
    if open_hours:
        count = "1 hour is" if open_hours == 1 else f"{open_hours:,} hours are"
        said += f" {count} not closed yet: without shares of idle and green energy."
    return f'<p class="muted">{escaped(said)}</p>'


def _tiles(statement: Statement) -> str:
    sums, tag = statement.sums, _tags(statement.energy_sources)
    digits, exact = minor_digits(statement.currency), grouped_text(sums.amount_nano, NANO_DIGITS)
    currency = escaped(statement.currency)
    kwh = grouped_text(divided(sums.energy_uj, _UJ_PER_MILLIWATT_HOUR), MICRO_DIGITS)
    green = grouped_text(sums.green_uj, MICRO_DIGITS)
    idle = grouped_text(sums.idle_uj, MICRO_DIGITS)
    tiles = (
        (
            "Total",
            f"{grouped_text(statement.total_minor, digits)} {currency}",
            f"exact: {exact}",
        ),
        (
            "Tokens",
            grouped_text(sums.tokens, 0),
            f"prompt {sums.prompt_tokens:,}, of it cached {sums.cached_tokens:,}; "
            f"output {sums.output_tokens:,}",
        ),
        (
            "Energy",
            f"{grouped_text(sums.energy_uj, MICRO_DIGITS)} J",
            f"{tag} {kwh} kWh; share of idle {idle} J",
        ),
        ("Green", _percent_text(sums), f"{tag} {green} J"),
    )
    return "".join(
        (
            '<div class="tiles">',
            *(
                f'<div class="tile"><span class="name">{name}</span><b>{value}</b>'
                f"<small>{more}</small></div>"
                for name, value, more in tiles
            ),
            "</div>",
        )
    )


def _lines(statement: Statement) -> str:
    digits = minor_digits(statement.currency)
    rows = [_cells(_LINE_NAMES, _line(line, digits)) for line in statement.lines]
    nothing = [""] * (len(_LINE_NAMES) - 2)
    if statement.rounding_nano:
        took = grouped_text(statement.rounding_nano, NANO_DIGITS)
        said = "Rounding<small>what the lines above lost or gained by it</small>"
        rows.append(_cells(_LINE_NAMES, (said, *nothing, took)))
    exact = grouped_text(statement.sums.amount_nano, NANO_DIGITS)
    total = f"{grouped_text(statement.total_minor, digits)} {escaped(statement.currency)}"
    said = "Total<small>exact, and rounded to the minor unit</small>"
    rows.append(_cells(_LINE_NAMES, (said, *nothing[1:], exact, total), "total"))
    return _table(_LINE_NAMES, rows)


def _line(line: Line, digits: int) -> Sequence[str]:
    """Return the cells of a line, as HTML."""
    sums, tag = line.sums, _tags(line.energy_sources)
    what = f"{escaped(line.model)}, {escaped(line.priority)}"
    rate = f"rate {escaped(line.tariff)}" if line.tariff else "no rate"
    if line.correction is not None:
        ids = f"{escaped(line.correction.id)} corrects {escaped(line.correction.corrects)}"
        what, rate = f"Correction: {what}", f"{rate}; receipt {ids}"
    inside = escaped(", ".join(line.boundaries))
    return (
        f"{what}<small>{rate}; {_receipts_text(sums.receipts)}; energy of: {inside}</small>",
        grouped_text(sums.prompt_tokens, 0),
        grouped_text(sums.cached_tokens, 0),
        grouped_text(sums.output_tokens, 0),
        f"<span>{grouped_text(sums.energy_uj, MICRO_DIGITS)} <br>{tag}</span>",
        f"<span>{grouped_text(sums.green_uj, MICRO_DIGITS)} <br>{tag}</span>",
        grouped_text(sums.amount_nano, NANO_DIGITS),
        grouped_text(line.billed_minor, digits),
    )


def _elsewhere(elsewhere: Sequence[Elsewhere]) -> str:
    if not elsewhere:
        return ""
    rows = [
        _cells(
            _SITE_NAMES,
            (
                escaped(one.site),
                f"{one.receipts:,}",
                grouped_text(one.prompt_tokens, 0),
                grouped_text(one.output_tokens, 0),
                grouped_text(one.energy_uj, MICRO_DIGITS),
            ),
        )
        for one in elsewhere
    ]
    said = "From receipts that these sites have signed; beside the joules of the lines above."
    table = _table(_SITE_NAMES, rows)
    return f'<h2>Energy at other sites</h2><p class="muted">{said}</p>{table}'


def _days(statement: Statement) -> str:
    by_day: dict[str, list[ReceiptSums]] = {}
    for hour, sums in statement.hours:
        by_day.setdefault(_day_text(hour, statement.month), []).append(sums)
    if not by_day:
        return ""
    tag = _tags(statement.energy_sources)
    rows = [
        _cells(
            _DAY_NAMES,
            (
                day,
                f"{sum(one.receipts for one in sums):,}",
                f"{sum(one.tokens for one in sums):,}",
                f"<span>{grouped_text(sum(one.energy_uj for one in sums), MICRO_DIGITS)}"
                f" {tag}</span>",
                f"<span>{grouped_text(sum(one.green_uj for one in sums), MICRO_DIGITS)}"
                f" {tag}</span>",
                grouped_text(sum(one.amount_nano for one in sums), NANO_DIGITS),
            ),
        )
        for day, sums in by_day.items()
    ]
    return f"<h2>Days, without corrections</h2>{_table(_DAY_NAMES, rows)}"


def _proof(statement: Statement) -> str:
    said = (
        "Root of the tree (RFC 6962) of these receipts, by site and number: "
        f"{statement.root}. Each receipt and its proof can be checked without the operator."
    )
    return f'<p class="muted">{escaped(said)}</p>'


def _table(names: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cells(names: Sequence[str], cells: Sequence[str], style: str = "") -> str:
    """Return a row; on a phone the names stand beside the cells."""
    first, *rest = cells
    named = "".join(
        f'<td data-name="{name}">{cell}</td>' if cell else "<td></td>"
        for name, cell in zip(names[1:], rest, strict=True)
    )
    return f'<tr class="{style}"><td>{first}</td>{named}</tr>'


def _tags(sources: Sequence[str]) -> str:
    return " ".join(f'<span class="tag">{escaped(source)}</span>' for source in sources)


def _percent_text(sums: ReceiptSums) -> str:
    if sums.used_uj <= 0:
        return "-"
    return f"{decimal_text(sums.green_uj * 1000 // sums.used_uj, 1)} %"


def _receipts_text(count: int) -> str:
    return "1 receipt" if count == 1 else f"{count:,} receipts"


def _day_text(hour: int, month: Month) -> str:
    return f"{month.local(hour):%Y-%m-%d}"
