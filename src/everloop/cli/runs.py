"""`everloop runs`: what was trained and what came of it."""

from __future__ import annotations

import click

from everloop.cli.output import Output, pass_output


@click.group()
def runs() -> None:
    """Training runs: parameters, metrics, artifacts.

    \b
    Example: everloop runs list --kind pipeline
    """


@runs.command("list")
@click.option("--kind", type=click.Choice(["run", "pipeline", "step"]), help="Only runs of this kind.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def list_(out: Output, kind: str | None, limit: int) -> None:
    """List runs, newest first.

    \b
    Example: everloop runs list --kind pipeline
    """
    from everloop import tracking

    with out.workspace() as ws:
        columns = {
            "run": lambda one: one.id,
            "name": lambda one: one.name,
            "kind": lambda one: one.kind,
            "status": lambda one: one.status,
            "started": lambda one: one.started_at,
            "metrics": lambda one: one.metrics,
        }
        found = tracking.runs(ws, kind=kind, limit=limit)  # type: ignore[arg-type]  # click checked it
        out.table(found, columns, empty="No runs yet. Start one: everloop run PIPELINE")


@runs.command()
@click.argument("run_id")
@pass_output
def show(out: Output, run_id: str) -> None:
    """Show one run: parameters, metrics, code, environment, files.

    \b
    Example: everloop runs show run_0198...
    """
    from everloop import tracking

    with out.workspace() as ws:
        out.answer(tracking.run(ws, run_id))


@runs.command()
@click.argument("run_id")
@pass_output
def steps(out: Output, run_id: str) -> None:
    """Show the steps of a pipeline's run: what ran, what was taken from the cache, how long it took.

    \b
    Example: everloop runs steps run_0198...
    """
    from everloop import pipelines

    with out.workspace() as ws:
        columns = {
            "step": lambda one: one.node,
            "state": lambda one: one.state,
            "attempt": lambda one: one.attempt,
            "seconds": lambda one: one.seconds,
            "error": lambda one: one.error,
        }
        out.table(pipelines.pipeline_run(ws, run_id).steps, columns, empty="No step has begun.")
