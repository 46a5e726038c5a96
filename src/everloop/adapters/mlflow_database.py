"""MLflow's SQLite database, read without MLflow: whatever of its tables and columns an older or newer version has."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from everloop.adapters.carrying import SourceFile
from everloop.adapters.mlflow_local import LocalFiles
from everloop.adapters.mlflow_source import (
    Experiment,
    FoundRun,
    LoggedModel,
    Model,
    Point,
    Version,
    own_path,
    with_infinity,
)
from everloop.errors import EverloopError, Invalid, NotReady

_PAGE = 500
_POINTS_A_PAGE = 20_000
_DELETED = "deleted"
_DELETED_VERSION = "Deleted_Internal"
_UNREAD = {"traces": "trace_info", "evaluation data sets": "evaluation_datasets", "webhooks": "webhooks"}
_OF_RUNS = "run_uuid IN (SELECT value FROM json_each(?))"  # one JSON array in place of hundreds of marks
_EXTENTS = f"SELECT run_uuid, COUNT(*) AS points FROM metrics WHERE {_OF_RUNS} GROUP BY run_uuid"  # noqa: S608  (constants)
_INPUTS = """
    SELECT inputs.input_uuid, destination_id, datasets.* FROM inputs JOIN datasets ON source_id = dataset_uuid
    WHERE source_type = 'DATASET' AND destination_id IN (SELECT value FROM json_each(?)) ORDER BY name, digest
"""


class _Row(dict[str, Any]):
    """A row by the names of its columns; one that this version of MLflow has not is None."""

    def __missing__(self, column: str) -> None:
        return None


class MlflowDatabase:
    def __init__(self, file: Path, artifacts: Path | None, left_out: Callable[[str, str, str], None]) -> None:
        self.where = own_path(file)
        self._connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
        self._connection.row_factory = sqlite3.Row
        self._files = LocalFiles(file.resolve().parent, artifacts, left_out)
        try:
            self._tables = {
                row["name"] for row in self._ask("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
        except EverloopError:
            self.close()
            raise
        if not {"experiments", "runs", "metrics"} <= self._tables:
            self.close()
            raise Invalid(
                f"{file} is an SQLite database without MLflow's tables. Name MLflow's own, often mlflow.db."
            )

    def close(self) -> None:
        self._connection.close()

    def experiments(self, *, with_deleted: bool) -> Iterator[Experiment]:
        tags = self._texts("experiment_tags", "experiment_id")
        for row in self._rows("experiments", order="experiment_id"):
            if with_deleted or row["lifecycle_stage"] != _DELETED:
                yield Experiment(str(row["experiment_id"]), row["name"], tags.get(row["experiment_id"], {}))

    def runs(self, experiment: Experiment, *, with_deleted: bool) -> Iterator[FoundRun]:
        where = "experiment_id = ?" + ("" if with_deleted else f" AND lifecycle_stage <> '{_DELETED}'")
        found = list(
            self._rows("runs", where=where, values=[int(experiment.id)], order="start_time, run_uuid")
        )
        for start in range(0, len(found), _PAGE):
            yield from self._whole(found[start : start + _PAGE])

    def history(self, run: FoundRun) -> Iterator[Point]:
        last = -1
        statement = "SELECT rowid, * FROM metrics WHERE run_uuid = ? AND rowid > ? ORDER BY rowid LIMIT ?"
        while page := self._ask(statement, [run.id, last, _POINTS_A_PAGE]):
            yield from map(_point, page)
            last = page[-1]["rowid"]

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        where, values = "experiment_id = ?", [int(experiment.id)]
        params = self._texts("logged_model_params", "model_id", ("param_key", "param_value"), where, values)
        tags = self._texts("logged_model_tags", "model_id", ("tag_key", "tag_value"), where, values)
        measured = defaultdict(list)
        for row in self._rows("logged_model_metrics", where=where, values=values):
            measured[row["model_id"]].append(
                {name: row[name] for name in ("metric_name", "metric_value", "metric_step", "dataset_name")}
            )
        for row in self._rows("logged_models", where=where, values=values):
            if row["lifecycle_stage"] != _DELETED:
                one = row["model_id"]
                told = {
                    "name": row["name"],
                    "type": row["model_type"],
                    "params": params.get(one, {}),
                    "tags": tags.get(one, {}),
                    "metrics": measured[one],
                }
                yield LoggedModel(
                    one,
                    row["name"],
                    row["source_run_id"],
                    row["artifact_location"],
                    row["creation_timestamp_ms"],
                    told,
                )

    def files(self, run: FoundRun) -> Iterator[SourceFile]:
        return self._files.below(run.artifact_uri)

    def model_files(self, model: LoggedModel) -> Iterator[SourceFile]:
        return self._files.below(model.artifact_uri)

    def models(self) -> Iterator[Model]:
        tags = self._texts("registered_model_tags", "name")
        version_tags: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
        for row in self._rows("model_version_tags"):
            version_tags[row["name"], row["version"]][row["key"]] = row["value"]
        aliases = self._texts("registered_model_aliases", "name", ("alias", "version"))
        for row in self._rows("registered_models", order="name"):
            name = row["name"]
            versions = tuple(
                Version(
                    one["version"],
                    one["source"] or "",
                    one["run_id"] or None,
                    one["current_stage"] or "None",
                    one["description"] or "",
                    version_tags.get((name, one["version"]), {}),
                )
                for one in self._rows("model_versions", where="name = ?", values=[name], order="version")
                if one["current_stage"] != _DELETED_VERSION
            )
            pointers = {alias: int(number) for alias, number in aliases.get(name, {}).items()}
            yield Model(name, row["description"] or "", tags.get(name, {}), pointers, versions)

    def unread(self) -> Mapping[str, int]:
        return {what: self._count(table) for what, table in _UNREAD.items() if table in self._tables}

    def _whole(self, page: Sequence[_Row]) -> Iterator[FoundRun]:
        which = [json.dumps([row["run_uuid"] for row in page])]
        params = self._texts("params", "run_uuid", where=_OF_RUNS, values=which)
        tags = self._texts("tags", "run_uuid", where=_OF_RUNS, values=which)
        latest = defaultdict(list)
        for row in self._rows("latest_metrics", where=_OF_RUNS, values=which, order="run_uuid, key"):
            latest[row["run_uuid"]].append(_point(row))
        extents = {row["run_uuid"]: row["points"] for row in self._ask(_EXTENTS, which)}
        inputs = self._inputs(which)
        for told in page:
            one = told["run_uuid"]
            own = tags.get(one, {})
            yield FoundRun(
                one,
                str(told["experiment_id"]),
                told["name"] or own.get("mlflow.runName", ""),
                told["user_id"] or "",
                told["status"] or "",
                told["lifecycle_stage"] == _DELETED,
                told["start_time"],
                told["end_time"],
                told["artifact_uri"] or "",
                params.get(one, {}),
                own,
                tuple(latest[one]),
                tuple(inputs[one]),
                extents.get(one, 0),
            )

    def _inputs(self, which: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if not {"inputs", "datasets"} <= self._tables:
            return found
        tags = self._texts("input_tags", "input_uuid", ("name", "value"))
        for row in self._ask(_INPUTS, which):
            found[row["destination_id"]].append(
                {
                    "name": row["name"],
                    "digest": row["digest"],
                    "source_type": row["dataset_source_type"],
                    "source": row["dataset_source"],
                    "schema": row["dataset_schema"],
                    "profile": row["dataset_profile"],
                    "tags": tags.get(row["input_uuid"], {}),
                }
            )
        return found

    def _texts(
        self,
        table: str,
        of: str,
        columns: tuple[str, str] = ("key", "value"),
        where: str = "",
        values: Sequence[Any] = (),
    ) -> dict[Any, dict[str, str]]:
        found: dict[Any, dict[str, str]] = defaultdict(dict)
        for row in self._rows(table, where=where, values=values):
            found[row[of]][row[columns[0]]] = "" if row[columns[1]] is None else str(row[columns[1]])
        return found

    def _rows(
        self, table: str, *, where: str = "", values: Sequence[Any] = (), order: str = ""
    ) -> list[_Row]:
        """Rows of a table; one that this version of MLflow has not is an empty one."""
        if table not in self._tables:
            return []
        filtered = f" WHERE {where}" if where else ""
        sorted_by = f" ORDER BY {order}" if order else ""
        return self._ask(f"SELECT * FROM {table}{filtered}{sorted_by}", values)  # noqa: S608  (names of ours alone)

    def _ask(self, statement: str, values: Sequence[Any] = ()) -> list[_Row]:
        """All rows at once: a statement that stays open would keep a server that runs on the file from writing."""
        try:
            with closing(self._connection.execute(statement, values)) as cursor:
                return [_Row(row) for row in cursor.fetchall()]
        except sqlite3.OperationalError as error:
            raise NotReady(
                f"{self.where} cannot be read now: {error}. What was carried over so far is kept: run the same command again."
            ) from error
        except sqlite3.DatabaseError as error:
            raise Invalid(
                f"{self.where} is no sound SQLite database: {error}. Name MLflow's mlflow.db, or a copy of it."
            ) from error

    def _count(self, table: str) -> int:
        return int(self._ask(f"SELECT COUNT(*) AS rows FROM {table}")[0]["rows"])  # noqa: S608  (a name of ours)


def _point(row: _Row) -> Point:
    value = float("nan") if row["is_nan"] else with_infinity(float(row["value"]))
    return Point(row["key"], value, row["step"], row["timestamp"])
