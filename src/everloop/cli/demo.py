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
    required=True,
    help="A folder of real listings: labelled seed, months of traffic, corrections.",
)
@click.option("--fast", is_flag=True, help="Fewer rows.")
@pass_output
def demo(out: Output, data: Path, fast: bool) -> None:
    """Tell the whole loop as a story, on real listings; exit 0 only if it closed.

    \b
    Example: everloop demo --data ./listings --home ./demo
    """
    import everloop.demo as room

    home = out.home or Path(tempfile.mkdtemp(prefix="everloop-demo-")) / "home"
    try:
        room.tell_story(home, data=data, fast=fast, say=click.echo)
    except room.StoryFailed as failed:
        click.echo(f"\nThe loop did NOT close: {failed}", err=True)
        sys.exit(3)
    click.echo(f"\nThe loop closed. Look at it: everloop up --home {home}")
