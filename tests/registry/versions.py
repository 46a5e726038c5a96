"""Registered versions for tests, at every point of their way to a release."""

from __future__ import annotations

from typing import Any

from everloop import checks, registry
from everloop.checks import Evidence, Gate, GateReport
from everloop.registry import ModelVersion
from everloop.serving import Field, Signature
from everloop.workspace import Workspace
from tests.checks.tables import labels, shop, with_column

SIGNATURE = Signature((Field("title", "string"),), "class", ("drink", "other"))


def register(
    ws: Workspace, content: bytes = b"a model", *, name: str = "category", **changed: Any
) -> ModelVersion:
    """The next version of a model; other content makes another model."""
    given: dict[str, Any] = {
        "run": None,
        "files": {"MLmodel": ws.blobs.put(b"flavors: {}"), "model.skops.zip": ws.blobs.put(content)},
        "signature": SIGNATURE,
        "metrics": {"macro_f1": 0.8},
        "data_version": "shop@1",
        "label_snapshot": "l" * 64,
        "code": "c" * 64,
        "environment": "e" * 64,
    }
    return registry.register(ws, name, **{**given, **changed})


def servable(ws: Workspace, skops_model: bytes, **changed: Any) -> ModelVersion:
    """A version of a real model, which may be released."""
    files = {"MLmodel": ws.blobs.put(b"flavors: {}"), "model.skops": ws.blobs.put(skops_model)}
    return register(ws, **{"files": files, **changed})


def evidence_of(version: ModelVersion) -> Evidence:
    return Evidence(
        model=version.digest,
        data=version.data_version,
        labels=version.label_snapshot,
        code=version.code,
        environment=version.environment,
    )


def check(
    ws: Workspace, version: ModelVersion, *, leaks: bool = False, gates: tuple[Gate, ...] = ()
) -> GateReport:
    """Run the gates of a version, on honest rows or on such that give the answer away."""
    given = shop(200)
    if leaks:
        given = with_column(given, "copy", labels(given))
    return checks.evaluate(ws, version.ref, given, gates=gates, evidence=evidence_of(version))
