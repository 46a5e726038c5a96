"""`everloop models`: versions, gates, approvals, stages, releases, and what is said of them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from everloop.cli.model_trust import check, keys, register, sign, trust, verify
from everloop.cli.output import Output, carried_out, dry_run_option, pass_output


@click.group()
def models() -> None:
    """Versions, gates, approvals, stages, releases.

    \b
    Example: everloop models show category@2
    """


@models.command("list")
@click.argument("model", required=False)
@click.option("--filter", "filter_", help="versions that it finds, such as \"tags.team = 'vision'\"")
@pass_output
def list_(out: Output, model: str | None, filter_: str | None) -> None:
    """List models, or the versions of one, newest first; or the versions that a filter finds.

    \b
    Example: everloop models list category --filter "version_number > 3 AND tags.team = 'vision'"
    """
    from everloop import registry

    with out.workspace() as ws:
        if filter_ is not None:
            of = "" if model is None else "name = '{}' AND ".format(model.replace("'", "''"))
            found = registry.search_versions(ws, of + filter_)
        else:
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
        made_from = next(
            filter(None, (found.data_version, found.run, found.source)), "a folder"
        )  # registered from one
        lines = [f"{page['ref']}  made {found.created_at:%Y-%m-%d %H:%M} by {found.author} from {made_from}"]
        lines += [f"  {name} {value:.4f}" for name, value in found.metrics.items()]
        for one in report.results if report else ():
            lines.append(f"{one.verdict:>8}  {one.name}: {one.found}")
            if one.verdict == "failed":
                lines.append(f"          {one.rule} {one.remedy}")
        lines += [f"{one.verdict} by {one.by}: {one.reason}" for one in page["decisions"]]
        lines += [found.description] if found.description else []
        lines += [f"{name} = {value}" for name, value in found.tags.items()]
        lines += [page["path"]] if page["path"] else []
        obstacles = page["readiness"].obstacles
        lines += [f"in the way: {one.message}" for one in obstacles] or ["may be released"]
        for one in page["rollbacks"]:
            lines.append(f"rolled back on {one['endpoint']} {one['at']:%Y-%m-%d %H:%M}: {one['reason']}")
        if page["rollbacks"]:
            again = f"everloop rollouts start ENDPOINT {page['ref']} --again --reason WHY"
            lines.append(f"Nothing rolls it out again but a person: {again}")
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
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def approve(out: Output, version: str, reason: str, dry_run: bool) -> None:
    """Approve a version; recorded with your name.

    \b
    Example: everloop models approve category@2 --reason "fridges look right" --actor alice
    """
    from everloop import registry

    with out.workspace() as ws:
        said = carried_out(ws, lambda one: registry.approve(one, version, reason=reason), dry_run=dry_run)
        text = f"{said.by} approved {version}. It is rolled out by 'everloop up' or 'everloop work'."
        out.answer(said, text, dry_run=dry_run)


@models.command()
@click.argument("version")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def reject(out: Output, version: str, reason: str, dry_run: bool) -> None:
    """Reject a version; recorded with your name.

    \b
    Example: everloop models reject category@2 --reason "freezers are wrong"
    """
    from everloop import registry

    with out.workspace() as ws:
        said = carried_out(ws, lambda one: registry.reject(one, version, reason=reason), dry_run=dry_run)
        out.answer(said, f"{said.by} rejected {version}.", dry_run=dry_run)


@models.command()
@click.argument("report")
@click.argument("check")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
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
@dry_run_option
@pass_output
def promote(out: Output, version: str, stage: str, reason: str, dry_run: bool) -> None:
    """Put a version into a stage; all but dev ask for passed gates and approvals, or for what the loop file says of them.

    \b
    Example: everloop models promote category@2 staging
    """
    from everloop import registry

    with out.workspace() as ws:
        event = carried_out(
            ws, lambda one: registry.promote(one, version, stage, reason=reason), dry_run=dry_run
        )
        out.answer(event, f"{version} is in {stage} since {event.at:%Y-%m-%d %H:%M}.", dry_run=dry_run)


@models.command()
@click.argument("version")
@click.argument("stage")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def demote(out: Output, version: str, stage: str, reason: str, dry_run: bool) -> None:
    """Take a version out of a stage, which no version is in then; what is live stays live.

    \b
    Example: everloop models demote category@2 production --reason "wrong on freezers"
    """
    from everloop import registry

    with out.workspace() as ws:
        event = carried_out(
            ws, lambda one: registry.demote(one, version, stage, reason=reason), dry_run=dry_run
        )
        out.answer(event, f"{version} is no longer in {stage}.", dry_run=dry_run)


@models.command()
@click.argument("version")
@click.option("--reason", default="", help="Why; recorded in the audit log.")
@click.option("--undo", is_flag=True, help="Let it be one like any other again.")
@pass_output
def archive(out: Output, version: str, reason: str, undo: bool) -> None:
    """Put a version aside: it leaves all stages, and what was released stays so.

    \b
    Example: everloop models archive category@1
    """
    from everloop import registry

    with out.workspace() as ws:
        verb = registry.unarchive if undo else registry.archive
        found = verb(ws, version, reason=reason)
        out.answer(found, f"{found.ref} is {'not archived any more' if undo else 'archived'}.")


@models.command()
@click.argument("version")
@click.option("--yes", is_flag=True, help="Do it; without it, only say what would be done.")
@pass_output
def delete(out: Output, version: str, yes: bool) -> None:
    """Delete a version, or a model with all its versions.

    What is in a stage, was released or is live is kept, and said why. Numbers are not given again, and audit and lineage
    stay.

    \b
    Example: everloop models delete category@7 --yes
    """
    from everloop import registry, rollout

    with out.workspace() as ws:
        is_model = "@" not in version
        if not yes:
            found = registry.model(ws, version) if is_model else registry.version(ws, version)
            out.answer(found, f"would delete {version}; say --yes to do it")
            return
        rollout.require_not_live(ws, version)
        gone = registry.delete_model(ws, version) if is_model else registry.delete_version(ws, version)
        out.answer(gone, f"Deleted {version}. Who did what with it: everloop audit list")


@models.command()
@click.argument("model")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--drop", is_flag=True, help="Let the alias mean nothing any more.")
@pass_output
def alias(out: Output, model: str, alias: str, version: str | None, drop: bool) -> None:
    """Let MODEL@ALIAS mean a version; it promises nothing about gates.

    \b
    Example: everloop models alias category champion category@2
    """
    from everloop import registry
    from everloop.errors import Invalid

    if drop == (version is not None):
        raise Invalid("name a version for the alias to mean, or --drop, and not both.")
    with out.workspace() as ws:
        if version is None:
            registry.drop_alias(ws, model, alias)
            out.answer({"model": model, "alias": alias}, f"{model}@{alias} means nothing any more.")
        else:
            event = registry.alias(ws, model, alias, version)
            out.answer(event, f"{model}@{alias} is {event.ref}.")


@models.command()
@click.argument("name")
@click.argument("text")
@pass_output
def describe(out: Output, name: str, text: str) -> None:
    """Say what a version or a model is.

    \b
    Example: everloop models describe category@2 "trained without the September sale"
    """
    from everloop import registry

    with out.workspace() as ws:
        verb = registry.describe if "@" in name else registry.describe_model
        out.answer(verb(ws, name, text), f"{name}: {text}")


@models.command()
@click.argument("name")
@click.argument("tag", metavar="NAME[=VALUE]")
@click.option("--drop", is_flag=True, help="Remove the tag.")
@pass_output
def tag(out: Output, name: str, tag: str, drop: bool) -> None:
    """Set a tag of a version or a model, or remove it.

    \b
    Example: everloop models tag category@2 team=vision
    """
    from everloop import registry

    key, _, value = tag.partition("=")
    with out.workspace() as ws:
        if drop:
            (registry.untag if "@" in name else registry.untag_model)(ws, name, key)
        else:
            (registry.tag if "@" in name else registry.tag_model)(ws, name, key, value)
        out.answer({key: None if drop else value}, f"{name}: {key} {'removed' if drop else f'= {value}'}")


@models.command()
@click.argument("old")
@click.argument("new")
@pass_output
def rename(out: Output, old: str, new: str) -> None:
    """Let a model go on under another name, with its versions and aliases.

    One that a loop file declares is renamed there.

    \b
    Example: everloop models rename categroy category
    """
    from everloop import registry

    with out.workspace() as ws:
        out.answer(registry.rename(ws, old, new), f"{old} is {new} now.")


@models.command()
@click.argument("model")
@click.option("--at", help="A time such as 2026-05-01T00:00:00Z; now without it.")
@pass_output
def live(out: Output, model: str, at: str | None) -> None:
    """Say which versions of a model answer on its endpoints, or answered at a time, and who let them.

    \b
    Example: everloop models live category --at 2026-05-01T00:00:00Z
    """
    from everloop import rollout
    from everloop.clock import parse_time

    with out.workspace() as ws:
        found = rollout.live_of_model(ws, model, at=None if at is None else parse_time(at))
        columns = {
            "endpoint": lambda one: one.endpoint,
            "version": lambda one: one.version,
            "share": lambda one: f"{one.weight:g} %",
            "as": lambda one: one.variant,
            "since": lambda one: one.since,
            "by": lambda one: one.by,
            "why": lambda one: one.reason,
        }
        out.table(found, columns, empty=f"No version of {model} {'is' if at is None else 'was'} live.")


@models.command()
@click.argument("version")
@dry_run_option
@pass_output
def release(out: Output, version: str, dry_run: bool) -> None:
    """Release a version: allow it to be served.

    \b
    Example: everloop models release category@2
    """
    from everloop import loop, registry

    with out.workspace() as ws:
        if dry_run:
            wanted = loop.rehearse_release(ws, registry.version(ws, version))
            out.answer(wanted, f"{version} may be released.", dry_run=True)
            return
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


for one in (register, check, trust, verify, sign, keys):
    models.add_command(one)
