"""`everloop models`: versions, gates, approvals, stages, releases."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from everloop.cli.output import Output, pass_output


@click.group()
def models() -> None:
    """Versions, gates, approvals, stages, releases.

    \b
    Example: everloop models show category@2
    """


@models.command("list")
@click.argument("model", required=False)
@pass_output
def list_(out: Output, model: str | None) -> None:
    """List models, or the versions of one, newest first.

    \b
    Example: everloop models list category
    """
    from everloop import registry

    with out.workspace() as ws:
        names = [model] if model else [one.name for one in registry.models(ws)]
        found = [one for name in names for one in registry.versions(ws, name, limit=100 if model else 1)]
        columns = {
            "version": lambda one: one.ref,
            "metrics": lambda one: one.metrics,
            "data": lambda one: one.data_version,
            "author": lambda one: one.author,
            "made": lambda one: one.created_at,
        }
        out.table(found, columns, empty="No versions yet. Train one: everloop run PIPELINE")


@models.command()
@click.argument("version")
@pass_output
def show(out: Output, version: str) -> None:
    """Show a version: its gates with their numbers, approvals, and whether it may be released.

    \b
    Example: everloop models show category@2
    """
    from everloop.governance import version_card

    with out.workspace() as ws:
        page = version_card(ws, version)
        report, found = page["gate_report"], page["version"]
        lines = [
            f"{page['ref']}  made {found.created_at:%Y-%m-%d %H:%M} by {found.author} from {found.data_version}"
        ]
        lines += [f"  {name} {value:.4f}" for name, value in found.metrics.items()]
        for one in report.results if report else ():
            lines.append(f"{one.verdict:>8}  {one.name}: {one.found}")
            if one.verdict == "failed":
                lines.append(f"          {one.rule} {one.remedy}")
        lines += [f"{one.verdict} by {one.by}: {one.reason}" for one in page["decisions"]]
        obstacles = page["readiness"].obstacles
        lines += [f"in the way: {one.message}" for one in obstacles] or ["may be released"]
        out.answer(page, "\n".join(lines))


@models.command()
@click.argument("version")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--rows", default=50, show_default=True, help="test rows to keep when the file is made")
@click.option("--accept", is_flag=True, help="write the version's answers into the file")
@pass_output
def golden(out: Output, version: str, file: Path, rows: int, accept: bool) -> None:
    """Keep a version's answers as golden predictions, or show which it answers otherwise.

    A file that is not there is made from the version's test rows, one of each class in turn. One that is there is
    compared: exit code 3 when an answer differs; with --accept the version's answers take the place of the kept ones.
    The file holds the rows' contents. Its gate: el.golden("NAME.golden.json").

    \b
    Example: everloop models golden category@2 category.golden.json --rows 40
    """
    from everloop import loop

    with out.workspace() as ws:
        if not file.exists():
            made = loop.make_golden(ws, version, file, rows=rows)
            out.answer(
                {"file": str(file), "rows": made},
                f"{made} rows with the answers of {version} are in {file}. Look at them, then name them in the loop file: "
                f'gates=[el.golden("{file.name}")]',
            )
            return
        found = loop.accept_golden(ws, version, file) if accept else loop.answer_golden(ws, version, file)
        changed = [
            {"golden": place, "kept": found.kept[place].expected, "answered": found.now[place].expected}
            for place in found.changed
        ]
        lines = [f"row {one['golden']}: {one['kept']} is now {one['answered']}" for one in changed]
        ending = (
            "accepted"
            if accept
            else "as kept"
            if not changed
            else "not as kept; --accept takes the new answers"
        )
        lines.append(
            f"{len(changed)} of {len(found.kept)} golden rows get another answer of {version}: {ending}."
        )
        out.answer({"rows": len(found.kept), "accepted": accept, "changed": changed}, "\n".join(lines))
        if changed and not accept:
            sys.exit(3)


@models.command()
@click.argument("version")
@click.option("--reason", required=True)
@pass_output
def approve(out: Output, version: str, reason: str) -> None:
    """Approve a version; recorded with your name.

    \b
    Example: everloop models approve category@2 --reason "fridges look right" --actor alice
    """
    from everloop import registry

    with out.workspace() as ws:
        said = registry.approve(ws, version, reason=reason)
        out.answer(
            said, f"{said.by} approved {version}. It is rolled out by 'everloop up' or 'everloop work'."
        )


@models.command()
@click.argument("version")
@click.option("--reason", required=True)
@pass_output
def reject(out: Output, version: str, reason: str) -> None:
    """Reject a version; recorded with your name.

    \b
    Example: everloop models reject category@2 --reason "freezers are wrong"
    """
    from everloop import registry

    with out.workspace() as ws:
        said = registry.reject(ws, version, reason=reason)
        out.answer(said, f"{said.by} rejected {version}.")


@models.command()
@click.argument("report")
@click.argument("check")
@click.option("--reason", required=True)
@click.option(
    "--until",
    required=True,
    help="The last day, such as 2026-12-31 (UTC), or a time such as 2026-12-31T12:00:00Z; afterwards the check blocks again.",
)
@pass_output
def waive(out: Output, report: str, check: str, reason: str, until: str) -> None:
    """Let a failed check of a gate report pass until a time; audited.

    \b
    Example: everloop models waive gr_0198... drift --reason "known sale" --until 2026-12-31
    """
    from everloop import checks
    from everloop.clock import parse_moment

    with out.workspace() as ws:
        waiver = checks.waive(ws, report, check, reason=reason, until=parse_moment(until))
        out.answer(waiver, f"{waiver.by} waived {check} of {report} until {waiver.until:%Y-%m-%d %H:%M} UTC.")


@models.command()
@click.argument("version")
@click.argument("stage")
@click.option("--reason", default="", help="Why; recorded in the audit log.")
@pass_output
def promote(out: Output, version: str, stage: str, reason: str) -> None:
    """Put a version into a stage; all but dev ask for passed gates and approvals.

    \b
    Example: everloop models promote category@2 staging
    """
    from everloop import registry

    with out.workspace() as ws:
        event = registry.promote(ws, version, stage, reason=reason)
        out.answer(event, f"{version} is in {stage} since {event.at:%Y-%m-%d %H:%M}.")


@models.command()
@click.argument("version")
@pass_output
def release(out: Output, version: str) -> None:
    """Release a version: allow it to be served.

    \b
    Example: everloop models release category@2
    """
    from everloop import loop, registry

    with out.workspace() as ws:
        made = loop.prepare_release(ws, registry.version(ws, version))
        out.answer(
            made,
            f"Released {made.version} as {made.id}. Roll it out: everloop rollouts start ENDPOINT {made.version} --reason WHY",
        )


@models.command()
@click.argument("model")
@pass_output
def history(out: Output, model: str) -> None:
    """Say which version entered which stage when, newest first.

    \b
    Example: everloop models history category
    """
    from everloop import registry

    with out.workspace() as ws:
        columns = {
            "when": lambda one: one.at,
            "name": lambda one: f"{one.kind} {one.name}",
            "version": lambda one: None if one.number is None else f"{one.model}@{one.number}",
            "who": lambda one: one.by,
            "reason": lambda one: one.reason,
        }
        out.table(registry.history(ws, model), columns, empty=f"No version of {model} entered a stage yet.")
