"""`everloop triggers`: what starts pipelines by itself."""

from __future__ import annotations

import click

from everloop.cli.loop import param_option, parameters
from everloop.cli.output import Output, pass_output


@click.group()
def triggers() -> None:
    """What starts pipelines by itself: conditions, calls, schedules.

    \b
    Example: everloop triggers list
    """


@triggers.command("list")
@pass_output
def list_(out: Output) -> None:
    """List the triggers: how far each is from firing, and when it last did.

    \b
    Example: everloop triggers list
    """
    from everloop import triggers as room

    with out.workspace() as ws:
        columns = {
            "trigger": lambda one: one.name,
            "pipeline": lambda one: one.pipeline,
            "stands at": lambda one: one.told,
            "last": lambda one: one.last_at,
            "next": lambda one: one.next_at,
        }
        out.table(
            room.standings(ws),
            columns,
            empty="No triggers. A loop file declares them: el.trigger(pipeline, when=...) or cron='0 3 * * *'",
        )


@triggers.command()
@click.argument("name", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def firings(out: Output, name: str | None, limit: int) -> None:
    """List what triggers started, or one of them, newest first.

    \b
    Example: everloop triggers firings report
    """
    from everloop import triggers as room

    with out.workspace() as ws:
        if name is not None:
            room.find(ws, name)
        columns = {
            "firing": lambda one: one.id,
            "trigger": lambda one: one.trigger,
            "at": lambda one: one.at,
            "by": lambda one: one.by,
            "reason": lambda one: one.reason,
            "job": lambda one: one.job or f"refused: {one.refused}",
        }
        out.table(
            room.firings(ws, name, limit=limit), columns, empty="Nothing yet. See: everloop triggers list"
        )


@triggers.command()
@click.argument("name")
@param_option
@click.option("--key", help="The same key again is the same call, and starts nothing more.")
@pass_output
def fire(out: Output, name: str, params: tuple[str, ...], key: str | None) -> None:
    """Call a trigger now: its pipeline is run by background work.

    \b
    Example: everloop triggers fire report --param month=May --key report-of-may
    """
    from everloop import triggers as room

    with out.workspace() as ws:
        made = room.call(ws, name, parameters(params), key=key)
        if made.firing is None:
            out.answer(made, f"{name} was called and waits: {made.waits}.")
        else:
            again = ", as when this call was made before" if made.is_known else ""
            job = made.firing.job
            out.answer(
                made, f"{name} fired{again}: {job} will run {made.firing.run} (everloop jobs show {job})."
            )


@triggers.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why, for whoever finds it paused.")
@pass_output
def pause(out: Output, name: str, reason: str) -> None:
    """Let a trigger and its schedule fire no more until it is resumed; who paused it is recorded.

    \b
    Example: everloop triggers pause report --reason "the receiver is down"
    """
    from everloop import triggers as room

    with out.workspace() as ws:
        room.pause(ws, name, reason=reason)
        out.answer({"paused": name}, f"Paused {name}.")


@triggers.command()
@click.argument("name")
@pass_output
def resume(out: Output, name: str) -> None:
    """Let a paused trigger go on; events that came meanwhile count, instants of its schedule do not.

    \b
    Example: everloop triggers resume report
    """
    from everloop import triggers as room

    with out.workspace() as ws:
        room.resume(ws, name)
        out.answer({"resumed": name}, f"Resumed {name}.")


@triggers.command()
@click.argument("name")
@click.option("--renew", is_flag=True, help="Make another one; the old one is worth nothing from now on.")
@pass_output
def secret(out: Output, name: str, renew: bool) -> None:
    """Show the secret that calls of a trigger over HTTP are signed with.

    \b
    Example: everloop triggers secret report
    """
    from everloop import triggers as room

    with out.workspace() as ws:
        found = room.secret_of(ws, name, renew=renew)
        out.answer({"secret": found}, found)
