"""`everloop endpoints`: what answers where."""

from __future__ import annotations

from typing import Any

import click

from everloop.cli.output import Output, pass_output


@click.group()
def endpoints() -> None:
    """What is live where, now and then.

    \b
    Example: everloop endpoints live category --at 2026-05-01
    """


@endpoints.command("list")
@pass_output
def list_(out: Output) -> None:
    """List the endpoints and what answers on them.

    \b
    Example: everloop endpoints list
    """
    from everloop import rollout

    with out.workspace() as ws:
        columns = {
            "endpoint": lambda one: one.name,
            "model": lambda one: one.model,
            "live": lambda one: [f"{variant.version} {variant.weight:g} %" for variant in one.variants],
        }
        out.table(
            rollout.endpoints(ws),
            columns,
            empty="No endpoints yet. A loop file declares them: el.endpoint(...), or: everloop endpoints create NAME MODEL",
        )


@endpoints.command()
@click.argument("name")
@click.argument("model")
@click.option(
    "--steps",
    default="10,25,50,100",
    show_default=True,
    help="Percent of the traffic that a new version gets, step by step.",
)
@click.option(
    "--slow-above-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="What slow means to the judge; learned from 100 requests when left out.",
)
@pass_output
def create(out: Output, name: str, model: str, steps: str, slow_above_ms: float | None) -> None:
    """Make an endpoint for a model that no loop file declares, such as one that an mlflow client logged.

    \b
    Example: everloop endpoints create category category --steps 50,100
    """
    from everloop import rollout

    try:
        canary = rollout.canary(*(float(one) for one in steps.split(",")), slow_above_ms=slow_above_ms)
    except ValueError as error:
        raise click.UsageError(
            f"--steps {steps} is no list of percentages; for example --steps 50,100."
        ) from error
    with out.workspace() as ws:
        made = rollout.create_endpoint(ws, name, model, canary=canary)
        out.answer(
            made,
            f"{made.name} serves {made.model}: the newest version that may be released goes live by itself.",
        )


@endpoints.command()
@click.argument("name")
@click.option(
    "--at", help="A moment such as 2026-05-01T12:00:00Z, or a day, at whose end (UTC); now when left out."
)
@pass_output
def live(out: Output, name: str, at: str | None) -> None:
    """Say which versions answer on an endpoint, or answered at a moment.

    \b
    Example: everloop endpoints live category --at 2026-05-01
    """
    from everloop import rollout
    from everloop.clock import parse_moment

    with out.workspace() as ws:
        columns = {
            "variant": lambda one: one.name,
            "version": lambda one: one.version,
            "traffic": lambda one: f"{one.weight:g} %",
            "release": lambda one: one.release,
        }
        found = rollout.live(ws, name, at=parse_moment(at) if at else None)
        out.table(found, columns, empty="Nothing was live then.")


@endpoints.command()
@click.argument("name")
@click.option("--status", type=click.Choice(["ok", "failed", "refused"]))
@click.option("--version", help="Of a version alone, such as category@2 or 2.")
@click.option("--output", help="Answered with this class.")
@click.option("--text", help="What stands in one of the inputs.")
@click.option("--key")
@click.option("--slower-than-ms", type=click.FloatRange(min=0))
@click.option("--score-below", type=click.FloatRange(min=0, min_open=True), help="Whose best score is lower.")
@click.option("--said", type=click.Choice(["corrected", "contradicted"]), help="Of which people said so.")
@click.option("--kind", type=click.Choice(["live", "replay", "shadow"]))
@click.option("--start", help="From a moment such as 2026-05-01T12:00:00Z, or a day (UTC), on.")
@click.option("--end", help="Until a moment, or the end of a day (UTC).")
@click.option("--before", metavar="ID", help="Older than this prediction: where an earlier answer ended.")
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 500))
@pass_output
def predictions(
    out: Output, /, name: str, last: int, start: str | None, end: str | None, **asked: Any
) -> None:
    """List the newest predictions of an endpoint that fit, with what was said of them.

    A look takes a third of a second at most; where there may be more, the last line says how to go on.

    \b
    Example: everloop endpoints predictions category --status failed --last 20
    """
    from everloop.api import Logged, PredictionsAsked, found_predictions
    from everloop.clock import parse_moment

    with out.workspace() as ws:
        first = None if start is None else parse_moment(start, is_end=False).isoformat()
        until = None if end is None else parse_moment(end).isoformat()
        page = found_predictions(
            ws, PredictionsAsked(endpoint=name, limit=last, start=first, end=until, **asked)
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
        out.table([Logged.of(one) for one in page.found], columns, empty="No prediction is so.")
        if page.before is not None:
            out.say(f"{page.looked_at:,} looked at. Earlier ones: add --before {page.before}")
