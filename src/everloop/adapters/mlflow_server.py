"""A running MLflow server, asked through its REST API; only that server is ever asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from everloop.adapters import mlflow_replies as replies
from everloop.adapters.carrying import SourceFile
from everloop.adapters.mlflow_source import Elsewhere, Experiment, FoundRun, LoggedModel, Model, Point
from everloop.errors import Denied, Invalid, NotFound, NotReady

T = TypeVar("T")
Query = Mapping[str, str | int]

_PAGE = 500
_POINTS_A_PAGE = 20_000
_API = "/api/2.0/mlflow"
_DEPTH = 32  # of folders in folders: a server that answers without end is left
_AT_ONCE = 4  # requests for histories: an MLflow server has four workers unless told otherwise


class MlflowServer:
    """The server at `address`; `username` with `password`, or `token`, as MLflow's clients send them."""

    def __init__(self, address: str, *, username: str, password: str, token: str) -> None:
        split = urlsplit(address)
        port = f":{split.port}" if split.port else ""
        self.where = (
            f"{split.scheme}://{split.hostname}{port}{split.path.rstrip('/')}"  # no name and password in it
        )
        if split.username and not username:
            username, password = split.username, split.password or ""
        self._client = httpx.Client(
            base_url=self.where,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            auth=(username, password) if username else None,
            timeout=60,
            follow_redirects=False,
        )
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="everloop-import")
        try:
            self._answer("POST", f"{_API}/experiments/search", body={"max_results": 1})
        except NotFound as error:
            raise Invalid(
                f"{self.where} is no MLflow server: it knows no {_API}/experiments/search. Give the address that "
                "MLFLOW_TRACKING_URI has."
            ) from error

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def experiments(self, *, with_deleted: bool) -> Iterator[Experiment]:
        asked = {"view_type": _view(with_deleted), "max_results": _PAGE}
        return self._searched("experiments/search", "experiments", asked, replies.experiment_of)

    def runs(self, experiment: Experiment, *, with_deleted: bool) -> Iterator[FoundRun]:
        asked = {
            "experiment_ids": [experiment.id],
            "run_view_type": _view(with_deleted),
            "max_results": _PAGE,
            "order_by": ["attributes.start_time ASC"],
        }
        return self._searched("runs/search", "runs", asked, replies.run_of)

    def history(self, run: FoundRun) -> Iterator[Point]:
        first_pages = self._pool.map(lambda one: self._points(run.id, one.name, ""), run.latest)
        for newest, page in zip(run.latest, first_pages, strict=True):
            points, token = page
            yield from points
            while token:
                points, token = self._points(run.id, newest.name, token)
                yield from points

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        asked = {"experiment_ids": [experiment.id], "max_results": 50}
        try:
            yield from self._searched("logged-models/search", "models", asked, replies.logged_model_of)
        except NotFound:
            return  # a server from before MLflow 3

    def files(self, run: FoundRun) -> Iterator[SourceFile]:
        for path, size in self._listed(f"{_API}/artifacts/list", {"run_id": run.id}, "path", ""):
            asked = {"run_id": run.id, "run_uuid": run.id, "path": path}
            yield SourceFile(path, size, partial(self._fetch, "/get-artifact", asked))

    def model_files(self, model: LoggedModel) -> Iterator[SourceFile]:
        own = f"/logged-models/{quote(model.id, safe='')}/artifacts"
        for path, size in self._listed(f"{_API}{own}/directories", {}, "artifact_directory_path", ""):
            address = f"/ajax-api/2.0/mlflow{own}/files"
            yield SourceFile(path, size, partial(self._fetch, address, {"artifact_file_path": path}))

    def models(self) -> Iterator[Model]:
        found = self._got("registered-models/search", "registered_models", {"max_results": 100}, dict)
        for one in found:
            name = str(one.get("name")).replace("'", "\\'")
            asked: Query = {"filter": f"name='{name}'", "max_results": 100}
            versions = self._got("model-versions/search", "model_versions", asked, replies.version_of)
            yield self._read(partial(replies.model_of, versions=list(versions)), one)

    def unread(self) -> Mapping[str, int]:
        return {}

    def _points(self, run_id: str, name: str, token: str) -> tuple[list[Point], str]:
        """A page of a metric's history, and the token of the next."""
        asked: Query = {"run_id": run_id, "metric_key": name, "max_results": _POINTS_A_PAGE}
        told = self._answer("GET", f"{_API}/metrics/get-history", query={**asked, **_page(token)})
        points = [self._read(replies.point_of, one) for one in told.get("metrics", ())]
        return points, _next(told, token)

    def _listed(
        self, listing: str, asked: Mapping[str, str], named: str, path: str, depth: int = 0
    ) -> Iterator[tuple[str, int | None]]:
        """The files below `path` with their sizes, from a listing of each folder."""
        if depth > _DEPTH:
            raise Elsewhere(f"folders are nested more than {_DEPTH} times")
        query = {**asked, **({named: path} if path else {})}
        found = self._pages(
            lambda page: self._answer("GET", listing, query={**query, **page}, is_about_files=True),
            "files",
            replies.file_of,
        )
        for inner, is_folder, size in found:
            if is_folder:
                yield from self._listed(listing, asked, named, inner, depth + 1)
            else:
                yield inner, size

    def _fetch(self, address: str, query: Query, place: Path) -> Path:
        try:
            with self._client.stream("GET", address, params=query) as reply, place.open("wb") as file:
                if reply.status_code != httpx.codes.OK:
                    raise NotFound(f"the server answered {reply.status_code} when asked for the file")
                for chunk in reply.iter_bytes():
                    file.write(chunk)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        return place

    def _searched(
        self, call: str, of: str, asked: Mapping[str, Any], read: Callable[[replies.Reply], T]
    ) -> Iterator[T]:
        """All that a call finds whose question is a body."""
        path = f"{_API}/{call}"
        return self._pages(lambda page: self._answer("POST", path, body={**asked, **page}), of, read)

    def _got(self, call: str, of: str, asked: Query, read: Callable[[replies.Reply], T]) -> Iterator[T]:
        """All that a call finds whose question stands in its address."""
        path = f"{_API}/{call}"
        return self._pages(lambda page: self._answer("GET", path, query={**asked, **page}), of, read)

    def _pages(
        self, ask: Callable[[dict[str, str]], replies.Reply], of: str, read: Callable[[replies.Reply], T]
    ) -> Iterator[T]:
        token = ""
        while True:
            told = ask(_page(token))
            for one in told.get(of, ()):
                yield self._read(read, one)
            if not (token := _next(told, token)):
                return

    def _read(self, read: Callable[[replies.Reply], T], told: replies.Reply) -> T:
        try:
            return read(told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Invalid(
                f"{self.where} answered what no MLflow server does ({type(error).__name__}: {error}). Give the address that "
                "MLFLOW_TRACKING_URI has."
            ) from error

    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        is_about_files: bool = False,
    ) -> dict[str, Any]:
        try:
            reply = self._client.request(method, path, params=query, json=body)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if is_about_files and reply.is_server_error:  # its store for them may be gone while all else is there
            raise Elsewhere(f"the server answered {reply.status_code} when asked which files there are")
        self._check(reply, path)
        try:
            told = reply.json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise Invalid(
                f"{self.where} is no MLflow server: it answered {path} with {reply.headers.get('content-type', 'nothing')!r} that is "
                "no JSON object. Give the address that MLFLOW_TRACKING_URI has."
            )
        return told

    def _silent(self, error: httpx.HTTPError) -> NotReady:
        return NotReady(
            f"{self.where} does not answer: {str(error) or type(error).__name__}. Is the MLflow server running there? What was "
            "carried over so far is kept: run the same command again."
        )

    def _check(self, reply: httpx.Response, path: str) -> None:
        if reply.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise Denied(
                f"{self.where} answered {reply.status_code} to {path}: it wants to know who asks. Set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
            )
        if reply.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"{self.where} knows no {path}")
        if reply.is_redirect:
            raise Invalid(
                f"{self.where} sends on to {reply.headers.get('location', '')[:120]!r}; an import asks the one server that it was "
                "given. Give that address if it is the one you mean."
            )
        if reply.is_error:
            raise NotReady(
                f"{self.where} answered {reply.status_code} to {path}: {reply.text[:200]!r}. What was carried over so far is kept: "
                "run the same command again later."
            )


def _view(with_deleted: bool) -> str:
    return "ALL" if with_deleted else "ACTIVE_ONLY"


def _page(token: str) -> dict[str, str]:
    return {"page_token": token} if token else {}


def _next(told: Mapping[str, Any], token: str) -> str:
    """The token of the next page; none at the end, and none from a server that gives the same one for ever."""
    following = str(told.get("next_page_token") or "")
    return "" if following == token else following
