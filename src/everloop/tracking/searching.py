"""Finding runs and experiments by filters, in pages."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from everloop.clock import from_micros
from everloop.errors import Invalid
from everloop.tracking import queries, store
from everloop.tracking.filters import Grammar, Kind, parse_filter, parse_orders
from everloop.tracking.lifecycle import unknown_run
from everloop.tracking.queries import View
from everloop.tracking.records import Experiment, FoundRun, MetricPoint, RawPoint
from everloop.workspace import Workspace

T = TypeVar("T")

MOST_RESULTS = 50_000  # of one page, as MLflow allows
_MOST_OFFSET = 1 << 31

RUN_GRAMMAR = Grammar(
    texts=("run_id", "run_name", "status", "user_id", "artifact_uri"),
    numbers=("start_time", "end_time"),
    kinds=("attribute", "metric", "param", "tag", "dataset"),
    aliases={
        "created": "start_time",
        "Created": "start_time",
        "run name": "run_name",
        "Run name": "run_name",
        "Run Name": "run_name",
    },
    dataset_texts=("name", "digest", "context"),
)
EXPERIMENT_GRAMMAR = Grammar(
    texts=("name", "experiment_id"),
    numbers=("creation_time", "last_update_time"),
    kinds=("attribute", "tag"),
)
_ATTRIBUTE: Kind = "attribute"
_EXPERIMENT_ORDERS = Grammar(EXPERIMENT_GRAMMAR.texts, EXPERIMENT_GRAMMAR.numbers, kinds=(_ATTRIBUTE,))


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some of what was found; `next_token` asks for what follows, None at the end."""

    found: Sequence[T]
    next_token: str | None


def search_runs(
    ws: Workspace,
    *,
    experiment_ids: Sequence[int],
    filter_text: str | None = None,
    order_by: Collection[str] = (),
    view: View = "active",
    limit: int = 1_000,
    token: str | None = None,
) -> Page[FoundRun]:
    """Runs of some experiments that meet a filter in MLflow's language, in order, then newest start first.

    Of those with no value for what is ordered by, the ones with NaN come before those without any, both at the end.

    Raises
    ------
    Invalid
        The filter, the order or the token cannot be read, or `limit` is not from 1 to 50,000.
    """
    conditions, orders = parse_filter(filter_text, RUN_GRAMMAR), parse_orders(order_by, RUN_GRAMMAR)
    offset = position_of(token)
    check_limit(limit)
    if not experiment_ids:
        return Page([], None)
    with ws.read() as connection:
        found = queries.found_runs(
            connection,
            conditions,
            orders,
            experiment_ids=experiment_ids,
            view=view,
            offset=offset,
            limit=limit + 1,
        )
    return page_of(found, offset, limit)


def found_run(ws: Workspace, run_id: str) -> FoundRun:
    """One run as a search hands it out. Raises NotFound."""
    with ws.read() as connection:
        found = queries.one_run(connection, run_id)
    if found is None:
        raise unknown_run(run_id)
    return found


def search_experiments(
    ws: Workspace,
    *,
    filter_text: str | None = None,
    order_by: Collection[str] = (),
    view: View = "active",
    limit: int = 1_000,
    token: str | None = None,
) -> Page[Experiment]:
    """Experiments that meet a filter in MLflow's language, in order, then newest first. Raises as `search_runs`."""
    conditions = parse_filter(filter_text, EXPERIMENT_GRAMMAR)
    orders = parse_orders(order_by, _EXPERIMENT_ORDERS)
    offset = position_of(token)
    check_limit(limit)
    with ws.read() as connection:
        found = queries.found_experiments(
            connection, conditions, orders, view=view, offset=offset, limit=limit + 1
        )
    return page_of(found, offset, limit)


def page_of(found: Sequence[T], offset: int, limit: int) -> Page[T]:
    """`found` was asked for with one more than the page holds."""
    has_more = len(found) > limit
    return Page(found[:limit], page_token(offset + limit) if has_more else None)


def history_page(
    ws: Workspace, run_id: str, name: str, *, limit: int, token: str | None = None
) -> Page[RawPoint]:
    """Points of a metric in order of step, then time, then value (NaN last).

    Raises Invalid for a token that is none, NotFound for an unknown run.
    """
    after = _point_of(token, name) if token else None
    with ws.read() as connection:
        found = store.raw_points_of(connection, run_id, name, after=after, limit=limit + 1)
        if not found and not store.has_run(connection, run_id):
            raise unknown_run(run_id)
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    told = f"{last.step} {last.at_us} {last.value!r}"
    return Page(found[:limit], base64.urlsafe_b64encode(told.encode()).decode())


def _point_of(token: str, name: str) -> MetricPoint:
    try:
        step, micros, value = base64.urlsafe_b64decode(token[:120]).decode("ascii").split(" ")
        return MetricPoint(name, float(value), int(step), from_micros(int(micros)))
    except (ValueError, OverflowError) as error:  # what base64 and ascii refuse is a ValueError too
        raise _no_token(token) from error


def page_token(position: int) -> str:
    """A token that stands for a position."""
    return base64.urlsafe_b64encode(b"at %d" % position).decode()


def position_of(token: str | None) -> int:
    """The position that a token stands for, 0 for none. Raises Invalid for what is no token."""
    if not token:
        return 0
    try:
        word, _, digits = base64.urlsafe_b64decode(token[:40]).partition(b" ")
        if word == b"at" and digits.isdigit() and int(digits) <= _MOST_OFFSET:
            return int(digits)
    except ValueError as error:  # what base64 refuses is one too
        raise _no_token(token) from error
    raise _no_token(token)


def _no_token(token: str) -> Invalid:
    return Invalid(
        f"{token[:40]!r} is no page token of this server. Send the token that the page before gave, or none to begin."
    )


def check_limit(limit: int) -> None:
    if not 1 <= limit <= MOST_RESULTS:
        raise Invalid(f"{limit} results were asked for at once; a page has 1 to {MOST_RESULTS:,}.")
