"""What the prediction log keeps of a prediction, and by what rules.

A record is a msgpack array, a policy part of the route table's JSON. A field may be added at the end with a default; none
is renamed, reordered or removed while files with it exist.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Status = Literal["ok", "failed", "refused"]
Personal = Literal["hash", "mask", "drop"]


class LogPolicy(msgspec.Struct, frozen=True):
    """How an endpoint's predictions are logged. The defaults log each one whole, before its answer, and for ever.

    `sample` is the share that is kept of those that were answered, `sample_failed` of those that failed or were refused.
    `inputs` is what becomes of every input; `keep` leaves it to what the schema says of each column. Records older than
    `keep_days` are removed once their segment is sealed. `when_full` says what happens when the log cannot be written.
    """

    sample: float = 1.0
    sample_failed: float = 1.0
    inputs: Literal["keep", "hash", "drop"] = "keep"
    keep_days: float | None = None
    when_full: Literal["refuse", "serve"] = "refuse"

    def __post_init__(self) -> None:
        for name in ("sample", "sample_failed"):
            if not 0 < (share := getattr(self, name)) <= 1:
                raise ValueError(f"{name} is {share}; it is a share above 0 and at most 1, such as 0.1")
        if self.keep_days is not None and not 0 < self.keep_days < 36_500:
            raise ValueError(
                f"keep_days is {self.keep_days}; it is a number of days above 0, or None for ever"
            )

    @property
    def is_sampled(self) -> bool:
        return self.sample < 1 or self.sample_failed < 1

    @property
    def share(self) -> str:
        """For whoever looks at what is kept: of how much it is a sample; empty when that is all."""
        if not self.is_sampled:
            return ""
        return (
            f"The log keeps {100 * self.sample:.3g} % of what is answered and {100 * self.sample_failed:.3g} % of what fails or is "
            "refused, by chance; all of it while versions are compared."
        )


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first fields of a record: what a reader looks for. Read alone it takes a fifth of the time."""

    id: str
    endpoint: str
    variant: str
    release: str
    model: str
    version: int
    epoch: int
    at: int
    key: str | None


class PredictionRecord(Head, frozen=True, array_like=True, gc=True):
    """One answered request for a prediction, ok or not, as it stands in the log.

    `status` is ok, failed (our side: the model or a feature raised, no room in the queue) or refused (the
    request broke the model's signature; variant and release are empty when it was not even readable).
    `at` is domain time in microseconds. `inputs` are as given, images and binaries as `blake3:HEX`.
    `features` hold [value, event time of the newest row behind it in microseconds or None]. `scores` are the
    three most probable classes. A shadow's record names the answered prediction in `shadow_of`. `request` is the same
    for all rows of one HTTP request that asked for several, None for a request of one row. `probability` is the chance
    that this record had to be kept. `assigned` says what chose the variant: `weights`, `key`, `rule:NAME`, `pinned`, `rest`,
    `holdback` or `shadow`.
    """

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
    probability: float = 1.0
    assigned: str = ""
