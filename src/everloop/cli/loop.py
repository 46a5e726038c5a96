"""`everloop apply` and `everloop run`: the loop file."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from everloop.cli.output import Output, pass_output
from everloop.errors import NotFound

if TYPE_CHECKING:
    from everloop.loop import Trained
    from everloop.pipelines import Progress

F = TypeVar("F", bound=Callable[..., Any])

_TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq"}
_SIGNS = {"create": "+", "change": "~", "keep": " ", "forget": "-"}


# The values are read by `parameters`.
param_option = click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter; the value is JSON or plain text.",
)


def executor_options(command: F) -> F:
    """Where steps run; `executor` is ray when only a cluster is named."""
    where = click.option("--executor", help="Where steps run: inline, processes, ray [the setting executor].")
    address = click.option(
        "--ray-address",
        metavar="HOST:PORT",
        help="The head of the Ray cluster; with it the executor is ray [the setting ray_address].",
    )

    @functools.wraps(command)
    def chosen(*args: Any, executor: str | None, ray_address: str | None, **kwargs: Any) -> Any:
        if ray_address is not None and executor not in (None, "ray"):
            raise click.UsageError(
                f"--ray-address names a Ray cluster, and --executor is {executor}. Leave one out."
            )
        executor = executor if ray_address is None else "ray"
        return command(*args, executor=executor, ray_address=ray_address, **kwargs)

    return cast("F", where(address(chosen)))


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
@executor_options
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
    ray_address: str | None,
) -> None:
    """Run a pipeline now; a declared model's result is gated and registered as a candidate.

    Ends with 3 when a gate fails.

    \b
    Example: everloop run train --reason "new labels"
    """
    from everloop import loop as room
    from everloop import pipelines

    with out.workspace(ray_address=ray_address) as ws:
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
@click.argument("source", required=False)
@click.option(
    "--sql",
    metavar="QUERY",
    help='Score what a query gives, in DuckDB\'s SQL: listings is the newest version of a dataset, "listings@3" that one.',
)
@click.option(
    "--database",
    metavar="SECRET",
    help="Ask --sql in the database whose URL is the value of this secret, in its own SQL.",
)
@click.option(
    "--key", help="The column that names a row in the answer [the dataset's key, a file's first column]."
)
@click.option(
    "--output",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a Parquet file instead of printing.",
)
@click.option("--to", metavar="DATASET", help="Make the answers the next version of this dataset.")
@click.option("--only-new", is_flag=True, help="Score only rows whose key has no answer in --to yet.")
@click.option(
    "--processes", type=click.IntRange(1), help="How many processes score at once [a process a core]."
)
@click.option(
    "--part-rows", type=click.IntRange(1), help="Rows in a part; parts are scored side by side [50,000]."
)
@executor_options
@pass_output
def score(
    out: Output,
    version: str,
    source: str | None,
    sql: str | None,
    database: str | None,
    key: str | None,
    output: Path | None,
    to: str | None,
    only_new: bool,
    processes: int | None,
    part_rows: int | None,
    executor: str | None,
    ray_address: str | None,
) -> None:
    """Score a table with a released model version, or with the version that an endpoint answers with.

    The table is a file (Parquet, CSV, JSONL), a folder of such files or of images, a dataset version such as listings@18,
    or what a query gives. The predictor that serves the version answers, and scoring is a run with lineage: after a kill
    the same command goes on, and no part is scored twice. The answers have for each row the key, output, its score, the
    best scores, the version, and an error where the endpoint would have answered with one.

    \b
    Example: everloop score category@2 october.parquet --output answers.parquet --processes 2
    """
    from everloop import loop as room
    from everloop.data import check_dataset_name

    if (source is None) == (sql is None):
        raise click.UsageError(
            "name one thing to score: a file, a folder or a dataset version, or --sql QUERY."
        )
    if sql is None and database is not None:
        raise click.UsageError(
            f"--database {database} names where --sql is asked. Give the query with --sql."
        )
    if processes is not None and executor not in (None, "processes"):
        raise click.UsageError(
            f"--processes says how many processes score, and --executor is {executor}. Leave one out."
        )
    path = Path(source or "")
    if source is not None and not path.exists() and ("/" in source or path.suffix in _TABLES):
        raise NotFound(
            f"there is no file {source}. Name one that is there, a folder, or a dataset version such as listings@18."
        )
    if to is not None:
        check_dataset_name(to)  # now, not after the scoring
    rows = room.Query(sql, database) if sql is not None else path if path.exists() else str(source)
    with out.workspace(ray_address=ray_address) as ws, redirect_stdout(sys.stderr):
        made = room.score_batch(
            ws,
            version,
            rows,
            key=key,
            to=to,
            only_new=only_new,
            part_rows=part_rows or room.PART_ROWS,
            executor=executor,
            processes=processes,
            output=output,
            on_progress=lambda one: tell(out, one),
        )
    if output is not None or to is not None:
        facts = {"rows": made.rows, "failed": made.failed, "run": made.run, "release": made.release}
        failed = f" {made.failed:,} have an error instead of an output." if made.failed else ""
        places = " and ".join(str(one) for one in (output, made.kept) if one is not None)
        into = f" into {places}" if places else ""
        out.answer(
            {
                **facts,
                "version": made.version,
                "digest": made.digest,
                "file": None if output is None else str(output),
                "kept": made.kept,
            },
            f"{made.rows:,} rows scored{into} by {made.version}, in {made.run}.{failed}",
        )
        return
    names = map(str, made.answers.column(0).to_pylist())
    pairs = dict(zip(names, made.answers["output"].to_pylist(), strict=True))
    out.answer(
        pairs, "\n".join(f"{name}  {'-' if answer is None else answer}" for name, answer in pairs.items())
    )


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
