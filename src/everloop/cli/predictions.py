"""`everloop predictions`: what was asked and answered, how long it is kept, taking a person's out."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

import click

from everloop.cli.output import Output, pass_output

_REASON = "Why; it goes into the audit log, so name nobody."


@click.group()
def predictions() -> None:
    """The prediction log: look, export, expire, erase.

    \b
    Example: everloop predictions list category --since 2026-05-01
    """


@predictions.command("list")
@click.argument("endpoint")
@click.option("--since", help="A moment such as 2026-05-01T12:00:00Z, or a day, at whose beginning (UTC).")
@click.option("--until", help="A moment, or a day, at whose end (UTC).")
@click.option("--key", "keys", multiple=True, help="Only of this key; may be repeated.")
@click.option("--status", type=click.Choice(["ok", "failed", "refused"]), help="Only of this status.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def list_(
    out: Output,
    endpoint: str,
    since: str | None,
    until: str | None,
    keys: tuple[str, ...],
    status: str | None,
    limit: int,
) -> None:
    """List what was asked and answered, newest first.

    \b
    Example: everloop predictions list category --status failed --limit 5
    """
    with out.workspace() as ws:
        found = (
            row
            for batch in _batches(ws, endpoint, since, until, keys)
            for row in batch.to_pylist()
            if status is None or row["status"] == status
        )
        rows = heapq.nlargest(limit, found, key=lambda row: row["id"])
        columns = {
            "prediction": lambda row: row["id"],
            "at": lambda row: row["at"],
            "version": lambda row: f"{row['model']}@{row['version']}" if row["version"] else None,
            "key": lambda row: row["key"],
            "answer": lambda row: row["output_number"] if row["output"] is None else row["output"],
            "status": lambda row: row["status"],
            "ms": lambda row: round(row["latency_us"] / 1_000, 2),
            "chance": lambda row: row["probability"],
        }
        out.table(rows, columns, empty=f"The log has no such prediction of {endpoint}.")


@predictions.command()
@click.argument("endpoint")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--since", help="A moment such as 2026-05-01T12:00:00Z, or a day, at whose beginning (UTC).")
@click.option("--until", help="A moment, or a day, at whose end (UTC).")
@click.option("--key", "keys", multiple=True, help="Only of this key; may be repeated.")
@pass_output
def export(
    out: Output, endpoint: str, file: Path, since: str | None, until: str | None, keys: tuple[str, ...]
) -> None:
    """Write what was asked and answered into a Parquet file, sealed or not.

    \b
    Example: everloop predictions export category may.parquet --since 2026-05-01 --until 2026-05-31
    """
    import pyarrow.parquet as pq

    from everloop import serving

    rows = 0
    with out.workspace() as ws, pq.ParquetWriter(file, serving.log.SCHEMA, compression="zstd") as writer:
        for batch in _batches(ws, endpoint, since, until, keys):
            writer.write_batch(batch)
            rows += batch.num_rows
    out.answer({"rows": rows, "file": str(file)}, f"{rows:,} predictions are in {file}.")


@predictions.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@pass_output
def expire(out: Output, dry_run: bool) -> None:
    """Remove what endpoints keep no longer; 'everloop up' does it by itself every hour.

    \b
    Example: everloop predictions expire --dry-run
    """
    from everloop import governance

    with out.workspace() as ws:
        found = governance.expire_predictions(ws, dry_run=dry_run)
        columns = {
            "endpoint": lambda one: one.endpoint,
            "keeps": lambda one: f"{one.keep_days:g} days",
            "from before": lambda one: one.before,
            "would go" if dry_run else "removed": lambda one: one.rows,
            "segments": lambda one: one.segments,
            "oldest": lambda one: one.oldest,
        }
        out.table(found, columns, empty="Every endpoint keeps its predictions for ever.")


@predictions.command()
@click.argument("names", nargs=-1, required=True, metavar="KEY_OR_ID...")
@click.option("--reason", required=True, help=_REASON)
@click.option("--dry-run", is_flag=True, help="Say how many it would be; erase nothing.")
@pass_output
def erase(out: Output, names: tuple[str, ...], reason: str, dry_run: bool) -> None:
    """Take what was asked under a key, or in a prediction by its id, out of the log.

    \b
    Example: everloop predictions erase customer-4711 --reason "request 2026-17"
    """
    from everloop import governance

    with out.workspace() as ws:
        found = governance.erase_predictions(ws, names, reason=reason, dry_run=dry_run)
        told = f"{found.predictions:,} predictions {'would be' if dry_run else 'are'} erased."
        out.answer(found, told)


def _batches(ws: Any, endpoint: str, since: str | None, until: str | None, keys: tuple[str, ...]) -> Any:
    from everloop import rollout, serving
    from everloop.clock import parse_moment

    rollout.endpoint(ws, endpoint)
    return serving.log.batches(
        ws.home / "serving",
        endpoint=endpoint,
        start=parse_moment(since, is_end=False) if since else None,
        end=parse_moment(until) if until else None,
        keys=keys or None,
    )
