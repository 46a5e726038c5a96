"""`everloop init`: a project from a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from everloop.cli.loop import tell
from everloop.cli.output import Output, pass_output

if TYPE_CHECKING:
    from everloop.loop import Begun, Guess, Look


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--into", type=click.Path(path_type=Path), default=Path(), help="The project's folder [this one]."
)
@click.option("--key", help="The column that names a row.")
@click.option("--time", help="The column that says when a row happened.")
@click.option("--label", help="The column that holds what is to be predicted.")
@click.option("--group", help="Rows that share its value stay on one side of the split.")
@click.option("--inputs", help="The columns that a request will carry, comma-separated.")
@click.option("--no-train", is_flag=True, help="Write the project and take the data in, but train nothing.")
@click.option(
    "--ci",
    "service",
    type=click.Choice(["github", "gitlab"]),
    help="Write workflow files: checks of changes, continuous training and delivery. Without FILE also for a loop.py that is there.",
)
@click.option("--force", is_flag=True, help="Write over files of an earlier begin.")
@pass_output
def init(
    out: Output,
    file: Path | None,
    into: Path,
    key: str | None,
    time: str | None,
    label: str | None,
    group: str | None,
    inputs: str | None,
    no_train: bool,
    service: Literal["github", "gitlab"] | None,
    force: bool,
) -> None:
    """Make a project from a CSV, JSONL or Parquet file: guess what it is about, write loop.py, train a first version.

    Guesses are printed with their reasons; columns that give the answer away are left out. Without a file a
    loop.py to fill in is written. Exit code 3: the first version failed its gates.

    \b
    Example: everloop init customers.csv --label churned
    """
    from everloop import loop
    from everloop.settings import DEFAULT_HOME, load_settings
    from everloop.workspace import open_workspace

    if service is not None:
        from everloop import ci

        ci.check_flows_free(into, service, force=force)
    if file is None and service is not None and (into / loop.LOOP_FILE).exists():
        flows, left = _flows(out, into, service, force=force)
        out.answer({"files": flows, "left": left}, "\n".join(map(str, flows)))
        return
    if file is None:
        loop.check_free(into, [loop.LOOP_FILE], force=force)
        loop.write(into, {loop.LOOP_FILE: loop.minimal_loop_file()})
        written = into / loop.LOOP_FILE
        out.answer(
            {"files": [written]},
            f"Wrote {written}. Fill in what stands in capital letters, then: everloop apply {written}",
        )
        if service is not None:
            _flows(out, into, service, force=force)
        return
    loop.check_free(into, [loop.LOOP_FILE], force=force)
    wanted = loop.Wanted(key, time, label, group, _names(inputs))
    out.say(f"Looking at {file} ...")
    look = loop.look(file, wanted)
    out.say(_guesses(look.guess, file))
    settings = load_settings(out.home, actor=out.actor)
    if out.home is None and settings.home == Path(DEFAULT_HOME).absolute():
        settings = load_settings(into / DEFAULT_HOME, actor=out.actor)
    with open_workspace(settings=settings) as ws:
        if not force:
            loop.check_unused(ws)
        files = loop.write_project(look, into, force=force)
        out.say(f"Wrote {', '.join(map(str, files))}.")
        begun = loop.begin(
            ws, look, files, with_training=not no_train, say=out.say, on_progress=lambda one: tell(out, one)
        )
        address = f"http://{settings.host}:{settings.port}"
    if service is not None:
        _flows(out, into, service, force=force)
    steps = _next(begun, _home_option(settings.home), address)
    out.answer(
        _answer(begun, steps), "\n".join([*_results(begun), "Next:", *(f"  {step}" for step in steps)])
    )
    if begun.trained is not None and not begun.trained.passed:
        sys.exit(3)


def _flows(
    out: Output, into: Path, service: Literal["github", "gitlab"], *, force: bool
) -> tuple[list[Path], list[str]]:
    """Write the workflow files of a project; the files, and what is left to do by hand."""
    from everloop import ci, loop

    written = ci.write_flows(into / loop.LOOP_FILE, service, force=force)
    here = Path.cwd()
    files = [one.relative_to(here) if one.is_relative_to(here) else one for one in written.files]
    out.say(f"Wrote {', '.join(map(str, files))}.")
    for one in written.left:
        out.say(one)
    return files, list(written.left)


def _names(inputs: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (inputs or "").split(",") if name.strip())
    if inputs is not None and not names:
        raise click.UsageError("--inputs names no column; write them with commas between: --inputs age,title")
    return names


def _guesses(found: Guess, file: Path) -> str:
    width = max(len(one.column) for one in found.columns)
    lines = [
        f"{file.name}: {found.rows:,} rows, {len(found.columns)} columns. To correct a guess: everloop init --help"
    ]
    for one in found.columns:
        role = f"{one.role}, {one.kind}" if one.kind else one.role
        lines.append(f"  {one.column:<{width}}  {role:<15}  {one.reason}")
    if found.key is None:
        lines.append(f"  no column names a row: the key {found.key_name!r} is made from each row's content")
    if found.thin:
        shown = ", ".join(f"{name} ({count})" for name, count in list(found.thin.items())[:5])
        more = f" and {len(found.thin) - 5} more" if len(found.thin) > 5 else ""
        lines.append(
            f"  {len(found.thin)} classes have too few rows to learn them and are left out: {shown}{more}"
        )
    if found.unlabelled:
        lines.append(f"  {found.unlabelled:,} rows have no label: they are kept, and wait for one")
    return "\n".join(lines)


def _results(begun: Begun) -> list[str]:
    label = begun.look.names.label
    lines = [f"{begun.data_version} with {begun.labels:,} labels of {label}."]
    trained, metrics, majority = begun.trained, begun.metrics, begun.majority
    if trained is None or metrics is None or majority is None:
        return lines
    lines.append(
        f"{trained.version} {'passed its gates' if trained.passed else 'FAILED its gates'}, on {begun.test_rows:,} rows kept aside:"
    )
    for name, value in majority.items():
        lines.append(f"  {name:<9} {metrics[name]:.3f}   (always the most frequent answer: {value:.3f})")
    return lines


def _next(begun: Begun, home: str, address: str) -> list[str]:
    """The commands to go on with; each works as it stands."""
    label, folder = begun.look.names.label, begun.files[0].parent
    if begun.trained is None:
        return [f"everloop run train{home}"]
    version = begun.trained.version
    if not begun.trained.passed:
        return [
            f"everloop models show {version}{home}    # which gates failed, and what to do",
            f"everloop apply {begun.files[0]}{home} && everloop run train{home}    # after a change",
        ]
    return [
        f"everloop models show {version}{home}",
        f'everloop models approve {version} --reason "a first version to look at"{home}',
        f"everloop up{home}    # then look at {address}/",
        f"curl -s {address}/endpoints/{label}/predict -H 'content-type: application/json' -d @{folder / 'request.json'}",
    ]


def _home_option(home: Path) -> str:
    from everloop.settings import load_settings

    return "" if load_settings().home.absolute() == home.absolute() else f" --home {home}"


def _answer(begun: Begun, steps: list[str]) -> dict[str, object]:
    look: Look = begun.look
    return {
        "guess": look.guess,
        "files": list(begun.files),
        "dataset": look.names.dataset,
        "data_version": begun.data_version,
        "label_set": look.names.label,
        "labels": begun.labels,
        "trained": begun.trained,
        "metrics": begun.metrics,
        "majority": begun.majority,
        "next": steps,
    }
