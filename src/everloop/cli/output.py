"""What commands share: the workspace they act on, and how answers are printed."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from everloop.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")  # people read the beginning; --json has all of it


@dataclass(frozen=True)
class Output:
    """The global options, and the ways to answer."""

    home: Path | None
    actor: str | None
    as_json: bool

    @contextmanager
    def workspace(self, **settings: Any) -> Iterator[Workspace]:
        """The workspace named on the command line or in the environment, open while the command runs.

        `settings` are those that the command's own options set; None: as they are.
        """
        from everloop.settings import load_settings
        from everloop.workspace import open_workspace

        with open_workspace(settings=load_settings(self.home, actor=self.actor, **settings)) as ws:
            yield ws

    def say(self, text: str) -> None:
        """Talk: to stderr, so that stdout holds the answer alone."""
        click.echo(text, err=True)

    def answer(self, value: Any, text: str | None = None, *, dry_run: bool = False) -> None:
        """Print one answer: as JSON when asked for, else as `text`, else field by field; after a dry run, say that it was one."""
        if dry_run:
            self.say("This is what would come of it; nothing was changed (--dry-run).")
        if self.as_json:
            self._print_json(value)
        elif text is not None:
            click.echo(text)
        else:
            for name, one in _fields(value).items():
                click.echo(f"{name:<16} {shown(one)}")

    def table(self, rows: Sequence[Any], columns: Mapping[str, Callable[[Any], Any]], *, empty: str) -> None:
        """Print rows under headings: whole records as JSON, else the columns; `empty` says what to do when there are none."""
        if self.as_json:
            self._print_json(list(rows))
        elif not rows:
            self.say(empty)
        else:
            _print_table([[shown(get(row)) for get in columns.values()] for row in rows], list(columns))

    def _print_json(self, value: Any) -> None:
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=_to_builtin), indent=2)
        sys.stdout.write(text.decode() + "\n")


pass_output = click.make_pass_decorator(Output)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would come of it, and change nothing."
)


def carried_out(ws: Workspace, verb: Callable[[Workspace], T], *, dry_run: bool) -> T:
    """What came of a verb, or would come."""
    return ws.rehearse(verb) if dry_run else verb(ws)


def shown(value: Any) -> str:
    """A value as a person reads it in a table."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(one)}" for name, one in value.items()) or "-"
    return _DIGEST.sub(r"\1", str(value))


def _fields(value: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    return dict(value)


def _print_table(rows: list[list[str]], headings: list[str]) -> None:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in [headings, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _to_builtin(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be printed as JSON")
