"""MLflow's file store: a folder `mlruns` with a folder for each experiment, run and model, and a file for each value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from everloop.adapters.carrying import SourceFile
from everloop.adapters.mlflow_local import LocalFiles
from everloop.adapters.mlflow_source import Experiment, FoundRun, LoggedModel, Model, Point, Version, own_path
from everloop.errors import Invalid

_STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_DELETED = "deleted"
_OWN_FOLDERS = frozenset({"models", "datasets", "tags", "traces"})


class MlflowFolder:
    def __init__(
        self, folder: Path, artifacts: Path | None, left_out: Callable[[str, str, str], None]
    ) -> None:
        self.where = own_path(folder)
        self._folder = folder
        self._left_out = left_out
        self._files = LocalFiles(folder.resolve().parent, artifacts, left_out)
        if not any(folder.glob("*/meta.yaml")):
            raise Invalid(
                f"{folder} is no folder of MLflow: none of its folders has a meta.yaml. Name MLflow's mlruns, its mlflow.db, or the "
                "address of its server."
            )

    def close(self) -> None:
        """Nothing is held open."""

    def experiments(self, *, with_deleted: bool) -> Iterator[Experiment]:
        roots = [self._folder, *([self._folder / ".trash"] if with_deleted else [])]
        for place in sorted(one.parent for root in roots for one in root.glob("*/meta.yaml")):
            meta = self._meta(place)
            if "experiment_id" in meta and (with_deleted or meta.get("lifecycle_stage") != _DELETED):
                yield Experiment(
                    place.relative_to(self._folder).as_posix(),
                    _text(meta.get("name")),
                    self._texts(place / "tags"),
                )

    def runs(self, experiment: Experiment, *, with_deleted: bool) -> Iterator[FoundRun]:
        place = self._folder / experiment.id
        found = [(self._meta(one), one) for one in _folders(place) if one.name not in _OWN_FOLDERS]
        told = [(meta, one) for meta, one in found if "run_id" in meta or "run_uuid" in meta]
        for meta, one in sorted(told, key=lambda pair: (_int(pair[0].get("start_time")) or 0, pair[1].name)):
            if with_deleted or meta.get("lifecycle_stage") != _DELETED:
                yield self._run(meta, one)

    def history(self, run: FoundRun) -> Iterator[Point]:
        yield from self._history(self._place_of(run) / "metrics")

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        for place in _folders(self._folder / experiment.id / "models"):
            meta = self._meta(place)
            if meta and meta.get("lifecycle_stage") != _DELETED:
                measured = [
                    {"metric_name": one.name, "metric_value": one.value, "metric_step": one.step}
                    for one in self._history(place / "metrics")
                ]
                told = {
                    "name": _text(meta.get("name")),
                    "type": meta.get("model_type"),
                    "params": self._texts(place / "params"),
                    "tags": self._texts(place / "tags"),
                    "metrics": measured,
                }
                yield LoggedModel(
                    place.name,
                    _text(meta.get("name")),
                    _text(meta.get("source_run_id")) or None,
                    str(place / "artifacts"),
                    _int(meta.get("creation_timestamp")) or 0,
                    told,
                )

    def files(self, run: FoundRun) -> Iterator[SourceFile]:
        own = self._place_of(run) / "artifacts"
        return self._files.below(str(own.resolve()) if own.is_dir() else run.artifact_uri)

    def model_files(self, model: LoggedModel) -> Iterator[SourceFile]:
        return self._files.below(str(Path(model.artifact_uri).resolve()))

    def models(self) -> Iterator[Model]:
        for place in _folders(self._folder / "models"):
            meta = self._meta(place)
            if not meta:
                continue
            told = [(self._meta(one), one) for one in place.glob("version-*") if one.is_dir()]
            versions = [
                Version(
                    number,
                    str(one.get("source") or ""),
                    _text(one.get("run_id")) or None,
                    str(one.get("current_stage") or "None"),
                    str(one.get("description") or ""),
                    self._texts(where / "tags"),
                )
                for one, where in told
                if (number := _int(one.get("version"))) is not None
                and one.get("current_stage") != "Deleted_Internal"
            ]
            aliases = {
                name: int(number)
                for name, number in self._texts(place / "aliases").items()
                if number.isdigit()
            }
            yield Model(
                _text(meta.get("name")),
                str(meta.get("description") or ""),
                self._texts(place / "tags"),
                aliases,
                tuple(sorted(versions, key=lambda one: one.number)),
            )

    def unread(self) -> Mapping[str, int]:
        return {"traces": sum(1 for _ in self._folder.glob("*/traces/*/trace_info.yaml"))}

    def _run(self, meta: Mapping[str, Any], place: Path) -> FoundRun:
        tags = self._texts(place / "tags")
        status = meta.get("status")
        metrics = sorted(one for one in (place / "metrics").rglob("*") if one.is_file())
        return FoundRun(
            place.name,
            place.parent.relative_to(self._folder).as_posix(),
            str(meta.get("run_name") or meta.get("name") or tags.get("mlflow.runName", "")),
            str(meta.get("user_id") or ""),
            _STATUSES.get(status, "") if isinstance(status, int) else str(status),
            meta.get("lifecycle_stage") == _DELETED,
            _int(meta.get("start_time")),
            _int(meta.get("end_time")),
            str(meta.get("artifact_uri") or ""),
            self._texts(place / "params"),
            tags,
            tuple(
                newest
                for one in metrics
                if (newest := _newest(self._points(one, place / "metrics"))) is not None
            ),
            tuple(self._inputs(place)),
            sum(one.stat().st_size for one in metrics),
        )

    def _place_of(self, run: FoundRun) -> Path:
        return self._folder / run.experiment / run.id

    def _inputs(self, place: Path) -> Iterator[dict[str, Any]]:
        for one in _folders(place / "inputs"):
            link = self._meta(one)
            if link.get("source_type") == "DATASET":
                told = self._meta(place.parent / "datasets" / Path(str(link["source_id"])).name)
                tags = link.get("tags") or {}
                yield {
                    **{
                        name: told.get(name)
                        for name in ("name", "digest", "source_type", "source", "schema", "profile")
                    },
                    "tags": tags,
                }

    def _history(self, folder: Path) -> Iterator[Point]:
        for place in sorted(folder.rglob("*")):
            if place.is_file():
                yield from self._points(place, folder)

    def _points(self, place: Path, folder: Path) -> Iterator[Point]:
        """The values in a metric's file: a line each, with time, value and step, and in a model's the run besides."""
        name = place.relative_to(folder).as_posix()  # a name with / is a file in a folder
        with place.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                words = line.split()
                try:
                    yield Point(name, float(words[1]), int(words[2]) if len(words) > 2 else 0, int(words[0]))
                except (ValueError, IndexError):
                    self._left_out("point of a metric", "a damaged line", str(place))

    def _texts(self, folder: Path) -> dict[str, str]:
        """Each file's name and content; a name with / is a file in a folder."""
        return {
            place.relative_to(folder).as_posix(): place.read_text("utf-8", "replace")
            for place in sorted(folder.rglob("*"))
            if place.is_file() and not place.is_symlink()
        }

    def _meta(self, folder: Path) -> Mapping[str, Any]:
        place = folder / "meta.yaml"
        try:
            found = yaml.load(place.read_bytes(), _LOADER)  # noqa: S506  (a safe loader, in C where there is one)
        except FileNotFoundError:
            return {}
        except (OSError, yaml.YAMLError) as error:
            self._left_out(
                folder.parent.name, f"its meta.yaml cannot be read: {type(error).__name__}", str(place)
            )
            return {}
        return found if isinstance(found, dict) else {}


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _int(told: Any) -> int | None:
    return told if isinstance(told, int) else None


def _text(told: Any) -> str:
    return told if isinstance(told, str) else ""


def _newest(points: Iterator[Point]) -> Point | None:
    return max(points, key=lambda one: (one.step, one.at_ms), default=None)


def _folders(folder: Path) -> list[Path]:
    return (
        sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())
        if folder.is_dir()
        else []
    )
