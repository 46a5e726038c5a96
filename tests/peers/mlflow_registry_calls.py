"""What an unmodified client of MLflow's does with a server's model registry: prints what came of it, as JSON.

MLFLOW_TRACKING_URI=http://... python mlflow_registry_calls.py RUN SINK [oldest]

RUN is a run with a model's files below `model`, SINK where webhooks may be sent.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

RUN, SINK, OLDEST = sys.argv[1], sys.argv[2], sys.argv[3:] == ["oldest"]
CALLS: dict[str, Any] = {}


def call(function: Any) -> Any:
    CALLS[function.__name__] = function
    return function


def newest(function: Any) -> Any:
    """A call that the oldest client does not know."""
    return function if OLDEST else call(function)


def code(function: Any, *arguments: Any, **named: Any) -> str:
    """The code under which a call is refused."""
    try:
        function(*arguments, **named)
    except mlflow.exceptions.MlflowException as error:
        return str(error.error_code)
    return "none"


def shown(version: Any) -> list[Any]:
    return [version.name, str(version.version), version.current_stage, version.status, version.run_id == RUN]


@call
def models() -> Any:
    client = MlflowClient()
    client.create_registered_model("shop", tags={"team": "vision", "old": "1"}, description="kinds of things")
    client.set_registered_model_tag("shop", "since", "2026")
    client.delete_registered_model_tag("shop", "old")
    client.update_registered_model("shop", description="what it sells")
    client.create_registered_model("to rename")
    client.rename_registered_model("to rename", "renamed")
    found = client.get_registered_model("shop")
    names = [one.name for one in client.search_registered_models("name LIKE '%'", order_by=["name DESC"])]
    client.delete_registered_model("renamed")
    return {
        "shop": [found.name, found.description, found.tags],
        "names": names,
        "again": code(client.create_registered_model, "shop"),
        "gone": code(client.get_registered_model, "renamed"),
    }


@call
def versions() -> Any:
    client = MlflowClient()
    client.create_registered_model("versions")
    for tags in ({"a": "1"}, {"a": "2"}):
        client.create_model_version("versions", f"runs:/{RUN}/model", RUN, tags=tags, description="made")
    client.update_model_version("versions", "2", description="changed")
    client.set_model_version_tag("versions", "2", "b", "3")
    client.delete_model_version_tag("versions", "2", "a")
    found = client.get_model_version("versions", "2")
    by_name = client.search_model_versions("name = 'versions'")
    by_run = client.search_model_versions(f"run_id = '{RUN}'")
    uri = client.get_model_version_download_uri("versions", "2")
    client.delete_model_version("versions", "1")
    return {
        "first": shown(by_name[-1]),
        "second": [found.description, found.tags, found.source],
        "by_name": [str(one.version) for one in by_name],
        "by_run": len(by_run) >= 2,
        "uri": uri,
        "gone": code(client.get_model_version, "versions", "1"),
        "elsewhere": code(client.create_model_version, "versions", "/etc", RUN),
    }


@call
def stages() -> Any:
    client = MlflowClient()
    client.create_registered_model("stages")
    client.create_model_version("stages", f"runs:/{RUN}/model", RUN)
    try:
        client.transition_model_version_stage("stages", "1", "Production")
    except mlflow.exceptions.MlflowException as error:
        refused = str(error)
    gated = client.transition_model_version_stage("gated", "1", "Production", archive_existing_versions=True)
    latest = client.get_latest_versions("gated", stages=["Production"])
    archived = client.transition_model_version_stage("gated", "1", "Archived")
    return {
        "refused": refused,
        "gated": gated.current_stage,
        "latest": [str(one.version) for one in latest],
        "archived": archived.current_stage,
        "ungated": [one.current_stage for one in client.get_latest_versions("stages")],
    }


@call
def fluent() -> Any:
    """A model that a run logs by itself and registers: the way that most people go."""
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MLmodel").write_text("flavors: {}\nmodel_uuid: none\n")
        (Path(folder) / "weights.txt").write_text("1 2 3")
        mlflow.log_artifacts(folder, "model")
        made = mlflow.register_model(f"runs:/{run.info.run_id}/model", "fluent")
    return {"version": str(made.version), "status": made.status, "run": made.run_id == run.info.run_id}


@newest
def aliases() -> Any:
    client = MlflowClient()
    client.create_registered_model("aliases")
    for _ in range(2):
        client.create_model_version("aliases", f"runs:/{RUN}/model", RUN)
    client.set_registered_model_alias("aliases", "champion", "1")
    client.set_registered_model_alias("aliases", "champion", "2")
    by_alias = client.get_model_version_by_alias("aliases", "champion")
    found = client.get_registered_model("aliases").aliases
    client.delete_registered_model_alias("aliases", "champion")
    copied = client.copy_model_version("models:/aliases/1", "copies")
    return {
        "version": str(by_alias.version),
        "of": list(by_alias.aliases),
        "model": found,
        "gone": code(client.get_model_version_by_alias, "aliases", "champion"),
        "copied": [copied.name, str(copied.version), copied.run_id == RUN],
    }


@newest
def webhooks() -> Any:
    client = MlflowClient()
    made = client.create_webhook(
        "ci", SINK, ["registered_model.created", "model_version_alias.created"], secret="s"
    )
    tried = client.test_webhook(made.webhook_id)
    changed = client.update_webhook(made.webhook_id, description="for builds")
    client.create_registered_model("told")
    off = client.create_webhook("off", SINK, ["model_version.created"], status="DISABLED")
    names = [one.name for one in client.list_webhooks()]
    client.delete_webhook(off.webhook_id)
    return {
        "made": [made.name, made.url, str(made.status), [str(one) for one in made.events]],
        "tried": [tried.success, tried.response_status],
        "changed": changed.description,
        "names": names,
        "gone": code(client.get_webhook, off.webhook_id),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answers = {}
    for name, function in CALLS.items():
        try:
            answers[name] = function()
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {error}"
            mlflow.end_run()
    print("ANSWERS", json.dumps(answers))
