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
        why = room.why_waiting(ws, found)
        columns = {
            "id": lambda one: one.id,
            "kind": lambda one: one.kind,
            "state": lambda one: one.state,
            "put": lambda one: one.put_at,
            "attempts": lambda one: one.attempts,
            "priority": lambda one: one.priority,
            "reason": lambda one: one.reason,
            "waits for": lambda one: why.get(one.id),
        }
        out.table(found, columns, empty="No such jobs. Schedules put them: everloop jobs schedules")


@jobs.command()
@click.argument("job_id")
@pass_output
def show(out: Output, job_id: str) -> None:
    """Show one job, its result or its error; of one that waits, why it does and how many are ahead of it.

    \b
    Example: everloop jobs show job_0198...
    """
    from everloop import jobs as room

    with out.workspace() as ws:
        found = room.job(ws, job_id)
        told = {**vars(found)}
        if found.state == "waiting":
            told |= {"waits_for": room.why_waiting(ws, [found])[job_id], "ahead": room.ahead(ws, job_id)}
        out.answer(told)


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
            "catch up": lambda one: (
                f"all, at most {one.catch_up_most}" if one.catch_up == "all" else one.catch_up
            ),
            "note": lambda one: (
                f"paused by {one.paused_by}: {one.pause_reason}" if one.paused_at else one.note
            ),
        }
        out.table(
            room.list_schedules(ws),
            columns,
            empty="No schedules. A loop file declares them: el.trigger(pipeline, cron='0 3 * * *')",
        )


@jobs.command()
@click.argument("schedule")
@click.option("--reason", required=True, help="Why, for whoever finds it paused.")
@pass_output
def pause(out: Output, schedule: str, reason: str) -> None:
    """Let a schedule fire no more until it is resumed; who paused it is recorded.

    \b
    Example: everloop jobs pause "train category" --reason "the source is being moved"
    """
    from everloop import jobs as room

    with out.workspace() as ws:
        room.pause_schedule(ws, schedule, reason=reason)
        out.answer({"paused": schedule}, f"Paused {schedule}.")


@jobs.command()
@click.argument("schedule")
@pass_output
def resume(out: Output, schedule: str) -> None:
    """Let a paused schedule go on with its next instant; what came meanwhile stays undone.

    \b
    Example: everloop jobs resume "train category"
    """
    from everloop import jobs as room

    with out.workspace() as ws:
        room.resume_schedule(ws, schedule)
        found = room.find_schedule(ws, schedule)
        at = "" if found is None else f" It comes next at {found.next_at:%Y-%m-%d %H:%M} UTC."
        out.answer({"resumed": schedule}, f"Resumed {schedule}.{at}")


@jobs.command()
@pass_output
def limits(out: Output) -> None:
    """List how many jobs of one sort may run at once, and the pools that they share.

    \b
    Example: everloop jobs limits
    """
    from everloop import jobs as room

    with out.workspace() as ws:
        places = room.pools(ws)
        columns = {
            "jobs of": lambda one: one.name,
            "at once": lambda one: "any number" if one.at_most is None else one.at_most,
            "when full": lambda one: one.when_full,
            "pool": lambda one: None if one.pool is None else f"{one.pool} ({places[one.pool]} places)",
        }
        out.table(
            room.all_lanes(ws), columns, empty="No limits. A loop file declares them: el.limit(pipeline, 1)"
        )
