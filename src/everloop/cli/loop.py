"""`everloop apply` and `everloop run`: the loop file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from everloop.cli.output import Output, pass_output

if TYPE_CHECKING:
    from everloop.loop import Trained
    from everloop.pipelines import Progress

_SIGNS = {"create": "+", "change": "~", "keep": " ", "forget": "-"}


# The values are read by `parameters`.
param_option = click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter; the value is JSON or plain text.",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("loop.py"))
@click.option("--dry-run", is_flag=True, help="Show what would change and change nothing.")
@pass_output
def apply(out: Output, file: Path, dry_run: bool) -> None:
    """Plan and apply a loop file: what is created or changed.

    \b
    Example: everloop apply loop.py --dry-run
    """
    from everloop import loop as room

    with out.workspace() as ws:
        found = room.load(file)
        before = room.newest(ws)
        changes = room.plan(found.declared, {} if before is None else before.declared)
        if not dry_run:
            changes = room.apply(ws, found)
        lines = [
            f"{_SIGNS[change.action]} {change.action:<7} {change.kind:<11} {change.name}"
            + (f"  ({', '.join(change.fields)})" if change.fields else "")
            for change in changes
        ]
        done = "Nothing was changed (--dry-run)." if dry_run else f"Applied {file}."
        out.answer(changes, "\n".join([*lines, done]))


@click.command()
@click.argument("pipeline")
@param_option
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Run from this loop file as it stands, instead of the applied one.",
)
@click.option("--reason", default="asked for on the command line", show_default=True)
@click.option(
    "--force",
    multiple=True,
    metavar="STEP",
    help="Run this step whatever the cache holds; a function stands for all its calls, 'all' for each step.",
)
@click.option("--seed", type=int, help="What random numbers begin with [0]; another one runs all steps anew.")
@click.option("--executor", help="Where its steps run: inline, processes, ray [the setting executor].")
@pass_output
def run(
    out: Output,
    pipeline: str,
    params: tuple[str, ...],
    file: Path | None,
    reason: str,
    force: tuple[str, ...],
    seed: int | None,
    executor: str | None,
) -> None:
    """Run a pipeline now; a declared model's result is gated and registered as a candidate.

    Ends with 3 when a gate fails.

    \b
    Example: everloop run train --reason "new labels"
    """
    from everloop import loop as room
    from everloop import pipelines

    with out.workspace() as ws:
        found = room.load(file) if file is not None else room.loaded(ws)
        with redirect_stdout(sys.stderr):  # what steps print is no part of the answer
            ended = room.train(
                ws,
                found,
                pipeline,
                params=parameters(params),
                reason=reason,
                on_progress=lambda one: tell(out, one),
                seed=pipelines.DEFAULT_SEED if seed is None else seed,
                executor=executor,
                force=force,
            )
        out.answer(ended, told_of(ended))
    if not ended.passed:
        sys.exit(3)


@click.command()
@click.argument("version")
@click.argument("source")
@click.option(
    "--key", help="The column that names a row in the answer [the dataset's key, a file's first column]."
)
@click.option("--output", type=click.Path(path_type=Path), help="Write a Parquet file instead of printing.")
@pass_output
def score(out: Output, version: str, source: str, key: str | None, output: Path | None) -> None:
    """Score a file (Parquet, CSV, JSONL) or a dataset version such as listings@18 with a released model version.

    The predictor that serves the version answers.

    \b
    Example: everloop score category@2 october.parquet --output answers.parquet
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from everloop import data
    from everloop import loop as room

    with out.workspace() as ws:
        if Path(source).exists():
            rows, _ = data.typed(data.load(Path(source), key=None, file_format=None))
            name = key or rows.column_names[0]
        else:
            rows = data.read(ws, source)
            name = key or data.dataset(ws, source.partition("@")[0]).key or data.ROW_ID
        if name not in rows.column_names:
            raise click.UsageError(f"{source} has no column {name!r}; it has {', '.join(rows.column_names)}.")
        answers = room.score(ws, version, rows)
    if output is not None:
        pq.write_table(pa.table({name: rows[name], "output": answers["output"]}), output)
        out.answer({"rows": len(rows), "file": str(output)}, f"{len(rows):,} rows scored into {output}.")
        return
    pairs = dict(zip(map(str, rows[name].to_pylist()), answers["output"].to_pylist(), strict=True))
    out.answer(pairs, "\n".join(f"{name}  {answer}" for name, answer in pairs.items()))


def told_of(ended: Trained) -> str:
    """How a run ended, and what its model's gates say."""
    if ended.version is None:
        return f"{ended.run} done."
    verdict = "passed its gates" if ended.passed else "FAILED its gates"
    return f"{ended.run} done: {ended.version} {verdict} (everloop models show {ended.version})."


def parameters(given: Iterable[str]) -> dict[str, Any]:
    """What was given as NAME=VALUE, each value JSON where it can be read so."""
    return dict(map(_param, given))


def text(given: str) -> tuple[str, str]:
    """A parameter's name and value, as text."""
    name, separator, value = given.partition("=")
    if not separator:
        raise click.UsageError(f"the parameter {given!r} has no value; write NAME=VALUE, such as c=4.")
    return name, value


def _param(given: str) -> tuple[str, Any]:
    name, value = text(given)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def tell(out: Output, one: Progress) -> None:
    """Tell a step's progress."""
    took = "" if one.seconds is None else f"  {one.seconds:.1f} s"
    words = {
        "step_started": "...    ",
        "step_cached": "cached ",
        "step_done": "done   ",
        "step_retried": "retry  ",
        "step_failed": "FAILED ",
        "step_skipped": "skip   ",
    }
    if one.kind in ("step_touched", "environment_built"):
        out.say(f"        {one.message}")
    if one.kind in words:
        out.say(
            f"[{one.done}/{one.total}] {words[one.kind]}{one.label}{took}{'  ' + one.message if one.message else ''}"
        )
