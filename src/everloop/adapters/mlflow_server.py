"""A running MLflow server, asked through its REST API; only that server is ever asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from everloop.adapters.carrying import SourceFile
from everloop.adapters.mlflow_source import (
    Elsewhere,
    Experiment,
    FoundRun,
    LoggedModel,
    Model,
    Point,
    Version,
    with_infinity,
)
from everloop.errors import Denied, Invalid, NotFound, NotReady

_PAGE = 500
_POINTS_A_PAGE = 20_000
_API = "/api/2.0/mlflow"
_DEPTH = 32  # of folders in folders: a server that answers without end is left


class MlflowServer:
    """The server at `address`; `username` with `password`, or `token`, as MLflow's clients send them."""

    def __init__(self, address: str, *, username: str, password: str, token: str) -> None:
        split = urlsplit(address)
        host = split.hostname or ""
        port = f":{split.port}" if split.port else ""
        self.where = f"{split.scheme}://{host}{port}{split.path.rstrip('/')}"  # no name and password of it
        if split.username and not username:
            username, password = split.username, split.password or ""
        self._client = httpx.Client(
            base_url=self.where,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            auth=(username, password) if username else None,
            timeout=60,
            follow_redirects=False,
        )
        try:
            self._post("experiments/search", {"max_results": 1})
        except NotFound as error:
            raise Invalid(
                f"{self.where} is no MLflow server: it knows no {_API}/experiments/search. Give the address that MLFLOW_TRACKING_URI has."
            ) from error

    def close(self) -> None:
        self._client.close()

    def experiments(self, *, with_deleted: bool) -> Iterator[Experiment]:
        view = "ALL" if with_deleted else "ACTIVE_ONLY"
        for one in self._pages(
            "experiments/search", "experiments", {"view_type": view, "max_results": _PAGE}
        ):
            yield Experiment(one["experiment_id"], one["name"], _texts(one.get("tags")))

    def runs(self, experiment: Experiment, *, with_deleted: bool) -> Iterator[FoundRun]:
        asked = {
            "experiment_ids": [experiment.id],
            "run_view_type": "ALL" if with_deleted else "ACTIVE_ONLY",
            "max_results": _PAGE,
            "order_by": ["attributes.start_time ASC"],
        }
        for one in self._pages("runs/search", "runs", asked):
            yield _run(one)

    def history(self, run: FoundRun) -> Iterator[Point]:
        for newest in run.latest:
            asked = {"run_id": run.id, "metric_key": newest.name, "max_results": _POINTS_A_PAGE}
            for one in self._got_pages("metrics/get-history", "metrics", asked):
                yield _point(one)

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        try:
            found = list(
                self._pages(
                    "logged-models/search", "models", {"experiment_ids": [experiment.id], "max_results": 50}
                )
            )
        except NotFound:  # a server from before MLflow 3
            return
        for one in found:
            info, data = one["info"], one.get("data", {})
            told = {
                "name": info["name"],
                "type": info.get("model_type"),
                "params": _texts(data.get("params")),
                "tags": _texts(info.get("tags")),
                "metrics": [
                    {
                        "metric_name": m["key"],
                        "metric_value": m.get("value"),
                        "metric_step": m.get("step"),
                        "dataset_name": m.get("dataset_name"),
                    }
                    for m in data.get("metrics", ())
                ],
            }
            yield LoggedModel(
                info["model_id"],
                info["name"],
                info.get("source_run_id"),
                info.get("artifact_uri", ""),
                int(info.get("creation_timestamp_ms", 0)),
                told,
            )

    def files(self, run: FoundRun) -> Iterator[SourceFile]:
        for path, size in self._listed(f"{_API}/artifacts/list", {"run_id": run.id}, ""):
            yield self._file(
                path, size, "/get-artifact", {"run_id": run.id, "run_uuid": run.id, "path": path}
            )

    def model_files(self, model: LoggedModel) -> Iterator[SourceFile]:
        own = f"/ajax-api/2.0/mlflow/logged-models/{quote(model.id, safe='')}/artifacts/files"
        listing = f"{_API}/logged-models/{quote(model.id, safe='')}/artifacts/directories"
        for path, size in self._listed(listing, {}, "", named="artifact_directory_path"):
            yield self._file(path, size, own, {"artifact_file_path": path})

    def models(self) -> Iterator[Model]:
        for one in self._got_pages("registered-models/search", "registered_models", {"max_results": 100}):
            name = one["name"]
            quoted = name.replace("'", "\\'")
            asked = {"filter": f"name='{quoted}'", "max_results": 100}
            versions = [
                Version(
                    int(each["version"]),
                    each.get("source", ""),
                    each.get("run_id") or None,
                    each.get("current_stage") or "None",
                    each.get("description", ""),
                    _texts(each.get("tags")),
                )
                for each in self._got_pages("model-versions/search", "model_versions", asked)
            ]
            aliases = {each["alias"]: int(each["version"]) for each in one.get("aliases", ())}
            yield Model(
                name,
                one.get("description", ""),
                _texts(one.get("tags")),
                aliases,
                tuple(sorted(versions, key=lambda each: each.number)),
            )

    def unread(self) -> Mapping[str, int]:
        return {}

    def _listed(
        self, listing: str, asked: Mapping[str, str], path: str, *, named: str = "path", depth: int = 0
    ) -> Iterator[tuple[str, int | None]]:
        """The files below `path` with their sizes, from one listing for each folder."""
        if depth > _DEPTH:
            raise Elsewhere(f"folders are nested more than {_DEPTH} times")
        seen: dict[str, str] = {"page_token": ""}
        while True:
            params = {
                **asked,
                **({named: path} if path else {}),
                **({"page_token": seen["page_token"]} if seen["page_token"] else {}),
            }
            told = self._answer(self._client.build_request("GET", listing, params=params))
            for one in told.get("files", ()):
                if one.get("is_dir"):
                    yield from self._listed(listing, asked, one["path"], named=named, depth=depth + 1)
                else:
                    yield one["path"], None if one.get("file_size") is None else int(one["file_size"])
            if not told.get("next_page_token") or told["next_page_token"] == seen["page_token"]:
                return
            seen["page_token"] = told["next_page_token"]

    def _file(self, path: str, size: int | None, address: str, params: Mapping[str, str]) -> SourceFile:
        def fetch(place: Path) -> Path:
            with self._client.stream("GET", address, params=params) as reply:
                if reply.status_code != httpx.codes.OK:
                    raise NotFound(f"the server answered {reply.status_code} when asked for the file")
                with place.open("wb") as file:
                    for chunk in reply.iter_bytes():
                        file.write(chunk)
            return place

        return SourceFile(path, size, fetch)

    def _pages(self, call: str, of: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            told = self._post(call, {**asked, **({"page_token": token} if token else {})})
            yield from told.get(of, ())
            if not told.get("next_page_token") or told["next_page_token"] == token:
                return
            token = told["next_page_token"]

    def _got_pages(self, call: str, of: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            params = {**asked, **({"page_token": token} if token else {})}
            told = self._answer(self._client.build_request("GET", f"{_API}/{call}", params=params))
            yield from told.get(of, ())
            if not told.get("next_page_token") or told["next_page_token"] == token:
                return
            token = told["next_page_token"]

    def _post(self, call: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer(self._client.build_request("POST", f"{_API}/{call}", json=body))

    def _answer(self, request: httpx.Request) -> dict[str, Any]:
        try:
            reply = self._client.send(request)
        except httpx.TransportError as error:
            raise NotReady(
                f"{self.where} does not answer: {str(error) or type(error).__name__}. Is the MLflow server running there? What was carried "
                "over so far is kept: run the same command again."
            ) from error
        if reply.status_code in (401, 403):
            raise Denied(
                f"{self.where} answered {reply.status_code} to {request.url.path}: it wants to know who asks. Set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
            )
        if reply.status_code == 404:
            raise NotFound(f"{self.where} knows no {request.url.path}")
        if reply.is_redirect:
            raise Invalid(
                f"{self.where} sends on to {reply.headers.get('location', '')[:120]!r}; an import asks the one server that it was given. Give "
                "that address if it is the one you mean."
            )
        if reply.is_error:
            raise NotReady(
                f"{self.where} answered {reply.status_code} to {request.url.path}: {reply.text[:200]!r}. Run the same command again later."
            )
        try:
            told = reply.json()
        except ValueError as error:
            raise Invalid(
                f"{self.where} answered {request.url.path} with {reply.headers.get('content-type', 'nothing')!r} instead of JSON. Give the address "
                "that MLFLOW_TRACKING_URI has."
            ) from error
        if not isinstance(told, dict):
            raise Invalid(
                f"{self.where} is no MLflow server: its answer is no JSON object. Give the address that MLFLOW_TRACKING_URI has."
            )
        return told


def _run(told: Mapping[str, Any]) -> FoundRun:
    info, data = told["info"], told.get("data", {})
    tags = _texts(data.get("tags"))
    inputs = tuple(
        {**one["dataset"], "tags": _texts(one.get("tags"))}
        for one in told.get("inputs", {}).get("dataset_inputs", ())
    )
    return FoundRun(
        info.get("run_id") or info["run_uuid"],
        info["experiment_id"],
        info.get("run_name") or tags.get("mlflow.runName", ""),
        info.get("user_id", ""),
        info.get("status", ""),
        info.get("lifecycle_stage") == "deleted",
        _number(info.get("start_time")),
        _number(info.get("end_time")),
        info.get("artifact_uri", ""),
        _texts(data.get("params")),
        tags,
        tuple(sorted(map(_point, data.get("metrics", ())), key=lambda one: one.name)),
        inputs,
    )


def _point(told: Mapping[str, Any]) -> Point:
    value = with_infinity(float(told.get("value", 0.0)))  # also of the texts "NaN" and "Infinity"
    return Point(told["key"], value, int(told.get("step", 0)), int(told.get("timestamp", 0)))


def _texts(told: Any) -> dict[str, str]:
    return {one["key"]: one.get("value", "") for one in told or ()}


def _number(told: Any) -> int | None:
    return None if told is None else int(told)
