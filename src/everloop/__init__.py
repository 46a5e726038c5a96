"""everloop: the whole MLOps loop in one install.

These are the names that a loop file, a notebook or a script needs; each is loaded when it is first used, so that
`import everloop` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.checks import CheckInput, CheckResult, check, gate
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
    from everloop.pipelines import Model, Split, Table, best, fit, pipeline, report, split, step, when
    from everloop.registry import people
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
    from everloop.searches import between, choice, halving, median
    from everloop.workspace import open_workspace

_HOMES = {
    "CheckInput": "everloop.checks",
    "CheckResult": "everloop.checks",
    "FilledText": "everloop.features.text",
    "ImageFeatures": "everloop.features.images",
    "Model": "everloop.pipelines",
    "Split": "everloop.pipelines",
    "Table": "everloop.pipelines",
    "accuracy": "everloop.monitoring",
    "alarmed": "everloop.retraining",
    "all_missed": "everloop.loop",
    "arrived": "everloop.retraining",
    "best": "everloop.pipelines",
    "between": "everloop.searches",
    "called": "everloop.retraining",
    "canary": "everloop.rollout",
    "check": "everloop.checks",
    "choice": "everloop.searches",
    "contradicted": "everloop.retraining",
    "dataset": "everloop.loop",
    "drift": "everloop.monitoring",
    "drifted": "everloop.retraining",
    "endpoint": "everloop.loop",
    "feature": "everloop.loop",
    "finished": "everloop.retraining",
    "fit": "everloop.pipelines",
    "gate": "everloop.checks",
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
    "rolled_back": "everloop.retraining",
    "search": "everloop.loop",
    "split": "everloop.pipelines",
    "step": "everloop.pipelines",
    "trigger": "everloop.loop",
    "when": "everloop.pipelines",
}

__all__ = [
    "CheckInput",
    "CheckResult",
    "FilledText",
    "ImageFeatures",
    "Model",
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
    "drift",
    "drifted",
    "endpoint",
    "feature",
    "finished",
    "fit",
    "gate",
    "halving",
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
    "split",
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
