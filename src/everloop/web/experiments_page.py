"""`/experiments` and `/experiments/ID`: which runs there are, and which of them did best at what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from everloop import tracking
from everloop.errors import Invalid
from everloop.tracking import Experiment, FoundRun
from everloop.web.visits import Shown, Visit

NOTE_TAG = "mlflow.note.content"
PIN_TAG = "everloop.pinned"

_EXPERIMENTS = 200
_PAGE = 50
_CSV_ROWS = 10_000
_CHOSEN_BY_ITSELF = 4  # metrics, and as many parameters, that are columns when nobody chose
_OFFERED = 40  # metrics, and as many parameters
_COLUMN = "c."  # how a chosen column begins in the address
SYSTEM = "system/"  # how MLflow's clients name what they measure of the machine
_INTERNAL = ("mlflow.", "everloop.")
_KINDS = ("metrics", "params", "tags")
TONES = {
    "running": "live",
    "scheduled": "quiet",
    "finished": "ok",
    "failed": "failed",
    "killed": "attention",
}
ViewWord = Literal["active", "deleted", "all"]


@dataclass(frozen=True)
class ExperimentLine:
    """An experiment with its runs counted; `newest_at` is when the last of them began."""

    experiment: Experiment
    runs: int
    newest_at: datetime | None


@dataclass(frozen=True)
class Column:
    """A metric, a parameter or a tag of runs as a column. `direction` says how the runs are ordered by it, if they are."""

    kind: str
    name: str
    direction: Literal["", "ASC", "DESC"] = ""

    @property
    def key(self) -> str:
        """As it stands in the address and in MLflow's language of filters."""
        quote = '"' if "`" in self.name else "`"
        return f"{self.kind}.{quote}{self.name}{quote}"

    @property
    def field(self) -> str:
        return f"{_COLUMN}{self.kind}.{self.name}"

    def of(self, found: FoundRun) -> float | str | None:
        """The run's value."""
        values: Any = getattr(found.run, self.kind)
        value: float | str | None = values.get(self.name)
        return value


def view(visit: Visit) -> Shown:
    """Every experiment that is not deleted, newest first."""
    page = tracking.search_experiments(visit.ws, limit=_EXPERIMENTS)
    counts = tracking.run_counts(visit.ws)
    return {
        "experiments": [ExperimentLine(one, *counts.get(one.id, (0, None))) for one in page.found],
        "most": _EXPERIMENTS,
        "note_tag": NOTE_TAG,
    }


def view_one(visit: Visit) -> Shown:
    """The runs of an experiment: filter, order, columns and page stand in the address."""
    number = visit.path["id"]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise Invalid(f"{number!r} is no experiment's id, which is a whole number. /experiments lists them.")
    experiment = tracking.experiment(visit.ws, int(number))
    asked = {name: visit.query.get(name, "").strip() for name in ("filter", "order", "view", "token")}
    shown: ViewWord = next((one for one in get_args(ViewWord) if one == asked["view"]), "active")
    is_csv = visit.query.get("as") == "csv"
    problem, page = None, tracking.Page[FoundRun]([], None)
    try:
        page = tracking.search_runs(
            visit.ws,
            experiment_ids=[experiment.id],
            filter_text=asked["filter"],
            order_by=[f"tags.`{PIN_TAG}` DESC", *([asked["order"]] if asked["order"] else [])],
            view=shown,
            limit=_CSV_ROWS if is_csv else _PAGE,
            token=asked["token"] or None,
        )
    except Invalid as error:
        problem = str(error)
    chosen = [name.removeprefix(_COLUMN) for name in visit.query if name.startswith(_COLUMN)]
    offered = _offered(page.found)
    columns = [_column(name) for name in chosen] or [
        one
        for kind in ("metrics", "params")
        for one in [one for one in offered if one.kind == kind and not one.name.startswith(SYSTEM)][
            :_CHOSEN_BY_ITSELF
        ]
    ]
    ordered = [_ordered(one, asked["order"]) for one in columns]
    return {
        "experiment": experiment,
        "runs": page.found,
        "next": page.next_token,
        "asked": {**asked, "view": shown},
        "problem": problem,
        "columns": ordered,
        "offered": [*ordered, *(one for one in offered if one not in columns)],
        "kept": _address(asked, chosen),
        "tones": TONES,
        "named": {one.run.id: one.run.name for one in page.found},
        "note_tag": NOTE_TAG,
        "pin_tag": PIN_TAG,
        "is_live": any(one.run.status == "running" for one in page.found) and not asked["token"],
    }


def rows_of(shown: Shown) -> Iterator[Sequence[object]]:
    """The runs as rows of a CSV file, the names of its columns first."""
    columns: list[Column] = shown["columns"]
    yield [
        "run_id",
        "name",
        "status",
        "user",
        "started_at",
        "ended_at",
        *(f"{one.kind}.{one.name}" for one in columns),
    ]
    for found in shown["runs"]:
        run = found.run
        ended = run.ended_at and run.ended_at.isoformat()
        yield [
            run.id,
            run.name,
            run.status,
            run.client_user or run.actor,
            run.started_at.isoformat(),
            ended,
            *(one.of(found) for one in columns),
        ]


def _offered(runs: Sequence[FoundRun]) -> list[Column]:
    """Metrics, parameters and tags of the runs on the page, those that most runs have first; of parameters what differs."""
    metrics = Counter(name for one in runs for name in one.run.metrics)
    params = Counter(name for one in runs for name in one.run.params)
    differing = {name for name in params if len({one.run.params.get(name) for one in runs}) > 1}
    by_use = sorted(metrics, key=lambda name: (-metrics[name], name))
    by_difference = sorted(params, key=lambda name: (name not in differing, -params[name], name))
    tags = Counter(name for one in runs for name in one.run.tags if not name.startswith(_INTERNAL))
    return [
        *(Column("metrics", name) for name in by_use[:_OFFERED]),
        *(Column("params", name) for name in by_difference[:_OFFERED]),
        *(Column("tags", name) for name, _ in tags.most_common(_OFFERED)),
    ]


def _column(chosen: str) -> Column:
    kind, _, name = chosen.partition(".")
    if kind not in _KINDS or not name:
        raise Invalid(f"{chosen!r} is no column; one is {', '.join(f'{one}.NAME' for one in _KINDS)}.")
    return Column(kind, name)


def _ordered(column: Column, order: str) -> Column:
    key, _, direction = order.rpartition(" ")
    word: Any = direction if key == column.key and direction in ("ASC", "DESC") else ""
    return Column(column.kind, column.name, word)


def _address(asked: dict[str, str], chosen: Sequence[str]) -> str:
    """What of the address stays when the order or the page changes."""
    kept = {name: value for name, value in asked.items() if value and name not in ("order", "token")}
    return urlencode({**kept, **{f"{_COLUMN}{name}": "1" for name in chosen}})
