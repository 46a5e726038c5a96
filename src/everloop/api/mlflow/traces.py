"""MLflow's calls for traces, as far as its client makes them: a trace comes when it has ended, its spans as a file after it.

What the server says of a trace tells the client where that file goes: a place of the artifact proxy, or below the root
that is set. Spans one by one, assessments, and what is computed over many traces are refused by name.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from everloop import tracking
from everloop.api.mlflow.protocol import (
    MlflowError,
    MlflowRoute,
    experiment_number,
    milliseconds,
    moment,
)
from everloop.api.routes import Call
from everloop.errors import Invalid
from everloop.tracking import Keeping, Trace

_STATES = frozenset({"STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS"})
_DURATION = re.compile(r"(\d{1,10})(?:\.(\d{1,9}))?s", re.ASCII)
_PLACE_TAG = "mlflow.artifactLocation"
_OURS = frozenset({_PLACE_TAG, "mlflow.trace.spansLocation"})  # the server says these, never the client
_MOST_AT_ONCE = 1_000
# Clients look for this, and from then on send no spans one by one: they come with the trace.
_NO_SPANS = "REST OTLP span logging is not supported by this server: spans come as a file, when their trace has ended."


class TraceExperiment(TypedDict):
    experiment_id: str


class TracePlace(TypedDict):
    type: str
    mlflow_experiment: TraceExperiment


class TraceForm(TypedDict):
    """A trace in the protocol's form."""

    trace_id: str
    trace_location: TracePlace
    request_time: str
    state: str
    trace_metadata: dict[str, str]
    tags: dict[str, str]
    execution_duration: NotRequired[str]
    request_preview: NotRequired[str]
    response_preview: NotRequired[str]
    client_request_id: NotRequired[str]


class InfoForm(TypedDict):
    trace_info: TraceForm


class Found(TypedDict):
    trace: InfoForm


class Infos(TypedDict):
    trace_infos: list[TraceForm]


class Page(TypedDict):
    traces: list[TraceForm]
    next_page_token: NotRequired[str]


class Deleted(TypedDict):
    traces_deleted: int


class ExperimentPlace(msgspec.Struct):
    experiment_id: str


class Location(msgspec.Struct):
    mlflow_experiment: ExperimentPlace | None = None


class Info(msgspec.Struct):
    trace_id: str
    trace_location: Location
    request_time: Annotated[datetime, msgspec.Meta(tz=True)]
    execution_duration: str | None = None
    state: str = "STATE_UNSPECIFIED"
    request_preview: str | None = None
    response_preview: str | None = None
    client_request_id: str | None = None
    trace_metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    assessments: list[Any] = []


class Told(msgspec.Struct):
    trace_info: Info


class Start(msgspec.Struct):
    trace: Told


class One(msgspec.Struct):
    trace_id: str


class Some(msgspec.Struct):
    trace_ids: list[str] = []


class Search(msgspec.Struct):
    locations: list[Location] = []
    filter: str | None = None
    max_results: int | None = None
    order_by: list[str] = []
    page_token: str | None = None


class Tag(One):
    key: str
    value: str = ""


class Delete(msgspec.Struct):
    experiment_id: str
    max_timestamp_millis: int | None = None
    max_traces: int | None = None
    request_ids: list[str] = []


def start(call: Call, asked: Start) -> Found:
    """Write down a trace that has ended, and say where the file of its spans goes."""
    told = asked.trace.trace_info
    if told.assessments:
        raise MlflowError(
            "NOT_IMPLEMENTED",
            "assessments of traces are not supported by this server. Log the trace without feedback and expectations.",
        )
    if told.state not in _STATES:
        raise Invalid(f"the state is {told.state[:40]!r}; it is one of {', '.join(sorted(_STATES))}.")
    began_at = moment(milliseconds(told.request_time))
    assert began_at is not None  # noqa: S101  (it was given)
    trace = Trace(
        id=told.trace_id,
        experiment_id=_experiment_at(told.trace_location),
        state=told.state,
        started_at=began_at,
        duration_ms=_duration_ms(told.execution_duration),
        request=told.request_preview,
        response=told.response_preview,
        client_request_id=told.client_request_id,
        tags={name: value for name, value in told.tags.items() if name not in _OURS},
        metadata=told.trace_metadata,
    )
    return {"trace": {"trace_info": shown(tracking.log_trace(call.ws, trace))}}


def get(call: Call, asked: One) -> Found:
    """One trace, without its spans."""
    return {"trace": {"trace_info": shown(tracking.trace(call.ws, asked.trace_id))}}


def get_some(call: Call, asked: Some) -> Infos:
    """Those of some traces that there are, without their spans."""
    if len(asked.trace_ids) > _MOST_AT_ONCE:
        raise Invalid(
            f"{len(asked.trace_ids):,} traces are asked for; {_MOST_AT_ONCE:,} is the most. Ask in parts."
        )
    return {"trace_infos": [shown(one) for one in tracking.traces_named(call.ws, asked.trace_ids)]}


def search(call: Call, asked: Search) -> Page:
    """Traces of some experiments that meet a filter, in pages of up to 500."""
    if len(asked.locations) > _MOST_AT_ONCE:
        raise Invalid(f"{len(asked.locations):,} experiments are named; {_MOST_AT_ONCE:,} is the most.")
    page = tracking.search_traces(
        call.ws,
        experiment_ids=[_experiment_at(one) for one in asked.locations],
        filter_text=asked.filter,
        order_by=asked.order_by,
        limit=100 if asked.max_results is None else asked.max_results,
        token=asked.page_token,
    )
    found: Page = {"traces": [shown(one) for one in page.found]}
    return found if page.next_token is None else {**found, "next_page_token": page.next_token}


def set_tag(call: Call, asked: Tag) -> None:
    """Set a tag of a trace."""
    _check_not_ours(asked.key)
    tracking.tag_trace(call.ws, asked.trace_id, asked.key, asked.value)


def delete_tag(call: Call, asked: Tag) -> None:
    """Remove a tag of a trace."""
    _check_not_ours(asked.key)
    tracking.untag_trace(call.ws, asked.trace_id, asked.key)


def delete(call: Call, asked: Delete) -> Deleted:
    """Delete traces of an experiment, by their ids or by when they began, and say how many it were."""
    deleted = tracking.delete_traces(
        call.ws,
        experiment_number(asked.experiment_id),
        trace_ids=asked.request_ids,
        until=moment(asked.max_timestamp_millis),
        most=asked.max_traces,
    )
    return {"traces_deleted": deleted}


async def no_spans(_call: Call, _request: Request) -> Response:
    """Say that spans come as a file with their trace, and not one by one."""
    raise MlflowError("NOT_IMPLEMENTED", _NO_SPANS)


def shown(trace: Trace) -> TraceForm:
    """A trace in the protocol's form."""
    place = tracking.uri_at(Keeping(trace.experiment_id, trace.artifact_uri), trace.id)
    told: TraceForm = {
        "trace_id": trace.id,
        "trace_location": {
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": str(trace.experiment_id)},
        },
        "request_time": trace.started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "state": trace.state,
        "trace_metadata": dict(trace.metadata),
        "tags": {**trace.tags, _PLACE_TAG: place},
    }
    if trace.duration_ms is not None:
        told["execution_duration"] = f"{trace.duration_ms // 1_000}.{trace.duration_ms % 1_000:03d}s"
    if trace.request is not None:
        told["request_preview"] = trace.request
    if trace.response is not None:
        told["response_preview"] = trace.response
    if trace.client_request_id is not None:
        told["client_request_id"] = trace.client_request_id
    return told


def _experiment_at(location: Location) -> int:
    if location.mlflow_experiment is None:
        raise Invalid("a trace is in an experiment here: name its id as mlflow_experiment.experiment_id.")
    return experiment_number(location.mlflow_experiment.experiment_id)


def _duration_ms(told: str | None) -> int | None:
    if told is None:
        return None
    match = _DURATION.fullmatch(told)
    if match is None:
        raise Invalid(f"{told[:40]!r} is no duration; that is a number of seconds such as '1.5s'.")
    return int(match[1]) * 1_000 + int((match[2] or "0").ljust(3, "0")[:3])


def _check_not_ours(name: str) -> None:
    if name in _OURS:
        raise Invalid(
            f"the tag {name} says where a trace's file is, which the server decides. Choose another name."
        )


ROUTES = [
    MlflowRoute("POST", "mlflow/traces", "run", start, Start, version="3.0"),
    MlflowRoute("POST", "mlflow/traces/search", "see", search, Search, version="3.0"),
    MlflowRoute("POST", "mlflow/traces/batchGetInfos", "see", get_some, Some, version="3.0"),
    MlflowRoute("GET", "mlflow/traces/{trace_id}", "see", get, One, version="3.0"),
    # clients ask for these below 2.0
    MlflowRoute("POST", "mlflow/traces/delete-traces", "run", delete, Delete),
    MlflowRoute("PATCH", "mlflow/traces/{trace_id}/tags", "run", set_tag, Tag),
    MlflowRoute("DELETE", "mlflow/traces/{trace_id}/tags", "run", delete_tag, Tag),
    MlflowRoute("POST", "mlflow/traces/delete-traces", "run", delete, Delete, version="3.0"),
    MlflowRoute("PATCH", "mlflow/traces/{trace_id}/tags", "run", set_tag, Tag, version="3.0"),
    MlflowRoute("DELETE", "mlflow/traces/{trace_id}/tags", "run", delete_tag, Tag, version="3.0"),
    MlflowRoute("POST", "v1/traces", "run", version=None, stream=no_spans),
]
