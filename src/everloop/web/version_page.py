"""`/models/NAME/VERSION`: may this version go live: its gates with their numbers, what stands in the way, who decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everloop import governance, registry, rollout, tracking
from everloop.errors import EverloopError, NotFound
from everloop.registry import ModelVersion
from everloop.serving import Field, Layout, Signature
from everloop.tracking import LoggedModel
from everloop.web.gate_page import report_shown
from everloop.web.stages import standings_of
from everloop.web.visits import Shown, Visit
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Takes:
    """What a version takes and gives, and how that is known; else `problem` says why not and what to do."""

    inputs: Sequence[Field]
    gives: str | None
    known: str | None
    problem: str | None = None


def view(visit: Visit) -> Shown:
    ref = f"{visit.path['model']}@{visit.path['number']}"
    if not visit.path["number"].isdigit():
        raise NotFound(f"{ref!r} is not a model version; one is written category@2.")
    card = governance.version_card(visit.ws, ref)
    version = card["version"]
    model = registry.model(visit.ws, version.model)
    report = card["gate_report"]
    live = [one for one in rollout.endpoints(visit.ws) if any(it.version == ref for it in one.variants)]
    on = [one for one in rollout.endpoints(visit.ws) if one.model == version.model]
    logged = _logged(visit.ws, version)
    run = version.run or (logged.run if logged else None)
    pointers = [
        *registry.stages(visit.ws, model.name).items(),
        *registry.aliases(visit.ws, model.name).items(),
    ]
    return {
        **card,
        "names": [word for word, number in pointers if number == version.number],
        "model": model,
        "gates": None if report is None else report_shown(visit.ws, report.id),
        "live_on": [one.name for one in live],
        "would_serve": [
            {"endpoint": one.name, "steps": one.canary.steps, "has_live": bool(one.variants)} for one in on
        ],
        "others_live": sorted({it.version for one in on for it in one.variants} - {ref}),
        "is_author": version.author == visit.principal.name,
        "stages": standings_of(visit.ws, model, version),
        "takes": _takes(visit.ws, version, card["releases"]),
        "logged": logged,
        "run": run,
        "measured": version.metrics or _measured(visit.ws, run),
    }


def _takes(ws: Workspace, version: ModelVersion, releases: Sequence[str]) -> Takes:
    """Its signature: its own, the one that its release found, else what its files say before it was ever loaded."""
    if version.signature is not None:
        return Takes(version.signature.inputs, _given(version.signature), "registered with it")
    if releases:
        found = registry.find_release(ws, releases[0]).manifest.signature
        return Takes(found.inputs, _given(found), "found in its files when it was released")
    try:
        layout = registry.layout(ws, version)
    except EverloopError as error:
        return Takes((), None, None, str(error))
    if layout.ours is not None:
        return Takes(layout.ours.inputs, _given(layout.ours), "told by its MLmodel file")
    if layout.problem is not None or layout.flavor == "other":
        return Takes((), None, None, _why_none(layout))
    given = {True: "a text, such as a class", False: "a number, or a class that is one", None: "an answer"}
    said = f"{given[layout.has_text_output]}; its classes are asked of it when it is released"
    return Takes(layout.inputs, said, "told by its MLmodel file, and checked when it is released")


def _given(signature: Signature) -> str:
    if signature.classes is None:
        return f"a {signature.output}"
    classes = ", ".join(signature.classes)
    return f"one of {len(signature.classes)} classes: {classes[:300]}{' …' if len(classes) > 300 else ''}"


def _why_none(layout: Layout) -> str:
    if layout.problem is None:
        return (
            "Its files are in no form that is served; that is scikit-learn by skops, XGBoost, LightGBM, ONNX or pyfunc. "
            "Save it in one of these and register it again."
        )
    return (
        f"{layout.problem[0].upper()}{layout.problem[1:]}, so it cannot be released: requests are checked against one. Log it with "
        "a signature of columns and register it again: signature=mlflow.models.infer_signature(a_data_frame, predictions)."
    )


def _logged(ws: Workspace, version: ModelVersion) -> LoggedModel | None:
    """The logged model that an mlflow client registered it from."""
    if version.logged_model is None:
        return None
    try:
        return tracking.logged_model(ws, version.logged_model)
    except NotFound:
        return None


def _measured(ws: Workspace, run: str | None) -> Mapping[str, float]:
    """What the run measured that made it: an mlflow client registers a version without its numbers."""
    try:
        return {} if run is None else tracking.run(ws, run).metrics
    except NotFound:  # cleaned up
        return {}
