"""What the page has: groups of figures, charts and tables, each with its title."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """A number that the page shows.

    Attributes:
        key: Its name in a view.
        label: What stands above it.
        is_energy: Whether it is a power or an energy, whose source is shown beside it.
    """

    key: str
    label: str
    is_energy: bool = False


@dataclass(frozen=True, slots=True)
class FigureGroup:
    """Figures under one title.

    Attributes:
        key: Its name.
        title: Its title.
        figures: The figures.
    """

    key: str
    title: str
    figures: tuple[FigureSpec, ...]


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """A line of a chart.

    Attributes:
        column: The column of its data.
        label: Its name.
        colour: Name of its colour in the style sheet.
        is_filled: Whether the area below it is filled.
        is_dashed: Whether it is dashed.
    """

    column: str
    label: str
    colour: str
    is_filled: bool = False
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """A chart over time.

    Attributes:
        key: Its name.
        title: Its title, with the unit.
        series: Its lines.
        is_energy: Whether it shows a power or an energy.
        cuts_peaks: Whether rare high values are cut off, which would flatten all others.
    """

    key: str
    title: str
    series: tuple[SeriesSpec, ...]
    is_energy: bool = False
    cuts_peaks: bool = False


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table.

    Attributes:
        key: Its name in a view.
        title: Its title.
        columns: The titles of its columns; one that begins with `#` has numbers.
        empty: What is said of a table without rows; empty if the table is then left out.
        is_energy: Whether it shows a power or an energy.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    empty: str = ""
    is_energy: bool = False


POWER = FigureGroup(
    "power",
    "Power",
    (
        FigureSpec("supply_w", "Supply", is_energy=True),
        FigureSpec("budget_w", "Budget", is_energy=True),
        FigureSpec("draw_w", "Draw", is_energy=True),
        FigureSpec("headroom_w", "Headroom", is_energy=True),
        FigureSpec("curtailed_w", "Curtailed", is_energy=True),
        FigureSpec("battery", "Battery", is_energy=True),
    ),
)
KNOBS = FigureGroup(
    "knobs",
    "Knobs",
    (
        FigureSpec("awake", "Replicas awake"),
        FigureSpec("batch_limit", "Batch limit"),
        FigureSpec("clock_mhz", "Clock limit"),
    ),
)
WORK = FigureGroup(
    "work",
    "Work",
    (
        FigureSpec("output_tps", "Tokens per second"),
        FigureSpec("demand_tps", "Asked for"),
        FigureSpec("joules_per_token", "Energy per token", is_energy=True),
        FigureSpec("waiting", "Requests waiting"),
        FigureSpec("running", "Requests running"),
    ),
)
RUN = FigureGroup(
    "run",
    "Run so far",
    (
        FigureSpec("run_span", "Seen by this gateway"),
        FigureSpec("run_energy", "Energy", is_energy=True),
        FigureSpec("run_tokens", "Output tokens"),
        FigureSpec("run_joules_per_token", "Energy per token", is_energy=True),
        FigureSpec("run_over_budget", "Energy over budget", is_energy=True),
    ),
)
LIVE_GROUPS = (POWER, KNOBS, WORK, RUN)

CHARTS = (
    ChartSpec(
        "power",
        "Power, W",
        (
            SeriesSpec("supply_w", "Supply", "supply", is_filled=True),
            SeriesSpec("budget_w", "Budget", "budget", is_dashed=True),
            SeriesSpec("most_draw_w", "Highest draw", "most-draw"),
            SeriesSpec("draw_w", "Draw", "draw"),
        ),
        is_energy=True,
    ),
    ChartSpec(
        "tokens",
        "Output tokens per second",
        (
            SeriesSpec("output_tps", "Served", "tokens", is_filled=True),
            SeriesSpec("demand_tps", "Asked for", "demand", is_dashed=True),
        ),
    ),
    ChartSpec(
        "joules",
        "Energy per output token, J",
        (SeriesSpec("joules_per_token", "Energy per token", "joules"),),
        is_energy=True,
        cuts_peaks=True,
    ),
    ChartSpec("replicas", "Replicas awake", (SeriesSpec("awake", "Awake", "replicas"),)),
    ChartSpec(
        "batch",
        "Batch limit, sequences of all awake replicas",
        (SeriesSpec("batch_limit", "Batch limit", "batch"),),
    ),
    ChartSpec(
        "clock",
        "Clock limit, MHz, mean of the awake replicas",
        (SeriesSpec("clock_mhz", "Clock limit", "clock"),),
    ),
    ChartSpec(
        "queue",
        "Requests",
        (
            SeriesSpec("waiting", "Waiting", "waiting"),
            SeriesSpec("running", "Running", "running"),
        ),
    ),
)
FORECAST = ChartSpec(
    "forecast",
    "Forecast of the budget from now on, W",
    (SeriesSpec("budget_w", "Budget", "budget", is_dashed=True),),
    is_energy=True,
)
"""Its time is that from now on."""

SHORTAGES = TableSpec(
    "shortages",
    "Shortages ahead",
    ("Of", "#Short by", "Begins", "Ends"),
    empty="None is foreseen.",
    is_energy=True,
)
SOURCES = TableSpec(
    "sources",
    "Supplies and limits",
    ("Name", "Kind", "State", "#Power", "#Age"),
    empty="None has been read.",
    is_energy=True,
)
MODELS = TableSpec(
    "models",
    "Pools",
    (
        "Model",
        "State",
        "#Awake",
        "#Replicas",
        "#Tokens/s",
        "#Could add",
        "#Draw",
        "#Waiting",
        "#Energy per token",
    ),
    empty="None is known yet.",
    is_energy=True,
)
REPLICAS = TableSpec(
    "replicas",
    "Replicas",
    ("Replica", "Pool", "State", "#Clock limit", "#Batch limit", "#Draw", "#Tokens/s", "Notes"),
    empty="None is known yet.",
    is_energy=True,
)
TENANTS = TableSpec(
    "tenants",
    "Tenants",
    (
        "Tenant",
        "#Requests",
        "#Completed",
        "#Prompt tokens",
        "#Output tokens",
        "#Energy",
        "#Energy per token",
    ),
    empty="No request has ended yet.",
    is_energy=True,
)
BATCH = TableSpec(
    "batch",
    "Batch jobs",
    ("Job", "Why", "#Rows left", "#Tokens/s", "Ends in", "#Deadline kept"),
)
GRID = TableSpec(
    "grid",
    "Grid events and limits",
    ("Event", "When", "#Baseline", "#Allowed", "#Delivered", "Complies", "Reason"),
    is_energy=True,
)
SITES = TableSpec(
    "sites",
    "Sites",
    ("Site", "State", "#Round trip", "#Budget", "#Draw", "#Headroom", "#Surplus", "Models"),
    is_energy=True,
)
LIVE_TABLES = (
    SHORTAGES,
    MODELS,
    REPLICAS,
    SOURCES,
    BATCH,
    TENANTS,
    GRID,
    SITES,
)
