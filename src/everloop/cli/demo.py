"""`everloop demo`: the whole loop, told as a story."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from everloop.cli.output import Output, pass_output


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of real listings: labelled seed, months of traffic, corrections. Without it, listings are simulated.",
)
@click.option("--fast", is_flag=True, help="Fewer listings.")
@pass_output
def demo(out: Output, data: Path | None, fast: bool) -> None:
    """Tell the whole loop as a story; exit 0 only if it closed.

    Without --data it runs on a simulated marketplace, made on this machine, and says so throughout.

    \b
    Example: everloop demo --home ./demo
    """
    import everloop.demo as room

    home = out.home or Path(tempfile.mkdtemp(prefix="everloop-demo-")) / "home"
    try:
        if data is None:
            room.tell_simulated_story(home, fast=fast, say=click.echo)
        else:
            room.tell_story(home, data=data, fast=fast, say=click.echo)
    except room.StoryFailed as failed:
        click.echo(f"\nThe loop did NOT close: {failed}", err=True)
        sys.exit(3)
    on = " on simulated listings" if data is None else ""
    click.echo(f"\nThe loop closed{on}. Look at it: everloop up --home {home}")
