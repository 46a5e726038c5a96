"""`everloop step`: a run whose tasks an engine outside of everloop begins, such as Airflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from everloop.cli.loop import param_option, parameters, tell, text, told_of
from everloop.cli.output import Output, pass_output

if TYPE_CHECKING:
    from everloop.pipelines import StepRun

_RUN = click.option("--run", required=True, help="The run's id, or the key that it was begun under.")
_STEP = click.option("--step", "name", required=True, help="The step's name in the pipeline.")


@click.group()
def step() -> None:
    """One step of a run, for an engine outside that conducts it.

    Airflow, Kubeflow or a script of yours begins a run, runs its steps in their order, several at once if it likes, and
    ends it. Journal, cache, code snapshot and lineage are those of everloop run. Each command may be repeated: what is
    done already is told and not done again.

    \b
    Example: everloop step run --run nightly-7 --step fit
    """


@step.command()
@click.argument("pipeline")
@click.option("--key", required=True, help="The engine's name for its run; the same key gives the same run.")
@param_option
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter that is text, whatever it looks like.",
)
@click.option(
    "--file", type=click.Path(path_type=Path), help="Run from this loop file, instead of the applied one."
)
@click.option("--reason", default="conducted from outside", show_default=True)
@click.option("--seed", type=int, help="What random numbers begin with [0].")
@pass_output
def begin(
    out: Output,
    pipeline: str,
    key: str,
    params: tuple[str, ...],
    texts: tuple[str, ...],
    file: Path | None,
    reason: str,
    seed: int | None,
) -> None:
    """Begin a run without running anything, so that its code and inputs are settled now.

    Prints the run's id. What has begun under the key before is found again.

    \b
    Example: everloop step begin train --key nightly-7
    """
    from everloop import loop as room
    from everloop import pipelines

    with out.workspace() as ws:
        found = room.load(file) if file is not None else room.loaded(ws)
        run = pipelines.begin_run(
            ws,
            found.pipeline(pipeline),
            key=key,
            params={**parameters(params), **dict(map(text, texts))},
            reason=reason,
            seed=pipelines.DEFAULT_SEED if seed is None else seed,
        )
        out.answer({"run": run.id, "key": key, "steps": list(run.plan["steps"])}, run.id)


@step.command()
@_RUN
@_STEP
@pass_output
def items(out: Output, run: str, name: str) -> None:
    """List the items of a map as JSON, so that each can be run by a task of its own; [] when there is nothing to do.

    \b
    Example: everloop step items --run nightly-7 --step fit
    """
    from everloop import pipelines

    with out.workspace() as ws:
        listed = list(pipelines.step_items(ws, run, name))
        out.answer(listed, str(listed))


@step.command("run")
@_RUN
@_STEP
@click.option("--item", type=int, help="One item of a map, by its number; its items are listed first.")
@click.option(
    "--value",
    type=click.Path(path_type=Path),
    help="A file to write what the step made into, as JSON; of a step that makes such a value.",
)
@pass_output
def run_(out: Output, run: str, name: str, item: int | None, value: Path | None) -> None:
    """Run one step, once; a map without --item runs what is missing and gathers the results.

    Exits with 0 when the step is done (now or before), with 3 when its condition does not hold and it is skipped, with 75
    when what it waits for is not there, when somebody else works on it, and when it failed and may be tried again, and
    with 1 when it failed for good.

    \b
    Example: everloop step run --run nightly-7 --step fit --item 3
    """
    from everloop import pipelines

    with out.workspace() as ws:
        ended = pipelines.run_step(ws, run, name, item=item, on_progress=lambda one: tell(out, one))
        if value is not None and ended.output is not None:
            if ended.output.kind != "json":
                raise click.UsageError(
                    f"{ended.node} made a {ended.output.kind}, which is no JSON value. Leave out --value."
                )
            value.write_text(json.dumps(pipelines.output_of(ws, ended.run, ended.node)))
        out.answer(ended, _told(ended))
    if ended.state == "skipped":
        sys.exit(3)


@step.command()
@_RUN
@pass_output
def end(out: Output, run: str) -> None:
    """End a run, as done when all its steps are, else as failed.

    When a model is declared on the pipeline, what it made is registered and gated.

    \b
    Example: everloop step end --run nightly-7
    """
    from everloop import loop as room

    with out.workspace() as ws:
        ended = room.end_training(ws, run)
        out.answer(ended, told_of(ended))


def _told(ended: StepRun) -> str:
    words = {
        "cached": f"taken from the cache, made by {ended.made_by}",
        "skipped": "skipped: its condition does not hold",
        "failed": "failed, and is optional",
        "ran_anyway": "done, though the run has failed",
    }
    made = "" if ended.output is None else f"  {ended.output.kind} {ended.output.digest}"
    return f"{ended.node} {words.get(ended.state, ended.state)}.{made}"
