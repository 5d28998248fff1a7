"""Options that the commands of `steppe batch` share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from steppe.batch.rows.options import ENDPOINTS, RowOptions
from steppe.errors import UsageError
from steppe.options import GivenPath, GivenText

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_FRACTION = click.FloatRange(0, 1)


class DurationText(click.ParamType[float]):
    """A length of time, such as `90s`, `30m`, `24h` or `7d`; its value is in s."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the time, s; fail unless it is above 0."""
        found = _DURATION.fullmatch(str(value))
        length_s = float(found[1]) * _UNITS_S[found[2] or "s"] if found else 0.0
        if length_s <= 0:
            self.fail(f"asked for a time such as 30m, 24h or 7d, found {value!r}", param, ctx)
        return length_s


class ParameterText(click.ParamType[tuple[str, Any]]):
    """A parameter of requests as `NAME=JSON`; what is no JSON is a text."""

    name = "name=json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Return name and value; fail without a name."""
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"asked for NAME=VALUE, such as top_k=20, found {value!r}", param, ctx)
        try:
            return name, orjson.loads(text)
        except orjson.JSONDecodeError:
            return name, text


def row_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options for how the records of an input become requests; read them with `rows_of`."""
    options = (
        click.option("--model", type=GivenText(), help="Model of all rows."),
        click.option(
            "--endpoint",
            type=click.Choice(ENDPOINTS),
            help="Path of the API; by default as fits the records.",
        ),
        click.option(
            "--column",
            type=GivenText(),
            help="Field with the text or the messages; messages, prompt, input or text by default.",
        ),
        click.option(
            "--template",
            type=GivenText(),
            help="Jinja template of the text, such as 'Summarize: {{ body }}'; @FILE reads one.",
        ),
        click.option("--system", type=GivenText(), help="System message of all chats."),
        click.option(
            "--id-column",
            type=GivenText(),
            default="custom_id",
            show_default=True,
            help="Field with the id of a row; rows without one are row-N.",
        ),
        click.option("--split", type=GivenText(), help="Split of a folder of `datasets`."),
        click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer, tokens."),
        click.option("--temperature", type=click.FloatRange(0), help="0 is greedy."),
        click.option("--top-p", type=_FRACTION, help="Nucleus sampling."),
        click.option("--seed", type=int, help="Seed of the sampling."),
        click.option(
            "--param",
            "parameters",
            type=ParameterText(),
            multiple=True,
            help="Another parameter of requests, such as top_k=20; may be repeated.",
        ),
        click.option(
            "--schema",
            type=GivenPath(path_type=Path),
            help="File with a JSON schema that every answer follows.",
        ),
        click.option(
            "--by-prefix/--by-input",
            default=True,
            help="Run rows with a common prefix one after another, for the prefix cache.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def rows_of(values: Mapping[str, Any]) -> RowOptions:
    """Return how records become requests by the options of `row_options`.

    Raises:
        UsageError: Options contradict each other, or a file cannot be read.
    """
    named = {name: values[name] for name in ("max_tokens", "temperature", "top_p", "seed")}
    sampling = {name: value for name, value in named.items() if value is not None}
    return RowOptions(
        endpoint=values["endpoint"] or "",
        model=values["model"] or "",
        column=values["column"] or "",
        template=_template(values["template"] or ""),
        system=values["system"] or "",
        sampling={**sampling, **dict(values["parameters"])},
        schema=_schema(values["schema"]),
        id_column=values["id_column"],
        split=values["split"] or "",
        by_prefix=values["by_prefix"],
    )


def gateway_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--url` and `--key-file` to a command that asks a gateway."""
    key = click.option(
        "--key-file", type=GivenPath(path_type=Path), help="File with the key for the gateway."
    )
    url = click.option("--url", type=GivenText(), help="Address of a gateway that runs.")
    return url(key(command))


def _template(given: str) -> str:
    return _read(Path(given[1:])).decode() if given.startswith("@") else given


def _schema(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        found = orjson.loads(_read(path))
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{path}: asked for a JSON schema, found: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: asked for a JSON schema, found {type(found).__name__}")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: asked for a file, found: {error.strerror}") from error
