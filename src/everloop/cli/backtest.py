"""`everloop backtest`: the history of a workspace once more."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from everloop.cli.output import Output, pass_output

if TYPE_CHECKING:
    from everloop.backtest import Backtest, Week


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("loop.py"))
@click.option(
    "--from",
    "start",
    metavar="TIME",
    help="The first day that is replayed, such as 2026-09-01 [by which half of the labels are known].",
)
@click.option(
    "--until",
    "end",
    metavar="TIME",
    help="Where it ends: a time, or the last day (UTC) [after the last row].",
)
@click.option(
    "--labels-after-days",
    "delay_d",
    type=click.FloatRange(0, 3_650),
    help="A label becomes known so long after its row [when it was given].",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the replay as a workspace in this new folder, to look at with 'everloop up'.",
)
@pass_output
def backtest(
    out: Output, file: Path, start: str | None, end: str | None, delay_d: float | None, keep: Path | None
) -> None:
    """Replay the workspace's own history: alarms, retrainings, rollbacks, accuracy with the loop and without.

    Each day knows what was known on that day. The workspace itself is not changed.

    \b
    Example: everloop backtest loop.py --from 2026-09-01 --labels-after-days 3
    """
    from everloop import backtest as room
    from everloop import loop
    from everloop.errors import Invalid

    # its alarms are part of the answer
    logging.getLogger("everloop.events").addHandler(logging.NullHandler())
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise Invalid(f"{keep} is not empty; a replay needs a folder of its own. Name another with --keep.")
    found = loop.load(file)
    with out.workspace() as ws:
        history = room.read_history(
            ws, found, labels_after=None if delay_d is None else timedelta(days=delay_d)
        )
    first = history.middle if start is None else _time(start, is_end=False)
    out.say(
        f"{len(history.times):,} rows, {len(history.given):,} labels; "
        f"the first version learns from what was known at {first:%Y-%m-%d %H:%M}"
    )
    with _home(keep) as home:
        shown = room.run(
            history,
            found,
            home,
            start=first,
            end=None if end is None else _time(end, is_end=True),
            on_day=lambda day, rows, live: out.say(f"   until {day:%Y-%m-%d %H:%M}  {rows:>6,} rows  {live}"),
        )
    out.answer(shown, "\n".join(_lines(shown, is_kept=keep is not None)))


def _time(text: str, *, is_end: bool) -> datetime:
    from everloop.clock import parse_moment
    from everloop.errors import Invalid

    try:
        return parse_moment(text, is_end=is_end)
    except Invalid as error:
        raise click.UsageError(f"{text!r} is no time: {error}") from error


@contextmanager
def _home(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
    else:
        with tempfile.TemporaryDirectory(prefix="everloop-backtest-") as folder:
            yield Path(folder)


def _lines(shown: Backtest, *, is_kept: bool) -> Iterator[str]:
    yield f"{'week of':<12}{'rows':>8}{'labelled':>10}{'with the loop':>15}{'without':>9}   answered by"
    for week in shown.weeks:
        yield _line(f"{week.start:%Y-%m-%d}", week)
    yield _line("all", shown.whole)
    yield ""
    yield from (f"{one.at:%Y-%m-%d %H:%M}  {one.kind:<26} {one.message}" for one in shown.events)
    if is_kept:
        yield f"\nLook at the replay: everloop up --home {shown.home}"


def _line(name: str, week: Week) -> str:
    shares = [f"{share:.3f}" if share is not None else "-" for share in (week.with_loop, week.without)]
    return f"{name:<12}{week.rows:>8,}{week.labelled:>10,}{shares[0]:>15}{shares[1]:>9}   {', '.join(week.versions)}"
