"""everloop: the whole MLOps loop in one install.

These are the names that a loop file, a notebook or a script needs; each is loaded when it is first used, so that
`import everloop` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.checks import (
        CheckInput,
        CheckResult,
        Limit,
        Plot,
        Point,
        check,
        direction,
        feature_test,
        gate,
        golden,
        invariance,
    )
    from everloop.features.images import ImageFeatures
    from everloop.features.text import FilledText
    from everloop.loop import (
        all_missed,
        dataset,
        endpoint,
        feature,
        label_set,
        limit,
        model,
        pool,
        retrain,
        search,
        trigger,
    )
    from everloop.monitoring import accuracy, drift, kpi, latency
    from everloop.pipelines import (
        Model,
        Split,
        Table,
        best,
        between,
        fit,
        pipeline,
        report,
        secret,
        serializer,
        split,
        sql,
        step,
        when,
    )
    from everloop.registry import people, stage
    from everloop.retraining import (
        alarmed,
        arrived,
        called,
        contradicted,
        drifted,
        finished,
        labelled,
        promoted,
        registered,
        released,
        rolled_back,
    )
    from everloop.rollout import canary
    from everloop.searches import choice, halving, median
    from everloop.workspace import open_workspace

_HOMES = {
    "CheckInput": "everloop.checks",
    "CheckResult": "everloop.checks",
    "FilledText": "everloop.features.text",
    "ImageFeatures": "everloop.features.images",
    "Limit": "everloop.checks",
    "Model": "everloop.pipelines",
    "Plot": "everloop.checks",
    "Point": "everloop.checks",
    "Split": "everloop.pipelines",
    "Table": "everloop.pipelines",
    "accuracy": "everloop.monitoring",
    "alarmed": "everloop.retraining",
    "all_missed": "everloop.loop",
    "arrived": "everloop.retraining",
    "best": "everloop.pipelines",
    "called": "everloop.retraining",
    "between": "everloop.pipelines",
    "canary": "everloop.rollout",
    "check": "everloop.checks",
    "choice": "everloop.searches",
    "contradicted": "everloop.retraining",
    "dataset": "everloop.loop",
    "direction": "everloop.checks",
    "drift": "everloop.monitoring",
    "drifted": "everloop.retraining",
    "endpoint": "everloop.loop",
    "feature": "everloop.loop",
    "finished": "everloop.retraining",
    "feature_test": "everloop.checks",
    "fit": "everloop.pipelines",
    "gate": "everloop.checks",
    "golden": "everloop.checks",
    "invariance": "everloop.checks",
    "halving": "everloop.searches",
    "kpi": "everloop.monitoring",
    "label_set": "everloop.loop",
    "labelled": "everloop.retraining",
    "latency": "everloop.monitoring",
    "limit": "everloop.loop",
    "median": "everloop.searches",
    "model": "everloop.loop",
    "open_workspace": "everloop.workspace",
    "people": "everloop.registry",
    "pipeline": "everloop.pipelines",
    "pool": "everloop.loop",
    "promoted": "everloop.retraining",
    "registered": "everloop.retraining",
    "released": "everloop.retraining",
    "report": "everloop.pipelines",
    "retrain": "everloop.loop",
    "secret": "everloop.pipelines",
    "rolled_back": "everloop.retraining",
    "serializer": "everloop.pipelines",
    "search": "everloop.loop",
    "split": "everloop.pipelines",
    "sql": "everloop.pipelines",
    "stage": "everloop.registry",
    "step": "everloop.pipelines",
    "trigger": "everloop.loop",
    "when": "everloop.pipelines",
}

__all__ = [
    "CheckInput",
    "CheckResult",
    "FilledText",
    "ImageFeatures",
    "Limit",
    "Model",
    "Plot",
    "Point",
    "Split",
    "Table",
    "accuracy",
    "alarmed",
    "all_missed",
    "arrived",
    "best",
    "between",
    "called",
    "canary",
    "check",
    "choice",
    "contradicted",
    "dataset",
    "direction",
    "drift",
    "drifted",
    "endpoint",
    "feature",
    "feature_test",
    "finished",
    "fit",
    "gate",
    "golden",
    "halving",
    "invariance",
    "kpi",
    "label_set",
    "labelled",
    "latency",
    "limit",
    "median",
    "model",
    "open_workspace",
    "people",
    "pipeline",
    "pool",
    "promoted",
    "registered",
    "released",
    "report",
    "retrain",
    "rolled_back",
    "search",
    "secret",
    "serializer",
    "split",
    "sql",
    "stage",
    "step",
    "trigger",
    "when",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"everloop has no {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
