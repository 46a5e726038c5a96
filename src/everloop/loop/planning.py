"""What applying a loop file would create, change and leave: values first, deeds later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec

from everloop import monitoring, predictions, retraining
from everloop.loop.declare import (
    Collection,
    Declared,
    DeclaredDataset,
    DeclaredEndpoint,
    DeclaredFeature,
    DeclaredLabels,
    DeclaredLimit,
    DeclaredModel,
    DeclaredPool,
    DeclaredRetraining,
    DeclaredScoring,
    DeclaredSearch,
    DeclaredTrigger,
)


@dataclass(frozen=True)
class Change:
    """One declaration compared with what was applied before; `fields` are those that differ."""

    action: Literal["create", "change", "keep", "forget"]
    kind: str
    name: str
    fields: tuple[str, ...] = ()


def plan(declared: Collection, before: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """Compare what a file declares with what is in force: a pure function of both.

    What a file no longer declares is forgotten, not deleted: its records stay, and it is looked after no longer.
    """
    now = stored(declared)
    changes = [_compare(key, before.get(key), value) for key, value in now.items()]
    gone = [Change("forget", *key.split(":", 1)) for key in before if key not in now]  # type: ignore[arg-type]  # two parts
    return changes + gone


def stored(declared: Collection) -> dict[str, dict[str, Any]]:
    """The declarations as JSON values by `kind:name`, as the server and later processes know them."""
    return {f"{one.kind}:{one.name}": _value(one) for one in declared.declared}


def _compare(key: str, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Change:
    kind, name = key.split(":", 1)
    if before is None:
        return Change("create", kind, name)
    differ = tuple(sorted(field for field in {*before, *now} if before.get(field) != now.get(field)))
    return Change("change" if differ else "keep", kind, name, differ)


def _value(one: Declared) -> dict[str, Any]:
    match one:
        case DeclaredDataset():
            columns = (
                None
                if one.declared_columns is None
                else [column.as_json() for column in one.declared_columns]
            )
            return {"key": one.key, "time": one.time, "inputs": list(one.inputs), "columns": columns}
        case DeclaredLabels():
            classes = one.classes if isinstance(one.classes, str) else list(one.classes)
            return {
                "of": one.of.name,
                "classes": classes,
                "per_item": one.per_item,
                "rule": one.rule,
                "reports": dict(one.reports),
            }
        case DeclaredFeature():
            return {"of": one.of.name, "by": one.by, "window_s": one.window.total_seconds()}
        case DeclaredModel():
            return {
                "pipeline": one.pipeline.name,
                "gates": [gate.as_json() for gate in one.gates],
                "approve": None if one.approve is None else asdict(one.approve),
                **({"stages": [stage.as_json() for stage in one.stages]} if one.stages else {}),
            }
        case DeclaredEndpoint():
            return {
                "model": one.model.name,
                "rollout": one.rollout.to_value(),
                "watch": [monitoring.to_value(watch) for watch in one.watch],
                "key": one.key,
                "stickiness": one.stickiness,
                **({} if one.log == predictions.LogPolicy() else {"log": msgspec.structs.asdict(one.log)}),
                **({} if one.rules is None else {"rules": [rule.as_json() for rule in one.rules]}),
                **({} if one.limits is None else {"limits": msgspec.to_builtins(one.limits)}),
            }
        case DeclaredRetraining():
            return {
                "model": one.model.name,
                "cron": one.cron,
                "time_zone": one.time_zone,
                "when": None if one.when is None else retraining.to_value(one.when),
                "cooldown_s": one.cooldown.total_seconds(),
            }
        case DeclaredTrigger() | DeclaredPool() | DeclaredLimit() | DeclaredSearch() | DeclaredScoring():
            return _of_runs(one)


def _of_runs(
    one: DeclaredTrigger | DeclaredPool | DeclaredLimit | DeclaredSearch | DeclaredScoring,
) -> dict[str, Any]:
    """What says when, how often and with what pipelines are run."""
    match one:
        case DeclaredTrigger():
            return _trigger(one)
        case DeclaredPool():
            return {"at_most": one.at_most}
        case DeclaredLimit():
            pool = None if one.pool is None else one.pool.name
            return {"at_most": one.at_most, "when_full": one.when_full, "pool": pool}
        case DeclaredSearch():
            return {"pipeline": one.pipeline.name, **one.plan.as_json()}
        case DeclaredScoring():
            return {
                one.of.kind: one.of.name,
                "rows": one.rows if isinstance(one.rows, str) else one.rows.name,
                "database": one.database,
                "key": one.key,
                "cron": one.cron,
                "time_zone": one.time_zone,
                "when": None if one.when is None else retraining.to_value(one.when),
                "only_new": one.only_new,
            }


def _trigger(one: DeclaredTrigger) -> dict[str, Any]:
    longest = one.longest_wait
    return {
        "pipeline": one.pipeline.name,
        "params": dict(one.params),
        "cron": one.cron,
        "time_zone": one.time_zone,
        "catch_up": one.catch_up if isinstance(one.catch_up, str) else asdict(one.catch_up),
        "jitter_s": one.jitter_s,
        "when": None if one.when is None else retraining.to_value(one.when),
        "quiet_s": one.quiet.total_seconds(),
        "longest_wait_s": None if longest is None else longest.total_seconds(),
        "cooldown_s": one.cooldown.total_seconds(),
        "priority": one.priority,
    }
