"""Applying a loop file: its code is kept by content, then its declarations take force together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from everloop import data, labels, monitoring, registry, rollout, tracking
from everloop.errors import Invalid, NotFound
from everloop.ledger import Node, audit
from everloop.loop import store
from everloop.loop.declare import (
    DeclaredDataset,
    DeclaredEndpoint,
    DeclaredLabels,
    DeclaredModel,
)
from everloop.loop.loading import Loop, load
from everloop.loop.planning import Change, plan, stored
from everloop.loop.snapshots import checked_out
from everloop.loop.start import check_starts, set_starts
from everloop.loop.store import LoopVersion
from everloop.monitoring import KpiWatch, Watch
from everloop.rollout import ArmKpi, RoutingRule
from everloop.storage import Tx
from everloop.workspace import Workspace


def newest(ws: Workspace) -> LoopVersion | None:
    """What was applied last, None when nothing was."""
    with ws.read() as connection:
        return store.newest(connection)


def apply(ws: Workspace, loop: Loop) -> list[Change]:
    """Make what a loop file declares the truth, and return what that changed.

    Datasets and label sets are defined first, each by itself; endpoints, watches, policies and schedules take force
    in one transaction with the record of the file. Applying the same file again changes nothing.

    Raises
    ------
    Invalid
        A pipeline's body is wrong, or a declaration contradicts another.
    """
    for model in loop.declared.of(DeclaredModel):
        model.pipeline.trace()
        registry.check_stages(model.stages, gates=model.gates)
    check_starts(loop)
    before = newest(ws)
    changes = plan(loop.declared, {} if before is None else before.declared)
    code = tracking.capture_code(ws, loop.root)
    if (
        before is not None
        and before.code == code.digest
        and all(change.action == "keep" for change in changes)
    ):
        return changes
    _define(ws, loop)
    values = {
        "code": code.digest,
        "file": loop.file.relative_to(loop.root).as_posix(),
        "declared": stored(loop.declared),
        "applied_at": ws.now(),
        "applied_by": ws.actor,
    }
    rules = {
        one.name: rollout.checked_rules(ws, one.model.name, one.rules)
        for one in loop.declared.of(DeclaredEndpoint)
        if one.rules is not None
    }
    ws.write(lambda tx: _take_force(ws, tx, loop, values, rules))
    return changes


def loaded(ws: Workspace) -> Loop:
    """The applied loop file, run from its code snapshot: edits made since do not count.

    Raises
    ------
    NotFound
        No loop file was applied yet.
    """
    version = newest(ws)
    if version is None:
        raise NotFound("no loop file was applied yet. Apply yours: everloop apply loop.py")
    return load(checked_out(ws, version.code) / version.file)


def _define(ws: Workspace, loop: Loop) -> None:
    for dataset in loop.declared.of(DeclaredDataset):
        data.define(
            ws,
            dataset.name,
            key=dataset.key,
            time=dataset.time,
            inputs=dataset.inputs,
            columns=dataset.declared_columns,
        )
    for model in loop.declared.of(DeclaredModel):
        registry.define(ws, model.name, approval=model.approve, gates=model.gates, stages=model.stages)
    for declared in loop.declared.of(DeclaredLabels):
        classes = (
            loop.root / declared.classes if isinstance(declared.classes, str) else list(declared.classes)
        )
        labels.define(
            ws,
            declared.name,
            dataset=declared.of.name,
            classes=classes,
            per_item=declared.per_item,
            reports=declared.reports,
        )


def _take_force(
    ws: Workspace,
    tx: Tx,
    loop: Loop,
    values: dict[str, Any],
    rules: Mapping[str, Sequence[RoutingRule]],
) -> None:
    tx.lock("loop")
    known = store.newest(tx.connection)
    number = 1 if known is None else known.number + 1
    store.insert(tx, {"number": number, **values})
    for endpoint in loop.declared.of(DeclaredEndpoint):
        rollout.define_endpoint(
            ws,
            tx,
            endpoint.name,
            model=endpoint.model.name,
            canary=replace(
                endpoint.rollout,
                kpis=tuple(replace(one, sql=_sql(loop.root, one)) for one in endpoint.rollout.kpis),
            ),
            key=endpoint.key,
            stickiness=endpoint.stickiness,
            log=endpoint.log,
            rules=rules.get(endpoint.name),
            limits=endpoint.limits,
        )
        monitoring.set_watches(
            ws, tx, endpoint.name, [_with_text(loop.root, watch) for watch in endpoint.watch]
        )
    set_starts(ws, tx, loop.declared)
    audit(
        ws,
        tx,
        "loop.apply",
        Node("declaration", f"loop@{number}"),
        after=values["declared"],
        code=values["code"],
    )


def _with_text(root: Path, watch: Watch) -> Watch:
    """A KPI that names an SQL file, with the file's text in its place."""
    return replace(watch, sql=_sql(root, watch)) if isinstance(watch, KpiWatch) else watch


def _sql(root: Path, kpi: KpiWatch | ArmKpi) -> str:
    if not kpi.sql.endswith(".sql"):
        return kpi.sql
    path = root / kpi.sql
    if not path.is_file():
        raise Invalid(f"the KPI {kpi.name!r} names the file {kpi.sql}, which is not beside the loop file.")
    return path.read_text()
