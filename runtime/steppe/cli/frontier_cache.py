"""`steppe frontier list|show|remove`: the frontiers that earlier runs measured."""

from __future__ import annotations

import json
from typing import Any

import click

from steppe.frontier.cache import CacheEntry, frontier_cache
from steppe.options import json_option


@click.command("list", epilog="Example: steppe frontier list --json")
@json_option
def list_command(as_json: bool) -> None:
    """List the measured frontiers in the cache; `steppe serve` starts on the one that fits."""
    entries = frontier_cache().entries()
    if as_json:
        click.echo(json.dumps({"frontiers": [_row(entry) for entry in entries]}))
        return
    if not entries:
        click.echo(f"no measured frontier in {frontier_cache().folder}")
    for entry in entries:
        row = _row(entry)
        click.echo(
            f"{entry.name}  {row['model']} on {row['gpus_per_replica']} x {row['gpu']}, "
            f"{row['engine']}, {row['source']} {row['measured_at']}"
        )


@click.command("show", epilog="Example: steppe frontier show smollm2-135m-nvidia-l4-1x-5f0c2a91")
@click.argument("name")
def show_command(name: str) -> None:
    """Print the file of the cached frontier NAME; the start of a name is enough."""
    click.echo(frontier_cache().entry(name).path.read_text(), nl=False)


@click.command(
    "remove", epilog="Example: steppe frontier remove smollm2-135m-nvidia-l4-1x-5f0c2a91"
)
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Remove all of them.")
def remove_command(name: str | None, everything: bool) -> None:
    """Delete the cached frontier NAME, so that the next run measures it again."""
    if (name is None) != everything:
        raise click.UsageError("Give NAME or --all.")
    cache = frontier_cache()
    names = [entry.name for entry in cache.entries()] if name is None else [name]
    for each in names:
        click.echo(f"removed {cache.remove(each)}")


def _row(entry: CacheEntry) -> dict[str, Any]:
    subject, provenance = entry.subject, entry.provenance
    return {
        "name": entry.name,
        "model": subject.model,
        "gpu": subject.gpu,
        "gpus_per_replica": subject.gpus_per_replica,
        "engine": provenance.get("engine"),
        "source": entry.source,
        "measured_at": provenance.get("measured_at"),
        "path": str(entry.path),
    }
