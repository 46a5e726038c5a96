"""`everloop import`: what was tracked elsewhere, carried over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from everloop.cli.output import Output, pass_output

if TYPE_CHECKING:
    from everloop.adapters import Carried

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be carried over, and change nothing.")
_STRICT = click.option("--strict", is_flag=True, help="Exit with 3 when anything could not be carried over.")
_FOLDER = click.argument("folder", type=click.Path(path_type=Path))
_SECONDS_BETWEEN = 2.0  # lines of progress


@click.group("import")
def import_() -> None:
    """Move in: carry over what was tracked elsewhere.

    An import only reads its source. Done again it adds what is new since; killed in the middle it is simply done again.

    \b
    Example: everloop import mlflow http://127.0.0.1:5000
    """


@import_.command()
@click.argument("source", metavar="URI|SQLITE|FOLDER")
@click.option(
    "--artifacts", type=click.Path(path_type=Path), help="Where the artifacts are, if not beside the store."
)
@click.option(
    "--experiment", "experiments", multiple=True, metavar="NAME", help="Only this one; may be repeated."
)
@click.option(
    "--no-files", is_flag=True, help="Leave the artifacts, and so the model versions, where they are."
)
@click.option("--no-models", is_flag=True, help="Leave out the registered models.")
@click.option("--deleted", is_flag=True, help="Also what was deleted there and not yet removed.")
@click.option(
    "--username", envvar="MLFLOW_TRACKING_USERNAME", default="", show_envvar=True, help="For a server."
)
@click.option(
    "--password", envvar="MLFLOW_TRACKING_PASSWORD", default="", show_envvar=True, help="For a server."
)
@click.option(
    "--token", envvar="MLFLOW_TRACKING_TOKEN", default="", show_envvar=True, help="For a server, instead."
)
@_DRY_RUN
@_STRICT
@pass_output
def mlflow(
    out: Output,
    source: str,
    artifacts: Path | None,
    experiments: tuple[str, ...],
    no_files: bool,
    no_models: bool,
    deleted: bool,
    username: str,
    password: str,
    token: str,
    dry_run: bool,
    strict: bool,
) -> None:
    """Carry over experiments, runs, files and registered models of MLflow.

    From a running server (http://...), its SQLite file with the artifacts beside it, or a folder mlruns. Runs keep their ids.

    \b
    Example: everloop import mlflow mlflow.db --dry-run
    """
    from everloop import adapters

    with out.workspace() as ws:
        carried = adapters.import_mlflow(
            ws,
            source,
            artifacts=artifacts,
            experiments=experiments,
            with_files=not no_files,
            with_models=not no_models,
            with_deleted=deleted,
            username=username,
            password=password,
            token=token,
            is_dry_run=dry_run,
            progress=_progress(),
        )
    _tell(out, carried, strict=strict)


@import_.command()
@_FOLDER
@_DRY_RUN
@_STRICT
@pass_output
def wandb(out: Output, folder: Path, dry_run: bool, strict: bool) -> None:
    """Carry over the runs that Weights & Biases keeps in FOLDER: offline ones, and the local copy of others.

    \b
    Example: everloop import wandb wandb
    """
    from everloop import adapters

    with out.workspace() as ws:
        carried = adapters.import_wandb(ws, folder, is_dry_run=dry_run, progress=_progress())
    _tell(out, carried, strict=strict)


@import_.command()
@_FOLDER
@_DRY_RUN
@_STRICT
@pass_output
def tensorboard(out: Output, folder: Path, dry_run: bool, strict: bool) -> None:
    """Carry over the event files in FOLDER: each folder that has some is a run.

    \b
    Example: everloop import tensorboard runs
    """
    from everloop import adapters

    with out.workspace() as ws:
        carried = adapters.import_tensorboard(ws, folder, is_dry_run=dry_run, progress=_progress())
    _tell(out, carried, strict=strict)


def _progress() -> Callable[[str], None]:
    """Says how far an import is: on one line of a terminal, else on a new line now and then."""
    last = time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= (0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN):
            last = time.monotonic()
            click.echo(
                f"\r{text}\033[K" if sys.stderr.isatty() else text, err=True, nl=not sys.stderr.isatty()
            )

    return say


def _tell(out: Output, carried: Carried, *, strict: bool) -> None:
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    out.answer(carried, _text(carried))
    if strict and carried.left_out:
        sys.exit(3)


def _text(carried: Carried) -> str:
    lines = [
        f"{'Would carry' if carried.is_dry_run else 'Carried'} over from {carried.source} in {carried.seconds:.1f} s:",
        f"  runs      {carried.new_runs:,} new, {carried.changed_runs:,} changed, {carried.known_runs:,} here already",
        *([] if carried.is_dry_run else [f"  points    {carried.points:,}"]),
        f"  files     {carried.files:,} ({carried.size_bytes / 1e6:,.1f} MB)",
        f"  models    {carried.models:,} new, with {carried.versions:,} new versions",
    ]
    if carried.left_out:
        lines.append("Left out:")
    for one in carried.left_out:
        example = f" (such as {one.example})" if one.example else ""
        lines.append(f"  {one.count:,} x {one.what}: {one.why}{example}")
    return "\n".join(lines)
