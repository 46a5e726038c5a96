"""What the user's KPIs of arms are worth, prediction by prediction or key by key."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everloop import monitoring, predictions
from everloop.errors import Invalid
from everloop.rollout.endpoints import folder
from everloop.rollout.plans import ArmKpi
from everloop.workspace import Workspace


@dataclass(frozen=True)
class KpiValues:
    """A KPI's values, in its own unit and between its ends, or why there are none."""

    by_prediction: dict[str, float] = field(default_factory=dict)
    by_key: dict[str, float] = field(default_factory=dict)
    problem: str | None = None

    def of(self, ids: list[str], keys: list[str | None]) -> NDArray[np.float64]:
        """The value of each row, not-a-number where it is not known; (n_rows,) float64."""
        found = [
            self.by_prediction.get(one, self.by_key.get(key or "", np.nan))
            for one, key in zip(ids, keys, strict=True)
        ]
        return np.asarray(found, dtype=np.float64)


def values_of(
    ws: Workspace,
    kpi: ArmKpi,
    endpoint: str,
    *,
    start: datetime,
    end: datetime | None,
    ids: Collection[str],
    sticky: bool,
) -> KpiValues:
    """Ask the KPI's query about the predictions `ids`, all made in [start, end)."""
    if not ids:
        return KpiValues()
    table = predictions.read(
        folder(ws), endpoint=endpoint, start=start, end=end, columns=list(monitoring.KPI_COLUMNS)
    )
    table = table.filter(pc.is_in(table["id"], pa.array(sorted(ids), pa.string())))
    try:
        rows = monitoring.query_predictions(
            ws,
            endpoint,
            table,
            start=start,
            end=end or ws.now() + timedelta(seconds=1),
            sql=kpi.sql,
            name=kpi.name,
        )
        return _values(kpi, rows, sticky=sticky)
    except Invalid as error:
        return KpiValues(problem=str(error))


def _values(kpi: ArmKpi, rows: list[dict[str, Any]], *, sticky: bool) -> KpiValues:
    names = set(rows[0]) if rows else {"prediction_id", "value"}
    by = next((one for one in ("prediction_id", "key") if one in names), None)
    if by is None or "value" not in names or (by == "key" and not sticky):
        raise Invalid(
            f"the KPI {kpi.name!r} returned the columns {', '.join(sorted(names))}; it returns value beside prediction_id, or "
            "beside key where keys stick to their version."
        )
    try:
        found = {
            str(row[by]): min(max(float(row["value"]), kpi.low), kpi.high)
            for row in rows
            if row["value"] is not None and row[by] is not None
        }
    except (TypeError, ValueError) as error:
        raise Invalid(f"the KPI {kpi.name!r} returned a value that is no number: {error}.") from error
    found = {one: value for one, value in found.items() if not np.isnan(value)}
    return KpiValues(by_prediction=found) if by == "prediction_id" else KpiValues(by_key=found)
