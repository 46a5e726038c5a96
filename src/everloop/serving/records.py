"""What the data plane reads and writes: manifests, routes, worker files.

These are the wire formats: JSON files in `<home>/serving`. A field may be added with a default; none is renamed,
reordered or removed while files with it exist.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from everloop.errors import Invalid
from everloop.features import FeatureView
from everloop.predictions import LogPolicy, Personal

FieldType = Literal["string", "integer", "number", "boolean", "time", "image", "binary"]
TRIED = "try:"
"""How the key of a request begins that somebody sent by hand to see what comes of it. One that says it is a replay besides
is no evidence: no judge counts it."""


WITH_CODE = ("pyfunc", "function")  # flavors


class Field(msgspec.Struct, frozen=True):
    """One input of a model. The rules hold for values that are not null.

    With `unseen="pass"` a value that is not among the `allowed` ones goes to the model, as one that it has not seen. `longest` counts the
    characters of a text or the bytes of a binary, `most_pixels` an image's. `from_schema` names the rules that the dataset's schema
    states; the others were said where the model was logged, or are guessed from its training rows. What is not set is not
    written, so that older signatures keep their digest.
    """

    name: str
    type: FieldType
    nullable: bool = False
    allowed: tuple[str | int | float | bool, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    unseen: Literal["refuse", "pass"] | msgspec.UnsetType = msgspec.UNSET
    longest: int | msgspec.UnsetType = msgspec.UNSET
    most_pixels: int | msgspec.UnsetType = msgspec.UNSET
    from_schema: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


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
    Where `onnx` is not empty, it is the digest of a conversion to ONNX, which was compared because there is no plan.
    `columns` is the digest of what was kept of the model as data, from which whole columns are answered: compared in the same way.
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
    onnx: str = ""
    columns: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def in_words(self) -> str:
        if not self.is_used:
            return f"answered by the model's own library: {self.reason}"
        left = f", {self.left} left to the model" if self.left else ""
        what = "its conversion to ONNX" if self.onnx else "its compiled plan"
        return (
            f"answered by {what}: the same on {self.rows} rows, {self.real_rows} of them real{left}, "
            f"to within {self.difference:.1g}"
        )


class Manifest(msgspec.Struct, frozen=True):
    """A released model version: all that is needed to serve it and to say where it comes from.

    `files` maps a path inside the model's folder to the BLAKE3 digest of its content, by which it is found
    among the blobs. `code` names the folder in `<home>/serving/code` that holds the features' modules. `trust` says who
    allowed a model that brings code of its own to run it. `compiled` is None in releases from before there were plans.
    `personal` names the inputs that the schema marked as personal data, and how the prediction log keeps them.
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
    personal: dict[str, Personal] = {}

    @property
    def brings_code(self) -> bool:
        """Whether it runs code of its own: in a process of its own, once somebody trusts it."""
        return self.flavor in WITH_CODE


class Variant(msgspec.Struct, frozen=True):
    """A release under a name on an endpoint. `weight` is in percent: of the traffic, or mirrored (shadow).

    One of 0 % answers nothing and is loaded and warm all the same.
    """

    name: str
    release: str
    weight: float
    dealt_as: str = ""
    """The name by which chance knows it, its own when empty: keys stay where they are although a variant is renamed."""


class Segment(msgspec.Struct, frozen=True):
    """The requests whose input `field` has one of these values."""

    field: str
    values: tuple[str | int | float | bool, ...]


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an endpoint's models may take, and how they are asked; what is left out is as the settings say, or not limited.

    Parameters
    ----------
    deadline_ms
        A row that has no answer so long after its request was read gets none; a client may ask for less.
    own_process
        Each version runs in a process of its own (one for each serving process): its crash is nobody else's.
    memory_mb
        What that process may take, Python and its libraries included, in 10^6 bytes. Implies `own_process`.
    cores
        How many cores it runs on, and threads its libraries start. Implies `own_process`.
    hang_s
        After so long without an answer to a batch that process is stopped and started again.
    batch_rows
        How many rows are asked together at most.
    wait_ms
        How long a batch that is smaller waits for more rows.
    queue
        How many rows may wait or be in work; more are refused.
    """

    deadline_ms: float | None = None
    own_process: bool = False
    memory_mb: int | None = None
    cores: int | None = None
    hang_s: float = 30.0
    batch_rows: int = 256
    wait_ms: float = 0.0
    queue: int | None = None

    def __post_init__(self) -> None:
        for name, kind, least, most in _LIMITS:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                whole = "whole " if kind is int else ""
                raise Invalid(
                    f"limits: {name} is {value}; it is a {whole}number from {least} to {most:,}. Give another or leave it out."
                )

    @property
    def stated(self) -> dict[str, bool | float]:
        """Those that are not as when nobody states any."""
        usual = Limits()
        named = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in named.items() if value != getattr(usual, name)}

    @property
    def is_apart(self) -> bool:
        """Whether the models run in processes of their own."""
        return self.own_process or self.memory_mb is not None or self.cores is not None


_LIMITS = (
    ("deadline_ms", int | float, 1, 3_600_000),
    ("memory_mb", int, 64, 1 << 24),
    ("cores", int, 1, 4_096),
    ("hang_s", int | float, 0.1, 3_600),
    ("batch_rows", int, 1, 65_536),
    ("wait_ms", int | float, 0, 10_000),
    ("queue", int, 1, 1 << 20),
)


class Rule(msgspec.Struct, frozen=True):
    """The requests that `variant` answers whatever the weights: by a header, or by an input, of one of these values.

    A header's name is in small letters. Without values it is enough that the header or input is there.
    """

    name: str
    variant: Variant
    header: str | None = None
    field: str | None = None
    values: tuple[str | int | float | bool, ...] = ()


class Route(msgspec.Struct, frozen=True):
    """How an endpoint's traffic is split; `salt` changes with each rollout, so that keys are dealt anew.

    Where there are `segments`, only requests in all of them are split; the others are answered by `rest`, whose name
    in the log says why. Before that the first of the `rules` that a request meets places it. `limits` hold for each of its
    versions. `key` is the input that stands for the key of a request that names none.
    """

    endpoint: str
    salt: str
    variants: tuple[Variant, ...]
    stickiness: Literal["request", "key"] = "request"
    shadow: tuple[Variant, ...] = ()
    segments: tuple[Segment, ...] = ()
    rest: Variant | None = None
    log: LogPolicy = LogPolicy()
    limits: Limits = Limits()
    rules: tuple[Rule, ...] = ()
    key: str | None = None


class RouteTable(msgspec.Struct, frozen=True):
    """What is live on all endpoints; each change has a higher epoch."""

    epoch: int
    endpoints: dict[str, Route]


class Worker(msgspec.Struct, frozen=True):
    """What a serving process says of itself. `epoch`: of the newest table that it serves whole.

    `paths` says of each release whether its compiled plan answers, or why its model does. `unlogged` counts by endpoint what
    was answered without the log since the process began, `log_error` says why the log cannot be written now. `group` is the
    process that started it as one `of` several, `starts` how often that was so far. `problems` says of each endpoint whose
    newest routes it does not follow why.
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
    unlogged: dict[str, int] = {}
    log_error: str | None = None
    group: int | None = None
    of: int = 1
    starts: int = 1
    problems: dict[str, str] = {}


class Crash(msgspec.Struct, frozen=True):
    """A serving process that ended by itself: by which signal (negative) or with which exit code, and the routes that it served."""

    at: datetime
    code: int
    epoch: int
