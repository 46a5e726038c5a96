"""A window of predictions, and what a look at it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from everloop import predictions
from everloop.ids import new_id
from everloop.monitoring.records import Finding, FindingKind, Measure
from everloop.workspace import Workspace

COLUMNS = [
    "id",
    "at",
    "key",
    "variant",
    "release",
    "model",
    "version",
    "inputs",
    "output",
    "status",
    "latency_us",
    "replay",
    "shadow_of",
    "probability",
]


@dataclass(frozen=True)
class Window:
    """What an endpoint answered in [start, end): replays and shadows left out, failures and refusals kept.

    Where the log was sampled, `predictions` are those that `chance` chose, of each alike, and shares among them hold.
    They are read when they are first looked at.
    """

    endpoint: str
    start: datetime
    end: datetime
    read: Callable[[], tuple[pa.Table, float]]

    @cached_property
    def _found(self) -> tuple[pa.Table, float]:
        return self.read()

    @property
    def predictions(self) -> pa.Table:
        return self._found[0]

    @property
    def chance(self) -> float:
        return self._found[1]

    @property
    def sampled(self) -> str:
        """What to say beside a number of predictions; empty when all are there."""
        return sampled(self.chance)

    def by_version(self) -> Iterator[tuple[str, str, pa.Table]]:
        """For each release that answered: version, release, its predictions; the busiest first."""
        counted: Any = self.predictions["release"].value_counts()
        counts = dict(
            zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
        )
        for release in sorted(filter(None, counts), key=lambda one: -counts[one]):
            rows = self.predictions.filter(pc.equal(self.predictions["release"], pa.scalar(release)))
            yield f"{rows['model'][0]}@{rows['version'][0]}", release, rows

    def measure(
        self,
        name: str,
        value: float | None,
        *,
        n: int,
        version: str = "",
        low: float | None = None,
        high: float | None = None,
        detail: dict[str, Any] | None = None,
    ) -> Measure:
        return Measure(self.endpoint, name, version, self.start, self.end, value, low, high, n, detail)

    def finding(
        self, kind: FindingKind, message: str, *, detail: Mapping[str, Any], versions: tuple[str, ...]
    ) -> Finding:
        return Finding(
            new_id("find"),
            self.endpoint,
            kind,
            self.end,
            self.start,
            self.end,
            message,
            dict(detail),
            versions,
        )


@dataclass(frozen=True)
class Seen:
    """What one look at one window measured and found; `failure` says why it could not look."""

    measures: tuple[Measure, ...] = ()
    findings: tuple[Finding, ...] = ()
    failure: str | None = None


def read_window(ws: Workspace, endpoint: str, *, start: datetime, end: datetime) -> Window:
    """The endpoint's own traffic in [start, end), in no order."""

    def read() -> tuple[pa.Table, float]:
        table = predictions.read(
            ws.home / "serving", endpoint=endpoint, start=start, end=end, columns=COLUMNS
        )
        own = pc.and_(pc.invert(table["replay"]), table["shadow_of"].is_null())
        return predictions.evenly(table.filter(own))

    return Window(endpoint, start, end, read)


def sampled(chance: float, n: int | None = None) -> str:
    """What to say beside a number of predictions of which each was kept with this chance."""
    if chance == 1:
        return ""
    of = "" if n is None else f" of about {float(f'{n / chance:.3g}'):,.0f}"
    return f" (a sample of {in_percent(chance)}{of})"


def in_percent(share: float) -> str:
    """A share as a person reads it: `12 %`, `0.7 %`."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.3g} %"
