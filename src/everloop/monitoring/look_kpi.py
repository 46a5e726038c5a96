"""A number of the user's own: one SQL query over a window's predictions, corrections and outcomes.

In the view `predictions` the column `inputs` is a struct with the inputs of the model, in its types: `inputs.price`. What
a request lacked, or what did not fit its type in a refused one, is null there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from everloop import feedback, serving
from everloop.errors import Invalid
from everloop.monitoring.records import KpiWatch
from everloop.monitoring.seen import COLUMNS, Seen, Window
from everloop.workspace import Workspace

KPI_COLUMNS = COLUMNS
_MOST = 1_000_000  # corrections of one window
# times, images and binaries are texts in the log
_SQL_TYPES = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}


def look_at_kpi(ws: Workspace, watch: KpiWatch, window: Window) -> Seen:
    """Run the query; it sees the window's tables and nothing else: no file, no network.

    Raises
    ------
    Invalid
        The query failed or did not return one row with a number.
    """
    rows = _ask(ws, window, watch.sql, name=watch.name)
    value, n = _one_number(watch, rows, otherwise=window.predictions.num_rows)
    name = f"kpi:{watch.name}"
    measured = (window.measure(name, value, n=n),)
    above = watch.at_most is not None and value is not None and value > watch.at_most
    below = watch.at_least is not None and value is not None and value < watch.at_least
    if not (above or below):
        return Seen(measured)
    rule = f"at most {watch.at_most:g}" if above else f"at least {watch.at_least:g}"
    told = f"{watch.name} is {value:.4g} (n = {n:,}); {rule} is wanted"
    versions = tuple(version for version, _, _ in window.by_version())
    return Seen(
        measured,
        (window.finding("kpi", told, detail={"about": watch.name, "value": value}, versions=versions),),
    )


def query_predictions(
    ws: Workspace,
    endpoint: str,
    predictions: pa.Table,
    *,
    start: datetime,
    end: datetime,
    sql: str,
    name: str,
) -> list[dict[str, Any]]:
    """What a query returns over these predictions, which have the columns `KPI_COLUMNS`, and what was said in [start, end).

    Raises Invalid when the query fails.
    """
    return _ask(ws, Window(endpoint, start, end, lambda: (predictions, 1.0)), sql, name=name)


def _ask(ws: Workspace, window: Window, sql: str, *, name: str) -> list[dict[str, Any]]:
    tables = {
        "logged": window.predictions,
        "corrections": _corrections(ws, window),
        "outcomes": feedback.outcomes(ws, window.endpoint, start=window.start, end=window.end),
        "reported": feedback.reported_values(ws, window.endpoint, start=window.start, end=window.end),
    }
    import duckdb  # noqa: PLC0415  (12 MB that a server without such a number does without)

    with duckdb.connect(config={"enable_external_access": "false", "threads": "1"}) as database:
        for view, table in tables.items():
            database.register(view, table)
        database.execute(_view(_inputs(ws, window)))
        try:
            answered = database.execute(sql)
            names = [column[0] for column in answered.description or ()]
            return [dict(zip(names, row, strict=True)) for row in answered.fetchall()]
        except duckdb.Error as error:
            raise Invalid(
                f"the KPI {name!r} cannot be computed: {str(error).splitlines()[0]}. "
                "Its query reads the views predictions, corrections, outcomes and reported."
            ) from error


def _view(inputs: dict[str, str]) -> str:
    """The statement that makes the view `predictions` of what was logged."""
    if not inputs:
        return "CREATE VIEW predictions AS FROM logged"
    types = msgspec.json.encode(inputs).decode().replace("'", "''")
    return f"CREATE VIEW predictions AS SELECT * REPLACE (from_json(inputs, '{types}') AS inputs) FROM logged"  # noqa: S608  (quoted)


def _inputs(ws: Workspace, window: Window) -> dict[str, str]:
    """The inputs of the releases that answered, with their SQL types; the busiest release's where two differ."""
    found: dict[str, str] = {}
    for _version, release, _rows in window.by_version():
        for field in serving.read_manifest(ws.home / "serving", release).signature.inputs:
            found.setdefault(field.name, _SQL_TYPES.get(field.type, "VARCHAR"))
    return found


def _one_number(watch: KpiWatch, rows: list[dict[str, Any]], *, otherwise: int) -> tuple[float | None, int]:
    if len(rows) != 1 or "value" not in rows[0]:
        raise Invalid(
            f"the KPI {watch.name!r} returned {len(rows)} rows{'' if not rows else ' with ' + ', '.join(rows[0])}; "
            "it returns one row with the column value, and n if it likes."
        )
    value, n = rows[0]["value"], rows[0].get("n", otherwise)
    return (None if value is None else float(value)), int(n)


def _corrections(ws: Workspace, window: Window) -> pa.Table:
    found = feedback.corrections(ws, window.endpoint, start=window.start, end=window.end, limit=_MOST)
    return pa.table(
        {
            "prediction_id": pa.array([one.prediction_id for one in found], pa.string()),
            "key": pa.array([one.key for one in found], pa.string()),
            "value": pa.array([str(one.value) for one in found], pa.string()),
            "answer": pa.array([str(one.answer) for one in found], pa.string()),
            "contradicts": pa.array([one.contradicts for one in found], pa.bool_()),
            "reporter": pa.array([one.reporter for one in found], pa.string()),
            "at": pa.array([one.at for one in found], pa.timestamp("us", tz="UTC")),
        }
    )
