"""`/gates/ID`: may this version pass: every check with its numbers, a picture, the rows that prove it, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from everloop import checks, data, pipelines, registry
from everloop.checks import CHECKS, CheckResult, Waiver
from everloop.errors import EverloopError, NotFound
from everloop.web.pictures import Picture, picture_of
from everloop.web.visits import Shown, Visit
from everloop.workspace import Workspace

_ORDER = {"failed": 0, "warned": 1, "passed": 2, "skipped": 3}
_DETAILS = 50  # rows of a check's table
_WAIVED_FOR = timedelta(days=7)


@dataclass(frozen=True)
class Proof:
    """A row to look at; `place` is its page, None where its dataset has no key or the row is gone."""

    row_id: int
    name: str
    place: str | None


@dataclass(frozen=True)
class Judged:
    """A check's result as a page shows it. `question` is what the check asks, `explained` what each number means."""

    result: CheckResult
    question: str
    explained: dict[str, str]
    picture: Picture | None
    proofs: tuple[Proof, ...]
    waivers: tuple[Waiver, ...]


def view(visit: Visit) -> Shown:
    return report_shown(visit.ws, visit.path["id"])


def report_shown(ws: Workspace, report_id: str) -> dict[str, Any]:
    """A gate report for a page: what blocks first, the rest in the order of the report."""
    standing = checks.standing(ws, report_id)
    report = standing.report
    version = _version(ws, report.model_version)
    rows = _rows(ws, version, report.results)
    waivers = checks.waivers_of(ws, report_id)
    judged = [
        Judged(
            result=one,
            question=check.question if (check := CHECKS.get(one.name.partition(":")[0])) else "",
            explained=dict(check.numbers) if check else {},
            picture=picture_of(one),
            proofs=tuple(rows[row_id] for row_id in one.evidence if row_id in rows),
            waivers=tuple(waiver for waiver in waivers if waiver.check == one.name),
        )
        for one in report.results
    ]
    return {
        "report": report,
        "judged": sorted(judged, key=lambda one: _ORDER[one.result.verdict]),
        "is_clear": standing.is_clear,
        "blocking": [one.name for one in standing.blocking],
        "in_force": [one.check for one in standing.waived],
        "version": version,
        "confusion": None if version is None or version.run is None else _confusion(ws, version.run),
        "most_details": _DETAILS,
        "waived_until": ws.now() + _WAIVED_FOR,
    }


def _version(ws: Workspace, ref: str) -> registry.ModelVersion | None:
    """The version that was checked; one may have been checked without being registered."""
    try:
        return registry.version(ws, ref)
    except EverloopError:
        return None


def _rows(
    ws: Workspace, version: registry.ModelVersion | None, results: tuple[CheckResult, ...]
) -> dict[int, Proof]:
    """The rows that the checks name, with their pages: their keys alone are read, none of their content."""
    row_ids = sorted({row_id for one in results for row_id in one.evidence})
    found = {row_id: Proof(row_id, f"row {row_id}", None) for row_id in row_ids}
    if version is None or version.data_version is None or not row_ids:
        return found
    try:
        dataset = data.version(ws, version.data_version)
        key = dataset.schema.key
        if key is None:
            return found
        keys = data.read(ws, dataset.ref, columns=[key], row_ids=row_ids).to_pylist()
    except NotFound:
        return found
    name = dataset.ref.partition("@")[0]
    for row in keys:
        one = f"{name}:{row[key]}"
        found[row[data.ROW_ID]] = Proof(row[data.ROW_ID], one, f"/rows/{one}")
    return found


def _confusion(ws: Workspace, run_id: str) -> pipelines.Confusion | None:
    try:
        return pipelines.confusion(ws, run_id)
    except NotFound:
        return None
