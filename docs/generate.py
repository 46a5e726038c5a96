"""Writes the reference pages that are made from the code: `make docs`. A test fails when one is out of date."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from everloop import errors
from everloop.api import MLFLOW_STATUSES as STATUSES
from everloop.api import PROTOCOL_VERSION, mlflow_routes
from everloop.cli.entry import everloop
from everloop.settings import FILE_NAME, Settings

DOCS = Path(__file__).resolve().parent


def settings_page() -> str:
    """One line a setting, in the order of the code."""
    rows = [
        (f"`{one.name}`", f"`EVERLOOP_{one.name.upper()}`", _shown(one.default), one.metadata["doc"])
        for one in dataclasses.fields(Settings)
    ]
    return _page(
        "Settings",
        "everloop.settings",
        "Every setting has a default that works on a laptop with nothing else installed. A value is taken from the "
        f"command line, else from the environment, else from `{FILE_NAME}` in the workspace's home, else from the "
        "default. A name that is no setting is an error.",
        _table(("setting", "environment variable", "default", "meaning"), rows),
    )


def errors_page() -> str:
    """One line an error code, with the meanings that the tree at the top of errors.py gives."""
    meanings = dict(re.findall(r"[├└]── (\w+) +(.+)", errors.__doc__ or ""))
    rows = [(f"`{one.code}`", f"`{one.__name__}`", meanings[one.__name__]) for one in error_classes()]
    return _page(
        "Error codes",
        "everloop.errors",
        "Every error that everloop raises on purpose is an `EverloopError` with a stable code. Its message says "
        "what was found, what the rule is and what to do next.",
        _table(("code", "class", "meaning"), rows),
    )


def mlflow_page() -> str:
    """One line a call of MLflow's protocol, and the limits that its clients meet."""
    rows = [
        (f"`{one.method} {one.place}`", one.permission or "anybody", one.summary) for one in mlflow_routes()
    ]
    return _page(
        "MLflow's protocol",
        "everloop.api.mlflow",
        f"The calls of MLflow's REST protocol that everloop answers, as MLflow {PROTOCOL_VERSION} makes them, at the port of the "
        "API. Those below `/api/` are answered below `/ajax-api/` too. Whatever is not in this list gets status 404, or 405 "
        "where the path has other methods, and `ENDPOINT_NOT_FOUND`, with a message that names the call: gateway, scorers, "
        "evaluation datasets, prompt optimisation, assessments of traces, review queues and workspaces among others. How to "
        "use it: "
        "[point your MLflow client here](../how-to/use-mlflow-clients.md).\n\n"
        "Clients: `mlflow` or `mlflow-skinny` from 1.30.1 to 3.17.2, unmodified; both ends are tested.\n\n"
        "With authentication on, a client signs in with `MLFLOW_TRACKING_TOKEN`, a token of everloop's, or with "
        "`MLFLOW_TRACKING_USERNAME`, an account, and `MLFLOW_TRACKING_PASSWORD`, its password or a token of its own. The "
        "permission in the table is what the account's role must give. Who gives too many wrong passwords gets status 429 "
        "with `Retry-After`, which MLflow's clients heed.\n\n"
        'Errors are `{"error_code": ..., "message": ...}` under these codes: '
        + ", ".join(f"`{code}` ({status})" for code, status in STATUSES.items())
        + ".",
        _table(("call", "permission", "does"), rows) + _MLFLOW_LIMITS,
    )


_MLFLOW_LIMITS = """
## Limits

| what | limit |
| --- | --- |
| name of an experiment | 500 printable characters |
| name of a run, metric, parameter or tag | 250 printable characters |
| value of a parameter, of a run's tag, of an experiment's tag | 6,000, 8,000, 20,000 characters |
| one `log-batch` | 1,000 metrics, 100 parameters, 100 tags, 1,000 things in all, 1,000,000 bytes |
| one file that is uploaded | the setting `artifact_max_mb`; of which something comes every `upload_idle_s` seconds |
| path of a file | 500 printable characters, names joined by `/`, none of them `.` or `..` in any encoding |
| any other body | 2,000,000 bytes; `log-inputs` 20,000,000 |
| steps | whole numbers of 64 bits; negative ones too |
| times | milliseconds since 1970, up to the year 9999, by the client's clock |
| one page of a search | 50,000; of traces 500, however many are asked for |
| one trace | 200 tags and metadata, values up to 8,000 characters; previews up to 10,000; its spans are one file |
| one page of a history | 25,000 points; without `max_results` the whole history, up to 1,000,000 points |
| a filter | 40 conditions joined by `AND`, 200,000 characters; 20 things to order by |

## What differs from MLflow's own server

- A parameter, metric or tag may be named with any printable characters.
- Metrics that are NaN meet no comparison; ordered by, they come after all numbers, and runs without the metric last.
- `LIKE` tells upper from lower case on every database, `ILIKE` does not.
- A run's name and its parent are facts of the run, seen as the tags `mlflow.runName` and `mlflow.parentRunId`: the first
  cannot be removed, the second names a run that exists.
- A run of a pipeline takes metrics, parameters and tags, and says itself how it stands.
- Files go up in one piece or in parts, which wait in the home of the server that the upload began at; of a `file:` root only the folder that the settings name is read by the server.
- A trace is kept whole when it has ended, its spans as the file `traces.json` beside it; spans sent one by one (`POST /v1/traces`),
  feedback, links to runs and sums over many traces are refused by name, and a client goes on. The calls are those of version 3.0;
  clients that know only those of 2.0 go on with a warning. A search looks at attributes, tags and metadata, not into spans. Deleted traces are removed
  with their files by `everloop runs clean`, and with their experiment.
- `/health` answers 200 with `{"live": true}` where MLflow's server answers `OK`: its tracking client never asks, and probes look at
  the status. `/version` answers plain text as MLflow's does, the version of the protocol.
- Files are sent with an `ETag` and in ranges (206, `If-Range`), so that a download that was cut off goes on; several ranges in one
  request get the whole file.
- Of a logged model's metrics the newest 1,000 points are told.
- Experiment 0 cannot be deleted. A deleted run is removed for good by `everloop runs clean`.
"""


def error_classes() -> list[type[errors.EverloopError]]:
    """All that can be raised, in the order of the code."""
    return [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.EverloopError) and one is not errors.EverloopError
    ]


def commands_page() -> str:
    """The help of every command, as `everloop COMMAND --help` prints it."""
    sections = []
    for path, command in all_commands():
        name = " ".join(("everloop", *path))
        context = click.Context(command, parent=root(), info_name=" ".join(path)) if path else root()
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        sections.append(f"{'#' * min(2 + max(0, len(path) - 1), 3)} {name}\n\n```\n{text}\n```\n")
    return _page(
        "Commands",
        "everloop.cli",
        "What `everloop COMMAND --help` says. `--home DIR`, `--actor NAME` and `--json` may stand anywhere on the line. "
        "Answers go to stdout, talk to stderr. Exit codes: 0 done, 1 everloop failed, 2 wrong use, 3 the answer is no (a "
        "failed gate, a broken chain), 75 try again later.",
        "\n".join(sections),
    )


def root() -> click.Context:
    """What every command inherits when it is called from the shell, at a width that the page can show."""
    return click.Context(everloop, info_name="everloop", terminal_width=100, **everloop.context_settings)


def all_commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The entry, each command and each group's commands, with the words that call it."""
    yield (), everloop
    yield from _below((), everloop)


def _below(path: tuple[str, ...], group: click.Group) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _below((*path, name), command)


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/errors.md": errors_page,
    "reference/mlflow.md": mlflow_page,
    "reference/settings.md": settings_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


def _page(title: str, module: str, introduction: str, body: str) -> str:
    return f"# {title}\n\n<!-- made from {module} by `make docs` -->\n\n{introduction}\n\n{body}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(map(_row, (head, ["---"] * len(head), *rows)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    return f"`{default}`" if default != "" else "empty"


if __name__ == "__main__":
    main()
