from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from steppe.errors import UsageError
from steppe.grid.openadr.translation import Rate
from steppe.grid.plan.prices import Prices, Unit, prices_of_rates, read_prices
from steppe.grid.plan.series import DAY_S, Series, Times
from steppe.grid.plan.series_file import zone_of

EUR = Unit.read("EUR/MWh")
PARIS = zone_of("Europe/Paris")


def written(folder: Path, *rows: str) -> Path:
    path = folder / "prices.csv"
    path.write_text("\n".join(("time,price", *rows)) + "\n", encoding="utf-8")
    return path


def local_day(day: str, hours: list[int]) -> list[str]:
    return [f"{day}T{hour:02}:00,{number}" for number, hour in enumerate(hours)]


def test_a_price_of_a_megawatt_hour_is_read_as_one_of_a_joule(tmp_path: Path) -> None:
    path = written(tmp_path, "2026-12-01T00:00Z,36", "2026-12-01T01:00Z,-18")
    prices = read_prices(path, EUR)
    assert prices.currency == "EUR"
    assert prices.per_j.values == pytest.approx((1e-8, -0.5e-8))
    assert prices.per_j.ends_s - prices.per_j.begins_s == 7200.0


def test_a_price_in_cny_per_kilowatt_hour_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "2026-12-01T00:00+08:00,0.36", "2026-12-01T00:15+08:00,0.72")
    prices = read_prices(path, Unit.read("CNY/kWh"))
    assert prices.currency == "CNY"
    assert prices.per_j.values == pytest.approx((1e-7, 2e-7))


def test_a_packed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    text = "time,price\n2026-12-01T00:00Z,1\n2026-12-01T01:00Z,2\n"
    path.write_bytes(gzip.compress(text.encode()))
    assert len(read_prices(path, EUR).per_j.values) == 2


def test_the_day_on_which_clocks_are_set_forward_has_23_hours(tmp_path: Path) -> None:
    hours = [0, 1, *range(3, 24)]
    path = written(tmp_path, *local_day("2026-03-29", hours), "2026-03-30T00:00,0")
    series = read_prices(path, EUR, PARIS).per_j
    assert series.starts_s[-1] - series.begins_s == 23 * 3600.0


def test_the_day_on_which_clocks_are_set_back_has_25_hours(tmp_path: Path) -> None:
    hours = [0, 1, 2, 2, *range(3, 24)]
    path = written(tmp_path, *local_day("2026-10-25", hours), "2026-10-26T00:00,0")
    series = read_prices(path, EUR, PARIS).per_j
    assert series.starts_s[-1] - series.begins_s == 25 * 3600.0
    assert series.starts_s[3] == datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp()


def test_quarters_of_the_hour_that_comes_twice_are_told_apart(tmp_path: Path) -> None:
    quarters = [f"2026-10-25T02:{minute:02},1" for minute in (0, 15, 30, 45)]
    series = read_prices(written(tmp_path, *quarters, *quarters), EUR, PARIS).per_j
    assert series.ends_s - series.begins_s == 7200.0


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (["2026-12-01T00:00Z,1"], "asked for at least two rows, found 1"),
        (["2026-12-01T00:00,1", "2026-12-01T01:00,1"], "asked for an offset or a zone"),
        (["2026-12-01T00:00Z,one"], "found 'one'"),
        (["2026-12-01T00:00Z,1", "2026-12-01T01:00Z,nan"], "line 3: asked for a number"),
        (["2026-12-01T00:00Z,1", "2026-12-01T01:00Z,"], "line 3: asked for a number"),
        (["2026-12-01T00:00Z,1e9"], "asked for a number from -1e+06 to 1e+06 in price"),
        (["2026-12-01T00:00Z,1", "2026-12-01T00:00Z,2"], "asked for a time after the one before"),
        (["2026-12-01T00:00Z,1", "2026-12-01T02:00Z,2"], "at least every 3600 s, found 7200 s"),
        (["tomorrow,1"], "asked for a time such as 2026-12-01T12:00, found 'tomorrow'"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_its_line(
    tmp_path: Path, rows: list[str], line: str
) -> None:
    with pytest.raises(UsageError) as refused:
        read_prices(written(tmp_path, *rows), EUR)
    assert line in str(refused.value)
    assert "prices.csv" in str(refused.value)


def test_a_local_time_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "2026-03-29T01:00,1", "2026-03-29T02:00,1")
    with pytest.raises(UsageError, match="line 3: asked for a time that exists in Europe/Paris"):
        read_prices(path, EUR, PARIS)


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_prices(tmp_path / "none.csv", EUR)
    path = written(tmp_path, "2026-12-01T00:00Z,1", "2026-12-01T01:00Z,1")
    with pytest.raises(UsageError, match="asked for a column 'eur', found time, price"):
        read_prices(path, EUR, columns=("time", "eur"))


@pytest.mark.parametrize("text", ["EUR", "EUR/GWh", "euro/MWh", "EUR/MWh ", ""])
def test_a_unit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="asked for a unit such as EUR/MWh or CNY/kWh"):
        Unit.read(text)


def test_a_time_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="asked for a time zone such as Europe/Paris"):
        zone_of("Europe/Atlantis")


def rate(starts_s: float, ends_s: float, per_kwh: float, priority: int = 5) -> Rate:
    return Rate("e/1", "p", "PRICE", priority, starts_s, ends_s, per_kwh, "EUR")


def found(*rates: Rate) -> Prices:
    prices = prices_of_rates(rates, 0.0, 10_000.0)
    assert prices is not None
    return prices


def test_prices_of_openadr_follow_each_other() -> None:
    series = found(rate(900, 1800, -0.2), rate(0, 900, 0.1)).per_j
    assert series.starts_s == (0.0, 900.0)
    assert series.ends_s == 1800.0
    assert series.values == pytest.approx((0.1 / 3.6e6, -0.2 / 3.6e6))


def test_the_price_of_the_highest_priority_counts() -> None:
    series = found(rate(0, 3600, 0.1), rate(900, 1800, 0.5, priority=0)).per_j
    assert series.means(Times(0.0, 900.0, 3)) == pytest.approx(
        (0.1 / 3.6e6, 0.5 / 3.6e6, 0.1 / 3.6e6)
    )


def test_prices_end_where_no_event_holds() -> None:
    series = found(rate(0, 900, 0.1), rate(1800, 2700, 0.5)).per_j
    assert series.ends_s == 900.0


def test_no_event_gives_no_prices_and_two_currencies_are_refused() -> None:
    assert prices_of_rates([], 0.0, 900.0) is None
    other = Rate("e/2", "p", "PRICE", 5, 900, 1800, 0.1, "CNY")
    with pytest.raises(UsageError, match="asked for one currency, found CNY, EUR"):
        prices_of_rates([rate(0, 900, 0.1), other], 0.0, 3600.0)


def test_a_step_gets_the_mean_of_the_values_in_it() -> None:
    series = Series((0.0, 300.0), (1.0, 4.0), 900.0)
    assert series.mean(0.0, 900.0) == pytest.approx(3.0)
    assert series.mean(0.0, 901.0) is None


def test_a_step_beyond_the_end_gets_the_value_of_the_same_time_of_the_latest_day() -> None:
    hours = tuple(float(hour) for hour in range(48))
    series = Series(tuple(3600.0 * hour for hour in range(48)), hours, 2 * DAY_S)
    values, missing = series.expected(Times(2 * DAY_S - 3600.0, 3600.0, 50))
    assert missing == 49
    assert values[:3] == pytest.approx((47.0, 24.0, 25.0))
    assert values[25:27] == pytest.approx((24.0, 25.0))
