"""`everloop up`, `everloop serve`, `everloop work`: the processes of a running everloop."""

from __future__ import annotations

import logging
import time

import click

from everloop.cli.output import Output, pass_output

_with_parent = click.option("--with-parent", type=int, hidden=True, help="The process to stop with.")


@click.command()
@click.option("--host", help="Address to listen on [127.0.0.1]; another than loopback needs auth = 'token'.")
@click.option(
    "--port",
    type=click.IntRange(1, 65_534),
    help="Port of API and pages [8400]; predictions also on the next one.",
)
@click.option(
    "--artifact-root",
    metavar="URI",
    help="Where MLflow's clients keep the files of new runs, such as file:///srv/artifacts [with everloop].",
)
@_with_parent
@pass_output
def up(
    out: Output, host: str | None, port: int | None, artifact_root: str | None, with_parent: int | None
) -> None:
    """Serve API, pages and predictions, and do background work, until stopped.

    \b
    Example: everloop up --home ./shop --port 8400
    """
    from everloop.cli.parent import stop_with_parent
    from everloop.cli.processes import run_server
    from everloop.settings import load_settings

    if with_parent is not None:
        stop_with_parent(with_parent)
    settings = load_settings(out.home, actor=out.actor, host=host, port=port, artifact_root=artifact_root)
    run_server(settings, say=out.say)


@click.command()
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of predictions [8401].")
@click.option(
    "--workers",
    type=click.IntRange(1, 1_024),
    help="How many processes share the port [the setting serving_workers, 1].",
)
@_with_parent
@pass_output
def serve(
    out: Output, host: str | None, port: int | None, workers: int | None, with_parent: int | None
) -> None:
    """Serve predictions alone: reads releases and routes from the home, needs no database.

    \b
    Example: everloop serve --home ./shop --port 8401 --workers 2
    """
    from everloop.cli.parent import stop_with_parent
    from everloop.serving import run
    from everloop.settings import load_settings

    settings = load_settings(out.home, host=host, serving_workers=workers)
    if with_parent is not None:
        stop_with_parent(with_parent)
    say = out.say if with_parent is None else None  # a parent says it itself
    run(settings, host=settings.host, port=port or settings.port + 1, say=say)


@click.command()
@click.option("--only", type=click.Choice(["ticks", "jobs"]), help="Do one sort of work alone.")
@click.option(
    "--linger",
    "linger_s",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 3600),
    help="Seconds to wait for more work before stopping.",
)
@_with_parent
@pass_output
def work(out: Output, only: str | None, linger_s: float, with_parent: int | None) -> None:
    """Run due background work and stop when there is none: what 'everloop up' does by itself.

    \b
    Example: everloop work
    """
    from everloop import background
    from everloop.cli.parent import stop_with_parent

    if with_parent is not None:
        stop_with_parent(with_parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    done, quiet_since = 0, time.monotonic()
    with out.workspace() as ws:
        ticker = background.Ticker(ws)
        while True:
            did = ticker.turn() if only != "jobs" else 0
            did += background.run_jobs(ws) if only != "ticks" else 0
            done += did
            if did:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= linger_s:
                break
            else:
                time.sleep(0.1)
    if not with_parent:  # the parent's terminal is not the place for a line every other minute
        out.answer({"done": done}, f"Did {done} things.")
