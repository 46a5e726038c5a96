"""Traces: what one call of a program did, span by span, as MLflow's clients record it.

A trace comes whole, when it has ended; its spans follow as the file `traces.json` among its files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from everloop.errors import Conflict, Invalid, NotFound
from everloop.storage import Tx
from everloop.tracking import trace_store
from everloop.tracking.filters import Grammar, parse_filter, parse_orders
from everloop.tracking.grouping import need_experiment
from everloop.tracking.places import uri_for
from everloop.tracking.records import NAME_LENGTH, TAG_LENGTH, Trace, check_texts
from everloop.tracking.searching import Page, check_limit, page_of, position_of
from everloop.tracking.trace_store import ATTRIBUTES
from everloop.workspace import Workspace

MOST_FOUND = 500  # of one page, however many are asked for: each may carry two long previews
MOST_DELETED = 1_000  # by one call
_PREVIEW_LENGTH = 10_000
_MOST_TEXTS = 200
# A path is made of it, by clients too: no other form is taken.
_ID = re.compile(r"tr-[0-9a-f]{32}", re.ASCII)
_NUMBERS = {"timestamp_ms", "execution_time_ms", "end_time_ms"}
TRACE_GRAMMAR = Grammar(
    texts=sorted(ATTRIBUTES.keys() - _NUMBERS),
    numbers=sorted(_NUMBERS),
    kinds=("attribute", "tag", "metadata"),
    aliases={
        "trace_id": "request_id",
        "timestamp": "timestamp_ms",
        "execution_time": "execution_time_ms",
        "end_time": "end_time_ms",
    },
)


def log_trace(ws: Workspace, told: Trace) -> Trace:
    """Write down a trace that has ended; saying it again replaces what was said. Where its files go is decided here.

    Raises
    ------
    Invalid
        The id is none, or something is too long or too much.
    NotFound, Conflict
        There is no such experiment, or it is deleted; so is the trace, or it is another experiment's.
    """
    if not _ID.fullmatch(told.id):
        raise Invalid(
            f"{told.id[:60]!r} is no trace's id; that is tr- and 32 hex digits. Let the client make it."
        )
    for preview in (told.request or "", told.response or ""):
        if len(preview) > _PREVIEW_LENGTH:
            raise Invalid(
                f"a preview of the trace has {len(preview):,} characters; {_PREVIEW_LENGTH:,} is the most."
            )
    if len(told.client_request_id or "") > NAME_LENGTH:
        raise Invalid(f"the client's id of the request is too long; {NAME_LENGTH} characters is the most.")
    if told.duration_ms is not None and not 0 <= told.duration_ms < 1 << 40:
        raise Invalid(f"the trace took {told.duration_ms} ms; a duration is not negative and below 2^40 ms.")
    if len(told.tags) + len(told.metadata) > _MOST_TEXTS:
        raise Invalid(
            f"the trace has more than {_MOST_TEXTS} tags and metadata, which is the most. Send fewer."
        )
    checked = replace(
        told,
        actor=ws.actor,
        tags=check_texts("a tag", told.tags, length=TAG_LENGTH),
        metadata=check_texts("metadata", told.metadata, length=TAG_LENGTH),
    )

    def change(tx: Tx) -> Trace:
        tx.lock(f"trace:{told.id}")
        experiment = need_experiment(tx, told.experiment_id)
        known = trace_store.state_of(tx, told.id)
        if known is not None and known != (told.experiment_id, None):
            raise Conflict(
                f"there was a trace {told.id} before, deleted or in another experiment. Make another id."
            )
        placed = replace(checked, artifact_uri=uri_for(ws.settings, experiment, told.id))
        trace_store.put(tx, placed)
        return placed

    ws.write(change)
    return trace(ws, told.id)


def trace(ws: Workspace, trace_id: str) -> Trace:
    """One trace. Raises NotFound, also for a deleted one."""
    if found := traces_named(ws, [trace_id]):
        return found[0]
    raise unknown_trace(trace_id)


def traces_named(ws: Workspace, trace_ids: Sequence[str]) -> list[Trace]:
    """Those of the traces that there are, newest first."""
    with ws.read() as connection:
        return trace_store.traces_by_id(connection, trace_ids)


def deleted_traces(ws: Workspace) -> list[Trace]:
    """The traces that are marked as deleted, oldest first."""
    with ws.read() as connection:
        return trace_store.traces_marked(connection)


def search_traces(
    ws: Workspace,
    *,
    experiment_ids: Sequence[int],
    filter_text: str | None = None,
    order_by: Collection[str] = (),
    limit: int = 100,
    token: str | None = None,
) -> Page[Trace]:
    """Traces of some experiments that meet a filter in MLflow's language, in order, then newest first.

    A page has at most 500, however many are asked for. Raises Invalid as `search_runs`.
    """
    conditions, orders = parse_filter(filter_text, TRACE_GRAMMAR), parse_orders(order_by, TRACE_GRAMMAR)
    offset = position_of(token)
    check_limit(limit)
    limit = min(limit, MOST_FOUND)
    with ws.read() as connection:
        found = trace_store.found_traces(
            connection, conditions, orders, experiment_ids=experiment_ids, offset=offset, limit=limit + 1
        )
    return page_of(found, offset, limit)


def tag_trace(ws: Workspace, trace_id: str, name: str, value: str) -> None:
    """Set a tag of a trace; it may change. Raises Invalid, NotFound."""
    texts = check_texts("a tag", {name: value}, length=TAG_LENGTH)
    _change(ws, trace_id, lambda tx: trace_store.put_texts(tx, trace_id, "tag", texts))


def untag_trace(ws: Workspace, trace_id: str, name: str) -> None:
    """Remove a tag of a trace. Raises NotFound for one that is not there."""

    def remove(tx: Tx) -> None:
        if not trace_store.remove_tag(tx, trace_id, name):
            raise NotFound(f"trace {trace_id} has no tag {name[:60]!r}.")

    _change(ws, trace_id, remove)


def delete_traces(
    ws: Workspace,
    experiment_id: int,
    *,
    trace_ids: Sequence[str] = (),
    until: datetime | None = None,
    most: int | None = None,
) -> int:
    """Mark traces as deleted: nobody finds them or reads their files any more, and `everloop runs clean` removes them.

    Those of these ids, or the oldest that began until a moment, up to `most`. How many it were.
    Raises Invalid unless just one of the two is given.
    """
    most = MOST_DELETED if most is None else min(most, MOST_DELETED)
    if (not trace_ids) == (until is None) or most < 1 or len(trace_ids) > MOST_DELETED:
        raise Invalid(
            f"traces are deleted by up to {MOST_DELETED:,} ids or by the time that they began until, one of both, and at "
            "least one. Give the one or the other."
        )
    return ws.write(
        lambda tx: trace_store.mark(
            tx, experiment_id, deleted_at=ws.now(), ids=trace_ids, until=until, most=most
        )
    )


def need_trace(tx: Tx, trace_id: str) -> None:
    """Raise NotFound unless there is such a trace that is not deleted."""
    state = trace_store.state_of(tx, trace_id)
    if state is None or state[1] is not None:
        raise unknown_trace(trace_id)


def unknown_trace(trace_id: str) -> NotFound:
    return NotFound(f"there is no trace {trace_id[:60]!r}. Search for traces to find those that there are.")


def _change(ws: Workspace, trace_id: str, act: Callable[[Tx], None]) -> None:
    def change(tx: Tx) -> None:
        need_trace(tx, trace_id)
        act(tx)

    ws.write(change)
