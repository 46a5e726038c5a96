"""`everloop predictions`: what was asked and answered, how long it is kept, taking a person's out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from everloop.cli.output import Output, pass_output
from everloop.errors import Invalid

_REASON = "Why; it goes into the audit log, so name nobody."


@click.group()
def predictions() -> None:
    """The prediction log: look, export, expire, erase.

    \b
    Example: everloop predictions list category --since 2026-05-01
    """


@predictions.command("list")
@click.argument("endpoint")
@click.option(
    "--status", type=click.Choice(["ok", "failed", "refused"]), help="Answered, or why there was no answer."
)
@click.option("--version", help="Of a version alone, such as category@2 or 2.")
@click.option("--output", help="Answered with this class.")
@click.option("--text", help="What stands in one of the inputs.")
@click.option("--key", help="Asked under this key.")
@click.option("--slower-than-ms", type=click.FloatRange(min=0), help="Which took longer.")
@click.option("--score-below", type=click.FloatRange(min=0, min_open=True), help="Whose best score is lower.")
@click.option("--said", type=click.Choice(["corrected", "contradicted"]), help="Of which people said so.")
@click.option(
    "--kind",
    type=click.Choice(["live", "replay", "shadow"]),
    help="What clients got, what was asked again for a test, or what a mirrored version answered.",
)
@click.option("--since", "start", help="From a moment such as 2026-05-01T12:00:00Z, or a day (UTC), on.")
@click.option("--until", "end", help="Until a moment, or the end of a day (UTC).")
@click.option("--before", metavar="ID", help="Older than this prediction: where an earlier answer ended.")
@click.option("--limit", "last", default=20, show_default=True, type=click.IntRange(1, 500))
@pass_output
def list_(out: Output, /, endpoint: str, last: int, start: str | None, end: str | None, **asked: Any) -> None:
    """List the newest predictions of an endpoint that fit, with what was said of them.

    A look takes a third of a second at most; where there may be more, the last line says how to go on.

    \b
    Example: everloop predictions list category --status failed --limit 20
    """
    from everloop import rollout
    from everloop.api import Logged, PredictionsAsked, found_predictions
    from everloop.clock import parse_moment

    with out.workspace() as ws:
        first = None if start is None else parse_moment(start, is_end=False).isoformat()
        until = None if end is None else parse_moment(end).isoformat()
        page = found_predictions(
            ws, PredictionsAsked(endpoint=endpoint, limit=last, start=first, end=until, **asked)
        )
        columns = {
            "when": lambda one: one.at,
            "prediction": lambda one: one.id,
            "version": lambda one: one.version,
            "answer": lambda one: one.output if one.status == "ok" else f"{one.status}: {one.error}",
            "took": lambda one: f"{one.latency_ms:.3g} ms",
            "said": lambda one: [f"{it.reporter}: {it.value}" for it in one.corrections],
            "asked": lambda one: one.inputs,
        }
        out.table([Logged.of(one) for one in page.found], columns, empty="No prediction fits.")
        if share := rollout.endpoint(ws, endpoint).log.share:
            out.say(share)
        if page.before is not None:
            out.say(f"{page.looked_at:,} looked at. Earlier ones: add --before {page.before}")


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

    from everloop.predictions import SCHEMA

    rows = 0
    with out.workspace() as ws:
        found = _batches(
            ws, endpoint, since, until, keys
        )  # before the file: what is refused leaves it as it is
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
                for batch in found:
                    writer.write_batch(batch)
                    rows += batch.num_rows
        except OSError as error:
            raise Invalid(f"{file} cannot be written: {error}. Name another file.") from error
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

    Corrections, outcomes, reported values and review items of it stay, without the key. Labels of a dataset's rows, and rows, are not touched.

    \b
    Example: everloop predictions erase customer-4711 --reason "request 2026-17"
    """
    from everloop import governance

    with out.workspace() as ws:
        found = governance.erase_predictions(ws, names, reason=reason, dry_run=dry_run)
        is_one = found.predictions == 1
        are, lost = ("would be", "would lose") if dry_run else ("is" if is_one else "are", "lost")
        told = (
            f"{found.predictions:,} prediction{'' if is_one else 's'} {are} erased, "
            f"{found.reports:,} report{'' if found.reports == 1 else 's'} of {'it' if is_one else 'them'} {lost} the key."
        )
        out.answer(found, told)


def _batches(ws: Any, endpoint: str, since: str | None, until: str | None, keys: tuple[str, ...]) -> Any:
    from everloop import rollout
    from everloop.clock import parse_moment
    from everloop.predictions import batches

    rollout.endpoint(ws, endpoint)
    return batches(
        ws.home / "serving",
        endpoint=endpoint,
        start=parse_moment(since, is_end=False) if since else None,
        end=parse_moment(until) if until else None,
        keys=keys or None,
    )
