"""The entry: global options, groups that load when used, errors as messages and exit codes."""

from __future__ import annotations

import difflib
import importlib
import itertools
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import click

from everloop.cli.output import Output
from everloop.errors import EverloopError
from everloop.settings import home_of

# command: (module, attribute, one sentence). Written here so that help needs none of the modules.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "access": ("access", "access", "Accounts and tokens: who may do what."),
    "apply": ("loop", "apply", "Plan and apply a loop file: what is created or changed."),
    "audit": ("governance", "audit", "Read and verify the chain of governed acts."),
    "backtest": ("backtest", "backtest", "Replay your own history: with the loop and without."),
    "ci": ("ci", "ci", "Gates for a pull request: run what it touches, compare, report."),
    "data": ("data", "data", "Datasets: ingest, clean, profile, diff."),
    "demo": ("demo", "demo", "The whole loop, told as a story."),
    "doctor": ("doctor", "doctor", "Check the installation and its home."),
    "endpoints": ("endpoints", "endpoints", "What is live where, now and then."),
    "export": ("export", "export", "A pipeline as a file for Airflow or Kubeflow."),
    "feedback": ("feedback", "feedback", "Corrections, outcomes and the review queue."),
    "impact": ("governance", "impact", "What depends on a row, a version, a person: forwards."),
    "import": ("imports", "import_", "Move in from MLflow, Weights & Biases or TensorBoard."),
    "init": ("begin", "init", "A project from a table: guess, write loop.py, train."),
    "jobs": ("jobs", "jobs", "Background work: what waits, runs, ended, is scheduled."),
    "labels": ("labels", "labels", "Taxonomies, labels, snapshots, quality."),
    "models": ("models", "models", "Versions, gates, approvals, stages, releases."),
    "monitors": ("monitors", "monitors", "Measures, findings and what is watched."),
    "predictions": ("predictions", "predictions", "The prediction log: look, export, expire, erase."),
    "reproduce": ("runs", "reproduce", "Do a run again in a fresh place and compare what comes of it."),
    "rollouts": ("rollouts", "rollouts", "Canaries: plan, start, pause, roll back, look."),
    "run": ("loop", "run", "Run a pipeline now."),
    "runs": ("runs", "runs", "Training runs: parameters, metrics, artifacts."),
    "score": ("loop", "score", "Score a file or dataset with a released version."),
    "search": ("search", "search", "Search for parameters: each trial a run of the pipeline."),
    "serve": ("server", "serve", "The data plane alone: predictions."),
    "step": ("steps", "step", "One step of a run, for an engine outside that conducts it."),
    "trace": ("governance", "trace", "Where a prediction, a model or a run comes from: backwards."),
    "triggers": ("triggers", "triggers", "What starts pipelines by itself: conditions, calls, schedules."),
    "up": ("server", "up", "API, pages, predictions and background work."),
    "why": ("governance", "why", "Why something happened, on which numbers."),
    "work": ("server", "work", "Run due background jobs and stop."),
}


class _Commands(click.Group):
    """Groups that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"everloop.cli.{module}"), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean 'everloop {near[0]}'?" if near else "'everloop --help' lists the commands."
            raise click.UsageError(f"there is no command {args[0]!r}. {hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in sorted(COMMANDS)])


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="The workspace's folder [EVERLOOP_HOME, else ./.everloop].",
)
@click.option("--actor", help="Who acts, as the audit log records it [EVERLOOP_ACTOR, else the system user].")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@click.version_option(package_name="everloop", prog_name="everloop")
@click.pass_context
def everloop(ctx: click.Context, home: Path | None, actor: str | None, as_json: bool) -> None:
    """The whole MLOps loop in one install.

    \b
    Begin with your own table:      everloop init FILE.csv
    or see the loop on a story:     everloop demo
    """
    ctx.obj = Output(home=home, actor=actor, as_json=as_json)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; errors become one message on stderr and an exit code."""
    arguments = _global_options_first(sys.argv[1:] if arguments is None else arguments)
    try:
        everloop.main(args=arguments, prog_name="everloop", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EverloopError as error:
        from everloop.api import exit_code_of

        click.echo(f"Error: {error}", err=True)
        sys.exit(exit_code_of(error))
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  (the last resort: a message for the person, the traceback in a file)
        click.echo(f"Error: {_unexpected(error, arguments)}", err=True)
        sys.exit(1)


def _unexpected(error: Exception, arguments: list[str]) -> str:
    """What to tell of a fault that nobody foresaw; its traceback goes into the home, else into a temporary folder."""
    name = f"everloop-error-{os.getpid()}-{time.time_ns()}.txt"
    text = "".join(traceback.format_exception(error))
    told = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    for folder in (_home_in(arguments), Path(tempfile.gettempdir())):
        try:
            (folder / name).write_text(text)
        except OSError:
            continue
        return (
            f"an unexpected fault of everloop: {told}. The whole traceback is in {folder / name}: report it with that file. "
            "'everloop doctor' checks the installation."
        )
    return f"an unexpected fault of everloop: {told}. Its traceback could not be written, as no disk takes it: see 'everloop doctor'."


def _home_in(arguments: list[str]) -> Path:
    """The home that the command line or the environment names, without reading its settings, which may be what is broken."""
    named = [
        argument.removeprefix("--home=") if argument.startswith("--home=") else after
        for argument, after in itertools.pairwise([*arguments, ""])
        if argument == "--home" or argument.startswith("--home=")
    ]
    return Path(named[0]) if named else home_of()


def _global_options_first(arguments: list[str]) -> list[str]:
    """Let --home, --actor and --json stand anywhere on the line, as people type them."""
    first: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            rest += [argument, *waiting]
        elif argument == "--json":
            first.append(argument)
        elif argument in ("--home", "--actor"):
            first += [argument, *([value] if (value := next(waiting, None)) is not None else [])]
        elif argument.startswith(("--home=", "--actor=")):
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest
