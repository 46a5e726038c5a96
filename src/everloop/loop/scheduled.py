"""Scoring that a loop file declares: the job that its trigger puts."""

from __future__ import annotations

from typing import Any

from everloop import registry
from everloop.errors import NotFound, NotReady
from everloop.jobs import Lease
from everloop.loop.batch import score_batch
from everloop.loop.declare import DeclaredEndpoint, DeclaredScoring
from everloop.loop.loading import Loop
from everloop.loop.rows import Query
from everloop.loop.start import ending_with
from everloop.workspace import Workspace


def score_declared(ws: Workspace, lease: Lease, loop: Loop, name: str) -> dict[str, Any]:
    """Score as the loop file says; repeated after a kill, it goes on with the run that it had begun."""
    declared = next((one for one in loop.declared.of(DeclaredScoring) if one.name == name), None)
    if declared is None:
        raise NotFound(
            f"the applied loop file declares no scoring into {name!r} any more; nothing is scored."
        )
    run_id = lease.job.id.replace("job_", "run_")
    rows = declared.rows
    with ending_with(ws, lease, run_id):
        made = score_batch(
            ws,
            _asked(ws, declared),
            Query(rows, declared.database) if isinstance(rows, str) else rows.name,
            key=declared.key,
            to=declared.name,
            only_new=declared.only_new,
            run_id=run_id,
        )
    return {
        "run": made.run,
        "version": made.version,
        "rows": made.rows,
        "failed": made.failed,
        "kept": made.kept,
    }


def _asked(ws: Workspace, declared: DeclaredScoring) -> str:
    """The endpoint, or the version of the model that was released last."""
    if isinstance(declared.of, DeclaredEndpoint):
        return declared.of.name
    newest = next(iter(registry.releases(ws, declared.of.name, limit=1)), None)
    if newest is None:
        raise NotReady(
            f"no version of the model {declared.of.name!r} is released yet, so that nothing can score. Release one, or wait."
        )
    return newest.version
