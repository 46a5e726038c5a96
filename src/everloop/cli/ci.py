"""`everloop ci`: gates for a pull request."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from everloop.cli.output import Output, pass_output


@click.command()
@click.option(
    "--base",
    metavar="NAME",
    help="The branch or commit that the change goes to [the CI service's, else main].",
)
@click.option(
    "--report",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("everloop-report"),
    show_default=True,
    metavar="DIR",
    help="Where report.md, report.html, report.json and junit.xml are written.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    default=Path("loop.py"),
    show_default=True,
    help="The loop file.",
)
@click.option(
    "--all", "run_all", is_flag=True, help="Run all pipelines, not only those that the change touches."
)
@pass_output
def ci(out: Output, base: str | None, folder: Path, file: Path, run_all: bool) -> None:
    """Check a change against the commit that it starts from: run what it touches on both, gate and compare.

    Rows and labels come from the files that everloop-ci.toml names, else from the workspace, which is not changed. Exit
    code 3: a gate or a step failed.

    \b
    Example: everloop ci --base main
    """
    from everloop import ci as room
    from everloop.settings import load_settings, outside_variables

    report = room.check(
        file, load_settings(out.home, actor=out.actor), base=base, run_all=run_all, say=out.say
    )
    files = room.write_reports(report, folder)
    told = [f"{report.verdict.upper()}: {report.sentence}"]
    told += [f"  {one}" for one in (*report.problems, *report.notes)]
    if outside_variables(["GITHUB_ACTIONS"]):  # which shows them beside the code, and in the log
        click.echo(room.github_commands(report.annotations), nl=False, err=out.as_json)
    else:
        told += [
            f"  {one.level} {one.file}:{one.line} {one.title}: {one.message}" for one in report.annotations
        ]
    out.answer(report, "\n".join([*told, f"Reports: {', '.join(map(str, files))}"]))
    if report.verdict == "failed":
        sys.exit(3)
