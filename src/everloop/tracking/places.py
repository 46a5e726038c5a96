"""Where MLflow's clients keep the files of their runs: with everloop, or by themselves below a root that was set."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from everloop.errors import Invalid
from everloop.settings import Settings
from everloop.tracking.records import (
    PROXY_SCHEME,
    Experiment,
    Keeping,
    LoggedModel,
    OwnerKind,
    Run,
    Trace,
    owner_kind,
)

_LENGTH = 2_000
_FOLDERS: dict[OwnerKind, str] = {
    "run": "",
    "model": "models/",
    "trace": "traces/",
}  # below an experiment's place


def check_root(uri: str) -> str:
    """A place for artifacts as it may be kept. Raises Invalid for one that could mean another place than it says."""
    plain = uri
    for _ in range(3):  # what is decoded once too often somewhere may be decoded once more
        plain = unquote(plain)
    parts = urlsplit(plain)
    is_plain = plain.isprintable() and "\\" not in plain and len(uri) <= _LENGTH
    if not uri or not is_plain or parts.query or parts.fragment or "?" in plain or "#" in plain:
        raise Invalid(
            f"{uri[:80]!r} cannot be a place for artifacts: that is a URI of up to {_LENGTH} printable characters without "
            "query, fragment or backslash. Give one such as s3://bucket/folder, or none."
        )
    if ".." in parts.path.split("/") or ".." in parts.netloc.split("/"):
        raise Invalid(
            f"{uri[:80]!r} cannot be a place for artifacts: it holds '..'. Write the place out in full."
        )
    return uri.rstrip("/")


def root_setting(settings: Settings) -> str | None:
    """The root that is set for artifacts, as a URI; None: they are kept with everloop."""
    if not settings.artifact_root:
        return None
    root = check_root(settings.artifact_root)
    return root if "://" in root or root.startswith("file:") else Path(root).absolute().as_uri()


def location_of(settings: Settings, experiment: Experiment) -> str:
    """Where an experiment's artifacts are, as MLflow's clients are told."""
    return _below_root(settings, experiment) or f"{PROXY_SCHEME}:/{experiment.id}"


def uri_for(settings: Settings, experiment: Experiment, owner: str) -> str | None:
    """Where the client of a new run, logged model or trace keeps its files by itself; None: with everloop."""
    root = _below_root(settings, experiment)
    return None if root is None else f"{root}/{_below_experiment(owner)}"


def uri_of(run: Run, experiment_id: int) -> str:
    """Where a run's files are, as MLflow's clients are told."""
    return uri_at(Keeping(experiment_id, run.artifact_uri), run.id)


def uri_at(keeping: Keeping, owner: str) -> str:
    """Where the files of a run, a logged model or a trace are, as MLflow's clients are told."""
    if keeping.artifact_uri is not None:
        return keeping.artifact_uri
    return f"{PROXY_SCHEME}:/{keeping.experiment_id}/{_below_experiment(owner)}"


def _below_experiment(owner: str) -> str:
    return f"{_FOLDERS[owner_kind(owner)]}{owner.removeprefix('run_')}/artifacts"


def files_below_root(settings: Settings, owner: Run | LoggedModel | Trace) -> Path | None:
    """The folder of an owner's files when its client keeps them on this machine below the root that is set, else None."""
    root = root_setting(settings)
    if root is None or owner.artifact_uri is None or not root.startswith("file:"):
        return None
    folder = Path(unquote(urlsplit(owner.artifact_uri).path)).resolve()
    is_below = owner.artifact_uri.startswith("file:") and folder.is_relative_to(
        Path(unquote(urlsplit(root).path)).resolve()
    )
    return folder if is_below and owner.mlflow_id in folder.parts and folder.is_dir() else None


def _below_root(settings: Settings, experiment: Experiment) -> str | None:
    if experiment.artifact_root is not None:
        return experiment.artifact_root
    root = root_setting(settings)
    return None if root is None else f"{root}/{experiment.id}"
