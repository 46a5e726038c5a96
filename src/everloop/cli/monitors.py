"""`everloop monitors`: measures, findings, events."""

from __future__ import annotations

import click

from everloop.cli.output import Output, pass_output


@click.group()
def monitors() -> None:
    """Measures, findings and what is watched.

    \b
    Example: everloop monitors findings
    """


@monitors.command()
@click.argument("endpoint")
@click.option("--name", help="Only this measure, such as accuracy or latency_p99_ms.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def measures(out: Output, endpoint: str, name: str | None, limit: int) -> None:
    """List what was measured on an endpoint, oldest first.

    \b
    Example: everloop monitors measures category --name accuracy
    """
    from everloop import monitoring

    with out.workspace() as ws:
        columns = {
            "measure": lambda one: one.name,
            "version": lambda one: one.variant or "all",
            "from": lambda one: one.start,
            "to": lambda one: one.end,
            "value": lambda one: one.value,
            "95 %": lambda one: None if one.low is None else f"{one.low:.3g} to {one.high:.3g}",
            "n": lambda one: one.n,
        }
        found = monitoring.measures(ws, endpoint, names=(name,) if name else (), limit=limit)
        out.table(
            found,
            columns,
            empty="Nothing was measured yet: watches look while 'everloop up' or 'everloop work' runs.",
        )


@monitors.command()
@click.option("--endpoint")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def findings(out: Output, endpoint: str | None, limit: int) -> None:
    """List what was found, newest first.

    \b
    Example: everloop monitors findings --endpoint category
    """
    from everloop import monitoring

    with out.workspace() as ws:
        columns = {
            "finding": lambda one: one.id,
            "when": lambda one: one.at,
            "endpoint": lambda one: one.endpoint,
            "kind": lambda one: one.kind,
            "what": lambda one: one.message,
        }
        out.table(monitoring.findings(ws, endpoint, limit=limit), columns, empty="Nothing was found.")


@monitors.command()
@click.option("--kind", help="A kind, or a family such as rollout. (with the dot).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def events(out: Output, kind: str | None, limit: int) -> None:
    """List what happened, newest first.

    \b
    Example: everloop monitors events --kind rollout.
    """
    from everloop import events as room

    with out.workspace() as ws:
        columns = {
            "when": lambda one: one.at,
            "kind": lambda one: one.kind,
            "level": lambda one: one.level,
            "what": lambda one: one.message,
        }
        out.table(room.newest(ws, kind=kind, limit=limit), columns, empty="Nothing has happened yet.")
