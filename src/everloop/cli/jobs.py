"""`everloop jobs`: background work."""

from __future__ import annotations

import click

from everloop.cli.output import Output, pass_output


@click.group()
def jobs() -> None:
    """Background work: what waits, runs, ended, is scheduled.

    \b
    Example: everloop jobs list --state failed
    """


@jobs.command("list")
@click.option("--kind", help="Only jobs of this kind, such as train.")
@click.option(
    "--state", type=click.Choice(["waiting", "running", "done", "failed", "cancelled"]), multiple=True
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def list_(out: Output, kind: str | None, state: tuple[str, ...], limit: int) -> None:
    """List the newest jobs.

    \b
    Example: everloop jobs list --kind train
    """
    from everloop import jobs as room

    with out.workspace() as ws:
        found = room.jobs_of(ws, kind=kind, states=state, limit=limit)  # type: ignore[arg-type]  # click checked them
        columns = {
            "id": lambda one: one.id,
            "kind": lambda one: one.kind,
            "state": lambda one: one.state,
            "put": lambda one: one.put_at,
            "attempts": lambda one: one.attempts,
            "reason": lambda one: one.reason,
        }
        out.table(found, columns, empty="No such jobs. Schedules put them: everloop jobs schedules")


@jobs.command()
@click.argument("job_id")
@pass_output
def show(out: Output, job_id: str) -> None:
    """Show one job, its result or its error.

    \b
    Example: everloop jobs show job_0198...
    """
    from everloop import jobs as room

    with out.workspace() as ws:
        out.answer(room.job(ws, job_id))


@jobs.command()
@click.argument("job_id")
@click.option("--reason", required=True)
@pass_output
def cancel(out: Output, job_id: str, reason: str) -> None:
    """Cancel a job that has not ended; a running one's result is not kept.

    \b
    Example: everloop jobs cancel job_0198... --reason "wrong data"
    """
    from everloop import jobs as room

    with out.workspace() as ws:
        room.cancel(ws, job_id, reason=reason)
        out.answer({"cancelled": job_id}, f"Cancelled {job_id}.")


@jobs.command()
@pass_output
def schedules(out: Output) -> None:
    """List the schedules and when each fires next.

    \b
    Example: everloop jobs schedules
    """
    from everloop import jobs as room

    with out.workspace() as ws:
        columns = {
            "name": lambda one: one.name,
            "cron": lambda one: f"{one.cron} ({one.time_zone})",
            "job": lambda one: one.kind,
            "next": lambda one: one.next_at,
            "last": lambda one: one.last_at,
        }
        out.table(
            room.list_schedules(ws),
            columns,
            empty="No schedules. A loop file declares them: el.retrain(..., cron=...)",
        )
