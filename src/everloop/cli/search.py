"""`everloop search`: which parameters of a pipeline give the best result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from everloop.cli.loop import executor_options
from everloop.cli.output import Output, pass_output, shown

if TYPE_CHECKING:
    from everloop.loop import Loop
    from everloop.searches import Search, Trial
    from everloop.workspace import Workspace


@click.group()
def search() -> None:
    """Search for parameters: each trial a run of the pipeline.

    \b
    Example: everloop search run train
    """


@search.command()
@click.argument("name")
@click.option("--trials", type=click.IntRange(1), help="How many, instead of what the loop file says.")
@click.option("--parallel", type=click.IntRange(1), help="How many at once, instead of what it says.")
@click.option("--seed", type=int, help="What is drawn begins with it [0].")
@executor_options
@pass_output
def run(
    out: Output,
    name: str,
    trials: int | None,
    parallel: int | None,
    seed: int | None,
    executor: str | None,
    ray_address: str | None,
) -> None:
    """Run a search that the applied loop file declares with el.search, and name the best trial.

    \b
    Example: everloop search run train --trials 20 --parallel 2
    """
    from dataclasses import replace

    from everloop import loop, searches

    with out.workspace(ray_address=ray_address) as ws:
        found = loop.loaded(ws)
        declared = {one.name: one for one in found.declared.of(loop.DeclaredSearch)}
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise click.UsageError(
                f"the applied loop file declares no search {name!r}; it has {known}. Declare one: el.search(pipeline, ...)"
            )
        one = declared[name]
        asked: dict[str, Any] = {"trials": trials, "parallel": parallel, "seed": seed}
        plan = replace(one.plan, **{key: value for key, value in asked.items() if value is not None})
        made = searches.run_search(
            ws,
            one.pipeline,
            plan,
            name=name,
            code=_code(ws),
            executor=executor,
            on_trial=lambda trial: _tell(out, trial),
        )
        _answer(out, made)


@search.command()
@click.argument("search_id")
@executor_options
@pass_output
def resume(out: Output, search_id: str, executor: str | None, ray_address: str | None) -> None:
    """Go on with a search that was cut off: finished trials stay, interrupted ones go on where they were.

    \b
    Example: everloop search resume srch_0198...
    """
    from everloop import loop, searches

    with out.workspace(ray_address=ray_address) as ws:
        known = searches.find(ws, search_id)
        pipeline = _pipeline(loop.loaded(ws), known.pipeline)
        made = searches.resume(
            ws,
            search_id,
            pipeline,
            code=_code(ws),
            executor=executor,
            on_trial=lambda trial: _tell(out, trial),
        )
        _answer(out, made)


@search.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def list_(out: Output, limit: int) -> None:
    """List the newest searches and the best trial of each.

    \b
    Example: everloop search list
    """
    from everloop import searches

    with out.workspace() as ws:
        columns = {
            "search": lambda one: one.id,
            "name": lambda one: one.name,
            "method": lambda one: one.plan.method,
            "state": lambda one: one.state,
            "started": lambda one: one.started_at,
            "best": lambda one: None if one.best is None else one.best.value,
            "with": lambda one: None if one.best is None else one.best.params,
        }
        found = searches.searches(ws, limit=limit)
        out.table(found, columns, empty="No searches. A loop file declares them: el.search(pipeline, ...)")


@search.command()
@click.argument("search_id")
@pass_output
def show(out: Output, search_id: str) -> None:
    """Show the trials of a search: parameters, result, and why one was stopped or failed.

    \b
    Example: everloop search show srch_0198...
    """
    from everloop import searches

    with out.workspace() as ws:
        columns = {
            "trial": lambda one: one.number,
            "state": lambda one: one.state,
            "value": lambda one: one.value,
            "reached": lambda one: one.reached,
            "parameters": lambda one: one.params,
            "run": lambda one: one.run,
            "told": lambda one: (one.told or "").partition("\n")[0] or None,
        }
        out.table(searches.trials(ws, search_id), columns, empty="It has no trial yet.")


def _pipeline(found: Loop, name: str) -> Any:
    if name not in found.pipelines:
        raise click.UsageError(
            f"{found.file.name} has no pipeline {name!r} any more; it has {', '.join(found.pipelines)}."
        )
    return found.pipelines[name]


def _code(ws: Workspace) -> str | None:
    from everloop import loop

    applied = loop.newest(ws)
    return None if applied is None else applied.code


def _tell(out: Output, trial: Trial) -> None:
    told = "" if trial.told is None else f"  {trial.told.partition(chr(10))[0]}"
    value = "" if trial.value is None else f"  {shown(trial.value)}"
    out.say(f"[{trial.number}] {trial.state:<8} {shown(dict(trial.params))}{value}{told}")


def _answer(out: Output, made: Search) -> None:
    best = made.best
    if best is None:
        out.answer(made, f"{made.id} is {made.state}.")
        return
    given = " ".join(f"--param {name}={value}" for name, value in best.params.items())
    out.answer(
        made,
        f"{made.id} {made.state}: {made.plan.by} {shown(best.value)} in trial {best.number}, {best.run}.\n"
        f"Run it with these for good: everloop run {made.pipeline} {given}",
    )
