"""What the data plane reads and writes: manifests, routes, worker files, prediction records.

These are the wire formats: JSON files in `<home>/serving`, msgpack in the prediction log. A field may be
added with a default; none is renamed, reordered or removed while files with it exist.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from everloop.features import FeatureView

FieldType = Literal["string", "integer", "number", "boolean", "time", "image", "binary"]
TRIED = "try:"
"""How the key of a request begins that somebody sent by hand to see what comes of it. One that says it is a replay besides
is no evidence: no judge counts it."""
Status = Literal["ok", "failed", "refused"]


class Field(msgspec.Struct, frozen=True):
    """One input of a model. `allowed`, `minimum` and `maximum` hold for values that are not null."""

    name: str
    type: FieldType
    nullable: bool = False
    allowed: tuple[str | int | float | bool, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives. `classes` in the model's own order; None when the output is a number."""

    inputs: tuple[Field, ...]
    output: Literal["class", "number"]
    classes: tuple[str, ...] | None = None


class Approval(msgspec.Struct, frozen=True):
    by: str
    at: datetime
    reason: str


class Compiled(msgspec.Struct, frozen=True):
    """How a compiled plan of a version's model compared with the model, when it was released.

    `digest` is the version's, `rules` those that the plan was made by, `library` the version of scikit-learn. Of `rows`, so
    many were real; `left` is how many the plan leaves to the model. `difference` is the largest one, of a probability, or of a
    number relative to it. Why it is not used is in `reason`.
    """

    digest: str
    rules: int
    library: str
    is_used: bool
    reason: str = ""
    rows: int = 0
    real_rows: int = 0
    left: int = 0
    difference: float = 0.0

    @property
    def in_words(self) -> str:
        if not self.is_used:
            return f"answered by the model's own library: {self.reason}"
        left = f", {self.left} left to the model" if self.left else ""
        return (
            f"answered by its compiled plan: the same on {self.rows} rows, {self.real_rows} of them real{left}, "
            f"to within {self.difference:.1g}"
        )


class Manifest(msgspec.Struct, frozen=True):
    """A released model version: all that is needed to serve it and to say where it comes from.

    `files` maps a path inside the model's folder to the BLAKE3 digest of its content, by which it is found
    among the blobs. `code` names the folder in `<home>/serving/code` that holds the features' modules. `trust` says who
    allowed a model that brings code of its own to run it. `compiled` is None in releases from before there were plans.
    """

    id: str
    model: str
    version: int
    digest: str
    files: dict[str, str]
    signature: Signature
    created_at: datetime
    flavor: str = "sklearn"
    features: tuple[FeatureView, ...] = ()
    trusted_types: tuple[str, ...] = ()
    code: str | None = None
    environment: str | None = None
    data_version: str | None = None
    label_snapshot: str | None = None
    run: str | None = None
    gate_report: str | None = None
    approvals: tuple[Approval, ...] = ()
    trust: Approval | None = None
    compiled: Compiled | None = None


class Variant(msgspec.Struct, frozen=True):
    """A release under a name on an endpoint. `weight` is in percent: of the traffic, or mirrored (shadow).

    One of 0 % answers nothing and is loaded and warm all the same.
    """

    name: str
    release: str
    weight: float


class Segment(msgspec.Struct, frozen=True):
    """The requests whose input `field` has one of these values."""

    field: str
    values: tuple[str | int | float | bool, ...]


class Route(msgspec.Struct, frozen=True):
    """How an endpoint's traffic is split; `salt` changes with each rollout, so that keys are dealt anew.

    Where there are `segments`, only requests in all of them are split; the others are answered by `rest`, whose name
    in the log says why.
    """

    endpoint: str
    salt: str
    variants: tuple[Variant, ...]
    stickiness: Literal["request", "key"] = "request"
    shadow: tuple[Variant, ...] = ()
    segments: tuple[Segment, ...] = ()
    rest: Variant | None = None


class RouteTable(msgspec.Struct, frozen=True):
    """What is live on all endpoints; each change has a higher epoch."""

    epoch: int
    endpoints: dict[str, Route]


class Worker(msgspec.Struct, frozen=True):
    """What a serving process says of itself. `epoch`: of the newest table that it serves whole.

    `paths` says of each release whether its compiled plan answers, or why its model does.
    """

    writer: int
    pid: int
    epoch: int | None
    started_at: datetime
    seen_at: datetime
    host: str
    port: int
    error: str | None = None
    paths: dict[str, str] = {}


class PredictionRecord(msgspec.Struct, frozen=True, array_like=True):
    """One answered request for a prediction, ok or not, as it stands in the log.

    `status` is ok, failed (our side: the model or a feature raised, no room in the queue) or refused (the
    request broke the model's signature; variant and release are empty when it was not even readable).
    `at` is domain time in microseconds. `inputs` are as given, images and binaries as `blake3:HEX`.
    `features` hold [value, event time of the newest row behind it in microseconds or None]. `scores` are the
    three most probable classes. A shadow's record names the answered prediction in `shadow_of`. `request` is the same
    for all rows of one HTTP request that asked for several, None for a request of one row.
    """

    id: str
    endpoint: str
    variant: str
    release: str
    model: str
    version: int
    epoch: int
    at: int
    key: str | None
    inputs: dict[str, Any]
    features: dict[str, tuple[int | float | str | None, int | None]]
    output: str | float | None
    scores: dict[str, float]
    status: Status
    error: str | None
    latency_us: int
    replay: bool = False
    shadow_of: str | None = None
    request: str | None = None
