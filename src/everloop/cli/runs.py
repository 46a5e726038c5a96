"""`everloop runs`: what was trained and what came of it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from everloop.cli.loop import executor_options, parameters, tell, told_of
from everloop.cli.output import Output, pass_output, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from everloop.pipelines import (
        AnswerDifference,
        Comparison,
        DataDifference,
        Difference,
        LabelDifference,
        Reproduction,
    )


@click.group()
def runs() -> None:
    """Training runs: parameters, metrics, artifacts.

    \b
    Example: everloop runs list --kind pipeline
    """


@runs.command("list")
@click.option(
    "--kind", type=click.Choice(["run", "pipeline", "step", "rerun"]), help="Only runs of this kind."
)
@click.option("--pinned", is_flag=True, help="Only those that are pinned.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def list_(out: Output, kind: str | None, pinned: bool, limit: int) -> None:
    """List runs, newest first.

    \b
    Example: everloop runs list --kind pipeline
    """
    from everloop import tracking

    with out.workspace() as ws:
        columns = {
            "run": lambda one: one.id,
            "name": lambda one: one.name,
            "kind": lambda one: one.kind,
            "status": lambda one: one.status,
            "started": lambda one: one.started_at,
            "metrics": lambda one: one.metrics,
        }
        tag = tracking.PINNED_TAG if pinned else None
        found = tracking.runs(ws, kind=kind, tag=tag, limit=limit)  # type: ignore[arg-type]  # click checked it
        out.table(found, columns, empty="No runs yet. Start one: everloop run PIPELINE")


@runs.command()
@click.argument("run_id")
@pass_output
def show(out: Output, run_id: str) -> None:
    """Show one run: parameters, metrics, code, environment, the models that it logged.

    \b
    Example: everloop runs show run_0198...
    """
    from everloop import pipelines, tracking

    with out.workspace() as ws:
        found = tracking.run(ws, run_id)
        models = tracking.models_of_run(ws, run_id)
        out.answer({**vars(found), "models": models} if out.as_json else found)
        if not out.as_json:
            for model in models:
                click.echo(f"{'logged model':<16} {model.name} ({model.status}): models:/{model.id}")
        if found.has_steps and not out.as_json:
            for one in pipelines.pipeline_run(ws, run_id).steps:
                if one.touched:
                    click.echo(f"{'undeclared':<16} {one.node} {pipelines.listed(one.touched)}")


@runs.command()
@click.argument("run_id")
@pass_output
def steps(out: Output, run_id: str) -> None:
    """Show the steps of a pipeline's run: what ran, what was taken from the cache, how long it took.

    \b
    Example: everloop runs steps run_0198...
    """
    from everloop import pipelines

    with out.workspace() as ws:
        columns = {
            "step": lambda one: one.node,
            "state": lambda one: one.state,
            "attempt": lambda one: one.attempt,
            "seconds": lambda one: one.seconds,
            "made": lambda one: one.output.kind if one.output else None,
            "error": lambda one: one.error,
            "undeclared": lambda one: pipelines.listed(one.touched) or None,
        }
        out.table(pipelines.pipeline_run(ws, run_id).steps, columns, empty="No step has begun.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.argument("step", required=False)
@click.option("--follow", is_flag=True, help="Go on as more is printed, until the run ends.")
@pass_output
def logs(out: Output, run_id: str, step: str | None, follow: bool) -> None:
    """Show what the steps of a run printed, or one STEP such as fit-2, or one call of a map such as fit[3].

    What runs on this machine is shown as far as it got.

    \b
    Example: everloop runs logs run_0198... fit --follow
    """
    from everloop import pipelines

    with out.workspace() as ws:
        found = pipelines.follow(ws, run_id, node=step, to_the_end=follow)
        if out.as_json:
            out.answer([{"step": name, "text": text} for name, text in found])
            return
        for name, text in found:
            sys.stdout.write("".join(f"{name} | {line}" for line in text.splitlines(keepends=True)))
            sys.stdout.flush()


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--drop", is_flag=True, help="Let go of those that are kept.")
@pass_output
def wheels(out: Output, run_id: str, drop: bool) -> None:
    """Keep the wheels of a run's environment, so that it can be rebuilt when no index has its packages any more.

    All runs of the same environment share them; 'everloop reproduce RUN --rebuild' takes them.

    \b
    Example: everloop runs wheels run_0198...
    """
    from everloop import tracking

    with out.workspace() as ws:
        environment = tracking.run(ws, run_id).environment
        if environment is None:
            raise click.UsageError(f"run {run_id} has no recorded environment.")
        if drop:
            tracking.drop_wheels(ws, environment)
            out.answer({"environment": environment}, "They are kept no more.")
            return
        kept = tracking.keep_wheels(ws, tracking.environment(ws, environment))
        out.answer(kept, f"{kept.count} wheels, {kept.size_bytes / 1e6:,.1f} MB, are in {kept.folder}.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@pass_output
def pause(out: Output, run_id: str) -> None:
    """Let a running pipeline begin no further step; what runs is finished.

    \b
    Example: everloop runs pause run_0198...
    """
    from everloop import pipelines

    with out.workspace() as ws:
        pipelines.pause(ws, run_id)
        out.answer({"run": run_id}, f"{run_id} begins nothing more. Go on: everloop runs resume {run_id}")


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--reason", required=True, help="Why; kept with the run.")
@pass_output
def cancel(out: Output, run_id: str, reason: str) -> None:
    """End a run for good: what runs is killed, what was finished stays in the cache.

    \b
    Example: everloop runs cancel run_0198... --reason "wrong labels"
    """
    from everloop import pipelines

    with out.workspace() as ws:
        pipelines.cancel(ws, run_id, reason=reason)
        out.answer({"run": run_id}, f"{run_id} is cancelled.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@executor_options
@pass_output
def resume(out: Output, run_id: str, executor: str | None, ray_address: str | None) -> None:
    """Go on with a run that was paused, that failed or whose process died.

    Finished steps do not run again.

    \b
    Example: everloop runs resume run_0198...
    """
    from everloop import loop as room

    with out.workspace(ray_address=ray_address) as ws, redirect_stdout(sys.stderr):
        ended = room.go_on(ws, run_id, executor=executor, on_progress=lambda one: tell(out, one))
    out.answer(ended, told_of(ended))


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--from", "start", required=True, metavar="STEP", help="The step to begin with, such as fit-2.")
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter's other value, from there on."
)
@click.option("--reason", default="asked for on the command line", show_default=True)
@pass_output
def fork(out: Output, run_id: str, start: str, params: tuple[str, ...], reason: str) -> None:
    """Run a run again from one step, with its code, data and labels; what came before is taken over.

    \b
    Example: everloop runs fork run_0198... --from fit --param c=4
    """
    from everloop import loop as room

    with out.workspace() as ws, redirect_stdout(sys.stderr):
        ended = room.fork(
            ws,
            run_id,
            start=start,
            params=parameters(params),
            reason=reason,
            on_progress=lambda one: tell(out, one),
        )
    out.answer(ended, told_of(ended))


@runs.command()
@click.argument("before")
@click.argument("after")
@click.option(
    "--rows",
    "limit",
    default=20,
    show_default=True,
    type=click.IntRange(0),
    help="At most so many rows a list.",
)
@pass_output
def compare(out: Output, before: str, after: str, limit: int) -> None:
    """Show what differs between two runs, or the runs of two model versions, down to single answers.

    \b
    Example: everloop runs compare category@2 category@3
    """
    from everloop import pipelines

    with out.workspace() as ws:
        found = pipelines.compare(ws, before, after, limit=limit)
        out.answer(found, "\n".join(_compared(found)))


def _compared(found: Comparison) -> Iterator[str]:
    def unknown(part: str) -> str:
        return "not on record of both" if part in found.unknown else ""

    yield f"{found.before} -> {found.after}"
    yield _part("code", _counted(found.code, "file") or found.code_problem)
    for file in found.code:
        yield from (f"    {line}" for line in file.diff.splitlines())
    yield from _listed("environment", found.environment, unknown("environment"))
    yield from _listed("machine", found.hardware, unknown("machine"))
    yield _part("data", "; ".join(_moved(one) for one in found.data) or unknown("data"))
    for rows in found.data:
        yield from (f"    {what}: {', '.join(keys)}" for what, keys in (rows.keys or {}).items() if keys)
    yield _part("labels", "; ".join(_moved(one) for one in found.labels) or unknown("labels"))
    for relabelled in found.labels:
        for row in relabelled.rows:
            yield f"    {row.key}: {shown(row.before)} -> {shown(row.after)}  (by {', '.join(row.by)})"
    yield from _listed("parameters", found.parameters)
    yield _part("metrics", _counted(found.metrics, "number"))
    for number in found.metrics:
        yield f"    {number.name}: {shown(number.before)} -> {shown(number.after)}"
    yield from _answered(found.answers)


def _answered(answers: AnswerDifference | None) -> Iterator[str]:
    if answers is None:
        yield _part("answers", "not both runs made a model")
        return
    yield _part(
        "answers",
        f"{answers.differing:,} of {answers.shared:,} rows that both tested differ: {answers.right_before:,} right before "
        f"alone, {answers.right_after:,} right after alone",
    )
    for one in answers.rows:
        name = one.key if one.key is not None else one.row_id
        right = "neither is right" if one.right == "neither" else f"right {one.right}"
        yield f"    {name} (label {shown(one.label)}): {shown(one.before)} -> {shown(one.after)}  {right}"


def _listed(part: str, differences: Sequence[Difference], otherwise: str = "") -> Iterator[str]:
    yield _part(part, _counted(differences, "difference") or otherwise)
    for one in differences:
        yield f"    {one.sentence}"


def _part(name: str, told: str | None) -> str:
    return f"  {name:<12} {told or 'the same'}"


def _counted(found: Sequence[object], what: str) -> str:
    return f"{len(found):,} {what}{'' if len(found) == 1 else 's'}" if found else ""


def _moved(one: DataDifference | LabelDifference) -> str:
    went = f"{one.name} went from {shown(one.before)} to {shown(one.after)}"
    if one.added is None:
        return went
    return f"{went}: {one.added:,} rows added, {one.removed:,} removed, {one.changed:,} changed"


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--tolerance",
    type=float,
    help="How far numbers may be apart to count as equal, in themselves or as a part [0.001].",
)
@click.option(
    "--rebuild",
    is_flag=True,
    help="If other packages are installed now, build an environment with the run's, with uv or pip.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Leave the code and the environment in this new folder.",
)
@pass_output
def reproduce(out: Output, run_id: str, tolerance: float | None, rebuild: bool, keep: Path | None) -> None:
    """Run a run's code once more in a fresh place, beside the cache, and say whether the same comes of it.

    Exits with 0 when all bits are the same or all numbers are within the tolerance, with 3 when results differ.

    \b
    Example: everloop reproduce run_0198... --rebuild
    """
    from everloop import pipelines

    with out.workspace() as ws:
        found = pipelines.reproduce(
            ws,
            run_id,
            tolerance=pipelines.DEFAULT_TOLERANCE if tolerance is None else tolerance,
            rebuild=rebuild,
            keep=keep,
            on_progress=lambda one: tell(out, one),
        )
    out.answer(found, _told(found))
    if found.verdict == "different":
        sys.exit(3)


def _told(found: Reproduction) -> str:
    lines = [f"{found.verdict.upper()}: {found.sentence}"]
    lines += [
        f"  {one.step} {one.name}: {shown(one.before)} -> {shown(one.after)}{'' if one.is_within else '  beyond the tolerance'}"
        for one in found.numbers
    ]
    return "\n".join([*lines, f"The rerun is {found.rerun}, of {found.run}."])


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--off", is_flag=True, help="Pin it no more.")
@pass_output
def pin(out: Output, run_id: str, off: bool) -> None:
    """Pin a run, so that 'everloop runs list --pinned' shows it.

    \b
    Example: everloop runs pin run_0198...
    """
    from everloop import tracking

    with out.workspace() as ws:
        if off:
            tracking.remove_tag(ws, run_id, tracking.PINNED_TAG)
        else:
            tracking.log_tags(ws, run_id, {tracking.PINNED_TAG: "true"})
        out.answer({"run": run_id, "pinned": not off}, f"{run_id} is {'not ' if off else ''}pinned.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.argument("tags", metavar="NAME=VALUE...", nargs=-1)
@click.option("--remove", multiple=True, metavar="NAME", help="Remove a tag; may be given several times.")
@pass_output
def tag(out: Output, run_id: str, tags: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Set and remove tags of a run.

    \b
    Example: everloop runs tag run_0198... team=vision --remove draft
    """
    from everloop import tracking

    if wrong := [text for text in tags if "=" not in text]:
        raise click.UsageError(f"{wrong[0]!r} is no tag; write NAME=VALUE.")
    with out.workspace() as ws:
        tracking.log_tags(ws, run_id, dict(text.split("=", 1) for text in tags))
        for name in remove:
            tracking.remove_tag(ws, run_id, name)
        found = tracking.run(ws, run_id).tags
        out.answer(
            found, "\n".join(f"{name} = {value}" for name, value in found.items()) or "It has no tags."
        )


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.argument("text")
@pass_output
def note(out: Output, run_id: str, text: str) -> None:
    """Keep a note with a run, in place of the one that was there.

    \b
    Example: everloop runs note run_0198... "twice the data; keep this one"
    """
    from everloop import tracking

    with out.workspace() as ws:
        tracking.log_tags(ws, run_id, {tracking.NOTE_TAG: text})
        out.answer({"run": run_id, "note": text}, f"The note is kept with {run_id}.")


@runs.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@pass_output
def delete(out: Output, run_ids: tuple[str, ...]) -> None:
    """Mark runs as deleted: they are not listed, can be restored, and take space until 'everloop runs clean'.

    \b
    Example: everloop runs delete run_0198...
    """
    from everloop import tracking

    with out.workspace() as ws:
        for run_id in run_ids:
            tracking.delete_run(ws, run_id)
        out.answer(
            {"deleted": run_ids}, f"Deleted {len(run_ids)}. Back: everloop runs restore {' '.join(run_ids)}"
        )


@runs.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@pass_output
def restore(out: Output, run_ids: tuple[str, ...]) -> None:
    """Bring deleted runs back.

    \b
    Example: everloop runs restore run_0198...
    """
    from everloop import tracking

    with out.workspace() as ws:
        for run_id in run_ids:
            tracking.restore_run(ws, run_id)
        out.answer({"restored": run_ids}, f"Restored {len(run_ids)}.")


@runs.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@pass_output
def clean(out: Output, dry_run: bool) -> None:
    """Remove deleted runs, logged models and traces for good, with the files that they alone have, and say how much space that frees.

    A run stays that a model version was registered from, or that is a pipeline's. Let nothing be logged meanwhile.

    \b
    Example: everloop runs clean --dry-run
    """
    from everloop import governance

    with out.workspace() as ws:
        cleaned = governance.clean_runs(ws, dry_run=dry_run)
    does = "would remove" if dry_run else "removed"
    lines = [
        f"{does} {cleaned.runs} runs, {cleaned.models} logged models, {cleaned.traces} traces and {cleaned.files} files: {cleaned.freed_bytes / 1e6:,.1f} MB",
        *(f"{run} stays: {why}" for run, why in cleaned.refused.items()),
        *(f"not everloop's to remove: {place}" for place in cleaned.elsewhere),
    ]
    out.answer(cleaned, "\n".join(lines))
