"""`everloop feedback`: corrections, outcomes, review."""

from __future__ import annotations

from pathlib import Path

import click

from everloop.cli.output import Output, pass_output


@click.group()
def feedback() -> None:
    """Corrections, outcomes and the review queue.

    \b
    Example: everloop feedback correct category pred_0198... "Fridges" --reporter moderator
    """


@feedback.command()
@click.argument("endpoint")
@click.argument("prediction")
@click.argument("value")
@click.option("--reporter", required=True, help="Who says so, such as seller or moderator.")
@click.option("--by-key", is_flag=True, help="PREDICTION is a key: its newest prediction is meant.")
@pass_output
def correct(out: Output, endpoint: str, prediction: str, value: str, reporter: str, by_key: bool) -> None:
    """Say what an answer should have been.

    \b
    Example: everloop feedback correct category pred_0198... "Fridges" --reporter moderator
    """
    from everloop import feedback as room

    which = {"key": prediction} if by_key else {"prediction_id": prediction}
    with out.workspace() as ws:
        kept = room.correct(ws, endpoint=endpoint, value=value, reporter=reporter, **which)  # type: ignore[arg-type]  # one of two names
        says = "contradicts" if kept.contradicts else "confirms"
        out.answer(kept, f"{kept.id} {says} the answer {kept.answer!r} of {kept.model}@{kept.version}.")


@feedback.command()
@click.argument("endpoint")
@click.argument("prediction")
@click.argument("name")
@click.argument("value", type=float)
@click.option("--by-key", is_flag=True, help="PREDICTION is a key: its newest prediction is meant.")
@click.option("--at", help="When it happened, such as 2026-05-01T12:00:00Z; now when left out.")
@pass_output
def value(
    out: Output, endpoint: str, prediction: str, name: str, value: float, by_key: bool, at: str | None
) -> None:
    """Report a number about a prediction, such as what it sold for; KPIs read it in the view `reported`.

    \b
    Example: everloop feedback value category pred_0198... revenue 12.5
    """
    from everloop import feedback as room
    from everloop.clock import parse_moment

    with out.workspace() as ws:
        kept = room.report_value(
            ws,
            endpoint=endpoint,
            name=name,
            value=value,
            prediction_id=None if by_key else prediction,
            key=prediction if by_key else None,
            at=parse_moment(at) if at else None,
        )
        out.answer(kept, f"{kept.id}: {kept.name} of {kept.prediction_id} is {kept.value:g}.")


@feedback.command("import")
@click.argument("endpoint")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", required=True, help="The file's column with the key of the request.")
@click.option("--value", required=True, help="The file's column with the right answer.")
@click.option("--at", help="The file's column with the time of the report; now when left out.")
@click.option("--reporter", help="Who reports, such as seller or moderator.")
@click.option("--reporter-column", help="Or the file's column that says who.")
@click.option("--skip-unknown", is_flag=True, help="Leave out rows whose key was never asked about.")
@pass_output
def import_(
    out: Output,
    endpoint: str,
    file: Path,
    key: str,
    value: str,
    at: str | None,
    reporter: str | None,
    reporter_column: str | None,
    skip_unknown: bool,
) -> None:
    """Import corrections from a file; all or none is kept.

    \b
    Example: everloop feedback import category reports.csv --key listing_id --value category --reporter moderator
    """
    from everloop import feedback as room

    if (reporter is None) == (reporter_column is None):
        raise click.UsageError(
            "say who reports: --reporter NAME, or --reporter-column COLUMN; one of the two."
        )
    with out.workspace() as ws:
        report = room.import_corrections(
            ws,
            file,
            endpoint=endpoint,
            key=key,
            value=value,
            at=at,
            reporter=reporter,
            reporter_column=reporter_column,
            unknown="skip" if skip_unknown else "refuse",
        )
        told = f"Recorded {report.recorded:,} corrections: {report.contradicting:,} contradict the answer."
        known = f" Known already: {report.repeated:,}." if report.repeated else ""
        left_out = f" Never asked about: {len(report.unknown):,}." if report.unknown else ""
        out.answer(report, told + known + left_out)


@feedback.command()
@click.option("--endpoint")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def queue(out: Output, endpoint: str | None, limit: int) -> None:
    """List what waits for a reviewer, oldest first.

    \b
    Example: everloop feedback queue
    """
    from everloop import feedback as room

    with out.workspace() as ws:
        columns = {
            "item": lambda one: one.id,
            "why": lambda one: one.reason,
            "key": lambda one: one.key,
            "answer": lambda one: one.answer,
            "suggested": lambda one: one.suggested,
        }
        out.table(
            room.review_queue(ws, endpoint, limit=limit), columns, empty="Nothing waits for a reviewer."
        )


@feedback.command()
@click.argument("item")
@click.argument("value")
@pass_output
def settle(out: Output, item: str, value: str) -> None:
    """Settle a review item with the right answer.

    \b
    Example: everloop feedback settle rev_0198... "Fridges"
    """
    from everloop import feedback as room

    with out.workspace() as ws:
        out.answer(room.answer_review(ws, item, value=value, reviewer=ws.actor), f"Settled {item}: {value}.")
