"""Moving in from MLflow: experiments, runs, files and registered models from a server, a database or a folder."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from everloop import registry, tracking
from everloop.adapters.carrying import (
    Carried,
    Carrier,
    Progress,
    SourceFile,
    SourceRun,
    id_from,
    state_of,
    told_as_file,
)
from everloop.adapters.mlflow_database import MlflowDatabase
from everloop.adapters.mlflow_folder import MlflowFolder
from everloop.adapters.mlflow_server import MlflowServer
from everloop.adapters.mlflow_source import (
    Elsewhere,
    Experiment,
    FoundRun,
    LoggedModel,
    MlflowSource,
    Model,
    Version,
)
from everloop.clock import from_micros
from everloop.errors import EverloopError, Invalid, NotFound, StorageFailed
from everloop.tracking import DatasetInput, LoggedDataset, MetricPoint, Run, RunStatus
from everloop.workspace import Workspace

LOGGED_MODELS = "import/logged-models.json"  # file of a run with what has no place of its own here
_PARENT_TAG = "mlflow.parentRunId"
_HELD_BY_THE_RUN = frozenset({_PARENT_TAG, "mlflow.runName"})
_ID = re.compile(r"[0-9a-f]{32}")
_STATUSES: Mapping[str, RunStatus] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}


def import_mlflow(
    ws: Workspace,
    source: str,
    *,
    artifacts: Path | None = None,
    experiments: Sequence[str] = (),
    with_files: bool = True,
    with_models: bool = True,
    with_deleted: bool = False,
    username: str = "",
    password: str = "",
    token: str = "",
    is_dry_run: bool = False,
    progress: Progress = lambda _: None,
) -> Carried:
    """Carry over what an MLflow store has, or what is new there since the last time.

    Runs keep their ids, so that `mlflow.get_run` finds them here. Writes runs and model versions, each in a transaction
    of its own.

    Parameters
    ----------
    source
        The address of a server, an SQLite file or `sqlite:///FILE`, or a folder `mlruns`.
    artifacts
        A folder that holds artifacts which the store's records place elsewhere.
    experiments
        Names; none: all.

    Raises
    ------
    Invalid
        The source is nothing of MLflow's.
    NotFound
        There is no such file, folder or experiment.
    Denied, NotReady
        The server wants to know who asks, or does not answer.
    """
    carrier = Carrier(ws, is_dry_run=is_dry_run, progress=progress)
    store = _opened(source, artifacts, (username, password, token), carrier.leave_out)
    try:
        moving = _Move(carrier, store, with_files)
        moving.experiments(experiments, with_deleted=with_deleted)
        if with_models:
            moving.models()
        for what, number in store.unread().items():
            if number:
                carrier.leave_out(what, "an import carries over runs and models", f"{number:,} of them")
        return carrier.finish(store.where)
    finally:
        store.close()


def _opened(
    source: str, artifacts: Path | None, who: tuple[str, str, str], left_out: Callable[[str, str, str], None]
) -> MlflowSource:
    if source.startswith(("http://", "https://")):
        username, password, token = who
        return MlflowServer(source, username=username, password=password, token=token)
    if "://" in source and not source.startswith(("sqlite:///", "file://")):
        raise Invalid(
            f"{source.partition('://')[0]}:// is no source of an import; it reads http(s)://, sqlite:/// and folders. Import from the "
            "running MLflow server instead."
        )
    if artifacts is not None and not artifacts.is_dir():
        raise NotFound(f"there is no folder {artifacts}. Name the folder that holds MLflow's artifacts.")
    place = Path(source.removeprefix("sqlite:///").removeprefix("file://"))
    if place.is_file():
        return MlflowDatabase(place, artifacts, left_out)
    if not place.is_dir():
        raise NotFound(
            f"there is no file or folder {place}. Name MLflow's mlflow.db, its mlruns, or its server's address."
        )
    if (place / "mlflow.db").is_file():
        return MlflowDatabase(place / "mlflow.db", artifacts, left_out)
    return MlflowFolder(place / "mlruns" if (place / "mlruns").is_dir() else place, artifacts, left_out)


class _Move:
    """One import. Keeps where each model's files went, for the versions that are registered from them."""

    def __init__(self, carrier: Carrier, store: MlflowSource, with_files: bool) -> None:
        self._carrier = carrier
        self._store = store
        self._with_files = with_files
        self._roots: dict[str, str] = {}  # artifact folder of a run: its id here
        self._placed: dict[str, tuple[str, str]] = {}  # logged model: its run here, and its folder there

    def experiments(self, names: Sequence[str], *, with_deleted: bool) -> None:
        found = list(self._store.experiments(with_deleted=with_deleted))
        if missing := sorted(set(names).difference(one.name for one in found)):
            raise NotFound(
                f"there is no experiment {missing[0]!r} in {self._store.where}. It has: {', '.join(one.name for one in found)[:500]}."
            )
        for experiment in found:
            if names and experiment.name not in names:
                continue
            self._experiment(experiment)
            self._carrier.carry(self._runs(experiment, with_deleted=with_deleted))

    def _experiment(self, there: Experiment) -> None:
        """Make an experiment that is not here, and give it the tags that it has not."""
        ws = self._carrier.ws
        if self._carrier.is_dry_run:
            return
        try:
            here = next((one for one in tracking.experiments(ws) if one.name == there.name), None)
            if here is None:
                tracking.create_experiment(ws, there.name, tags=there.tags)
                return
            known = tracking.experiment(ws, here.id).tags
            if new := {name: text for name, text in there.tags.items() if name not in known}:
                tracking.tag_experiment(ws, here.id, new)
        except StorageFailed:
            raise
        except EverloopError as error:
            self._carrier.leave_out("experiment", str(error), there.name)

    def _runs(self, experiment: Experiment, *, with_deleted: bool) -> Iterator[SourceRun]:
        logged: dict[str | None, list[LoggedModel]] = defaultdict(list)
        for model in self._store.logged_models(experiment):
            logged[model.run].append(model)
        for model in logged.pop(None, []):
            self._carrier.leave_out("logged model", "no run logged it", model.id)
        for run in self._store.runs(experiment, with_deleted=with_deleted):
            try:
                yield self._source_run(experiment, run, logged[run.id])
            except Invalid as error:
                self._carrier.leave_out("run", str(error), run.id)

    def _source_run(self, experiment: Experiment, run: FoundRun, logged: Sequence[LoggedModel]) -> SourceRun:
        kept_as = _id_here(run.id, run.began_ms)
        self._roots[run.artifact_uri.rstrip("/")] = kept_as
        places = _places(logged)
        self._placed.update({model.id: (kept_as, places[model.id]) for model in logged})
        parent = run.tags.get(_PARENT_TAG)
        told = Run(
            id=kept_as,
            experiment=experiment.name,
            name=run.name or kept_as,
            kind="run",
            status=_STATUSES.get(run.status, "running"),
            parent=_id_here(parent, None) if parent else None,
            actor=self._carrier.ws.actor,
            client_user=run.user or None,
            deleted_at=_moment(run.ended_ms or run.began_ms or 0) if run.is_deleted else None,
            started_at=_moment(run.began_ms or run.ended_ms or 0),
            ended_at=None if run.ended_ms is None else _moment(run.ended_ms),
            error=None,
            code=None,
            environment=None,
            params=run.params,
            tags={name: text for name, text in run.tags.items() if name not in _HELD_BY_THE_RUN},
        )
        return SourceRun(
            key=f"mlflow:{run.id}",
            run=told,
            state=state_of(asdict(run), [asdict(one) for one in logged]),
            points=partial(self._points, run),
            files=partial(self._files, run, logged, places),
            datasets=tuple(map(_dataset_of, run.inputs)),
        )

    def _points(self, run: FoundRun) -> Iterator[MetricPoint]:
        for one in self._store.history(run):
            try:
                at = _moment(one.at_ms)
            except Invalid as error:
                self._carrier.leave_out("point of a metric", str(error), f"{run.id} {one.name}")
                continue
            yield MetricPoint(one.name, one.value, one.step, at)

    def _files(
        self, run: FoundRun, logged: Sequence[LoggedModel], places: Mapping[str, str]
    ) -> Iterator[SourceFile]:
        if logged:
            yield told_as_file(
                LOGGED_MODELS, {model.id: {"folder": places[model.id], **model.told} for model in logged}
            )
        if not self._with_files:
            return
        yield from self._listed(run.id, lambda: self._store.files(run))
        for model in logged:
            for one in self._listed(model.id, partial(self._store.model_files, model)):
                yield SourceFile(f"{places[model.id]}/{one.path}", one.size_bytes, one.fetch)

    def _listed(self, what: str, listing: Callable[[], Iterator[SourceFile]]) -> list[SourceFile]:
        try:
            return list(listing())
        except (Elsewhere, NotFound, OSError) as error:
            self._carrier.leave_out("files", str(error), what)
        return []

    def models(self) -> None:
        for model in self._store.models():
            try:
                self._model(model)
            except StorageFailed:
                raise
            except EverloopError as error:
                self._carrier.leave_out("model", str(error), model.name)

    def _model(self, model: Model) -> None:
        """Register what is new of a model. Stages are not carried over: here one has to pass gates to be in a stage."""
        ws, carrier = self._carrier.ws, self._carrier
        known = {one.number: one.files for one in registry.versions(ws, model.name, limit=100_000)}
        carrier.count(models=int(all(one.name != model.name for one in registry.models(ws))))
        if carrier.is_dry_run:
            carrier.count(versions=sum(one.number not in known for one in model.versions))
            return
        registry.define(ws, model.name)
        for version in model.versions:
            self._version(model, version, known.get(version.number))
        for alias, number in model.aliases.items():
            self._alias(model, alias, number)
        here = registry.model(ws, model.name)
        if model.description and not here.description:
            registry.describe_model(ws, model.name, model.description)
        for name, value in model.tags.items():
            if name not in here.tags:
                registry.tag_model(ws, model.name, name, value)

    def _version(self, model: Model, version: Version, known: Mapping[str, str] | None) -> None:
        ref = f"{model.name}@{version.number}"
        ws, carrier = self._carrier.ws, self._carrier
        found = self._version_files(version)
        if found is None:
            why = "its files were not carried over"
            carrier.leave_out("version of a model", why, f"{ref} from {version.source}")
            return
        run_id, files = found
        try:
            if known != files:  # to look into a model's files takes seconds
                registry.register(
                    ws,
                    model.name,
                    run=run_id,
                    files=files,
                    signature=None,
                    metrics=tracking.run(ws, run_id).metrics,
                    number=version.number,
                )
        except StorageFailed:
            raise
        except EverloopError as error:
            carrier.leave_out("version of a model", str(error), ref)
            return
        carrier.count(versions=int(known is None))
        if version.stage not in ("None", ""):
            why = "a stage asks for passed gates and approvals here: everloop models promote"
            carrier.leave_out("stage of a version", why, f"{ref} {version.stage}")
        here = registry.version(ws, ref)
        if version.description and not here.description:
            registry.describe(ws, ref, version.description)
        for name, value in version.tags.items():
            if name not in here.tags:
                registry.tag(ws, ref, name, value)

    def _version_files(self, version: Version) -> tuple[str, dict[str, str]] | None:
        """The run here whose files a version is made of, and those files; None when they are not here."""
        run_id, folder = self._place_of(version.source)
        if run_id is None or run_id not in tracking.imported_runs(self._carrier.ws, [run_id]):
            return None
        below = f"{folder}/" if folder else ""
        files = {
            one.path.removeprefix(below): one.digest
            for one in tracking.artifacts(self._carrier.ws, run_id, below=folder)
        }
        return (run_id, files) if files else None

    def _place_of(self, source: str) -> tuple[str | None, str]:
        """The run here and the folder of it that a version's source means."""
        if source.startswith("models:/"):
            return self._placed.get(source.removeprefix("models:/"), (None, ""))
        if source.startswith("runs:/"):
            run_id, _, folder = source.removeprefix("runs:/").partition("/")
            return _id_here(run_id, None), folder
        plain = source.rstrip("/")
        for above in _above(plain):
            if above in self._roots:
                return self._roots[above], plain[len(above) + 1 :]
        return None, ""

    def _alias(self, model: Model, alias: str, number: int) -> None:
        ws, carrier = self._carrier.ws, self._carrier
        standing = registry.aliases(ws, model.name).get(alias)
        if standing == number:
            return
        if standing is not None:
            why = f"it means version {standing} here: everloop models alias moves it"
            carrier.leave_out("alias", why, f"{model.name}@{alias} is version {number} there")
            return
        try:
            registry.alias(ws, model.name, alias, f"{model.name}@{number}")
        except StorageFailed:
            raise
        except EverloopError as error:
            carrier.leave_out("alias", str(error), f"{model.name}@{alias}")


def _id_here(mlflow_id: str, began_ms: int | None) -> str:
    """MLflow's own id, as its clients see it here; one of another form is turned into one."""
    return f"run_{mlflow_id}" if _ID.fullmatch(mlflow_id) else id_from(began_ms or 0, "mlflow", mlflow_id)


def _dataset_of(told: Mapping[str, Any]) -> DatasetInput:
    named = {name: str(told.get(name) or "") for name in ("name", "digest", "source_type", "source")}
    return DatasetInput(
        LoggedDataset(**named, schema=told.get("schema"), profile=told.get("profile")), told["tags"]
    )


def _moment(ms: int) -> datetime:
    try:
        return from_micros(ms * 1000)
    except OverflowError as error:
        raise Invalid("a time that no calendar has; times are from year 1 to 9999") from error


def _places(logged: Sequence[LoggedModel]) -> dict[str, str]:
    """The folder for each model among the files of its run: its name, and for a later one of the same name its id besides."""
    found: dict[str, str] = {}
    for model in sorted(logged, key=lambda one: (one.created_ms, one.id)):
        found[model.id] = model.name if model.name not in found.values() else f"{model.name}-{model.id}"
    return found


def _above(uri: str) -> Iterator[str]:
    while "/" in uri:
        yield uri
        uri = uri.rpartition("/")[0]
