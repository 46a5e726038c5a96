"""The workflow files of a project for GitHub and GitLab, and the file that says where its rows and labels are."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from everloop import data, loop
from everloop.ci.data_files import NAME, DataFile, LabelFile, Sources, read_sources
from everloop.ci.repository import main_branch_of, root_of
from everloop.errors import EverloopError
from everloop.loop import DeclaredDataset, DeclaredLabels, DeclaredModel, Loop

Service = Literal["github", "gitlab"]

_FILES: dict[Service, dict[str, str]] = {
    "github": {
        "github-check.yml": ".github/workflows/everloop-check.yml",
        "github-train.yml": ".github/workflows/everloop-train.yml",
        "github-deliver.yml": ".github/workflows/everloop-deliver.yml",
    },
    "gitlab": {"gitlab.yml": ".gitlab/everloop.yml"},
}
_GITLAB_ENTRY = ".gitlab-ci.yml"
# By commit, since a tag can be moved; the tags are what the commits were when this was written.
_ACTIONS = {
    "checkout": "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683  # v4.2.2",
    "python": "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065  # v5.6.0",
    "cache": "actions/cache@5a3ec84eff668545956fd18022155c47e93e2684  # v4.2.3",
    "upload": "actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02  # v4.6.2",
    "download": "actions/download-artifact@d3f86a106a0bac45b974a628896c90dbdf5c8093  # v4.3.0",
}
_PYTHON = "3.12"
_LOCKS = ("requirements.lock", "requirements.txt")
_ENDINGS = (".csv", ".parquet", ".jsonl")


@dataclass(frozen=True)
class Flows:
    """What was written, and what is left to do by hand, a sentence each."""

    files: tuple[Path, ...]
    left: tuple[str, ...]


def check_flows_free(project: Path, service: Service, *, force: bool) -> None:
    """Raises Conflict when one of a service's workflow files is there already and may not be overwritten."""
    loop.check_free(root_of(project) or project, _FILES[service].values(), force=force)


def write_flows(file: Path, service: Service, *, force: bool = False) -> Flows:
    """Write the workflow files of a loop file's project at the root of its repository, and everloop-ci.toml beside it.

    A file with rows belongs to a dataset when it is named as the dataset and has its key; a label's column is named as the
    label set. An everloop-ci.toml that is there stays.

    Raises
    ------
    Conflict
        A workflow file is there already, and `force` is not given. Nothing was written.
    Invalid, NotFound
        The loop file cannot be loaded.
    StorageFailed
        The folder cannot be written.
    """
    found = loop.load(file)
    project = found.root
    root = root_of(project) or project
    check_flows_free(project, service, force=force)
    left, texts = [], {}
    sources = read_sources(project)
    written = []
    if sources is None:
        sources = _guessed(found)
        missing = _missing(found, sources)
        if missing:
            left.append(
                f"{NAME} was not written, as no file with {missing} is in {project}. Write it: docs/how-to/check-a-pull-request.md."
            )
            sources = Sources()
        elif sources.data:
            loop.write(project, {NAME: _as_toml(sources)})
            written.append(project / NAME)
    values = _values(found, root, sources)
    for template, name in _FILES[service].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        texts[name] = (
            _environment().get_template(template).render(own="/" + name, **values).rstrip("\n") + "\n"
        )
    if service == "gitlab" and not (root / _GITLAB_ENTRY).exists():
        texts[_GITLAB_ENTRY] = f"include:\n  - local: /{_FILES['gitlab']['gitlab.yml']}\n"
    elif service == "gitlab":
        left.append(f"Add to {_GITLAB_ENTRY}: include: [{{local: /{_FILES['gitlab']['gitlab.yml']}}}]")
    loop.write(root, texts)
    return Flows((*written, *(root / name for name in texts)), tuple(left))


def _values(found: Loop, root: Path, sources: Sources) -> dict[str, object]:
    folder = "" if found.root == root else found.root.relative_to(root).as_posix()
    models = [{"name": one.name, "pipeline": one.pipeline.name} for one in found.declared.of(DeclaredModel)]
    return {
        "actions": _ACTIONS,
        "branch": json.dumps(main_branch_of(root)),
        "file": shlex.quote(found.file.name),
        "folder": folder,
        "prefix": f"{folder}/" if folder else "",
        "install": _install(found.root),
        "python": _PYTHON,
        "models": models,
        "pipelines": list(dict.fromkeys(one["pipeline"] for one in models)) or list(found.pipelines),
        "take_in": list(_take_in(sources)),
    }


def _install(project: Path) -> str:
    """How the project's packages are installed: from its lock, else this everloop and what it needs."""
    for name in _LOCKS:
        if (project / name).is_file():
            return f"python -m pip install -r {name}"
    return f"python -m pip install everloop=={metadata.version('everloop')}"


def _take_in(sources: Sources) -> Iterator[str]:
    """The commands that bring the project's files into a workspace."""
    for one in sources.data:
        yield f"everloop data ingest {one.name} {shlex.quote(one.file)}"
    for named in sources.labels:
        if not named.skip_unknown:  # labels of other classes would be refused
            yield (
                f"everloop labels import {named.name} {shlex.quote(named.file)} --key {shlex.quote(named.key)} "
                f"--value {shlex.quote(named.value)} --annotator {shlex.quote(Path(named.file).name)}"
            )


def _guessed(found: Loop) -> Sources:
    files: list[DataFile] = []
    labelled: list[LabelFile] = []
    for dataset in found.declared.of(DeclaredDataset):
        file = _file_of(found.root, dataset)
        if file is None:
            continue
        files.append(DataFile(dataset.name, file.name))
        sets = (one for one in found.declared.of(DeclaredLabels) if one.of is dataset)
        labelled += [one for labels in sets if (one := _labels_in(file, labels, dataset.key)) is not None]
    return Sources(tuple(files), tuple(labelled))


def _file_of(project: Path, dataset: DeclaredDataset) -> Path | None:
    """The file in a project's folder that is named as a dataset and has its key."""
    named = (dataset.name, f"{dataset.name}_with_key")
    for file in sorted(
        project.iterdir(), reverse=True
    ):  # one with a key that was made comes before the file itself
        if file.suffix in _ENDINGS and loop.plain_name(file.stem) in named and dataset.key in _columns(file):
            return file
    return None


def _labels_in(file: Path, labels: DeclaredLabels, key: str) -> LabelFile | None:
    column = next((one for one in _columns(file) if loop.plain_name(one) == labels.name), None)
    if column is None:
        return None
    rows = data.load(file, key=None, file_format=None).rows
    named = set(loop.labelled_rows(rows, key=key, value=column)[column].to_pylist())
    is_known = not isinstance(labels.classes, str) and named <= set(labels.classes)
    return LabelFile(labels.name, file.name, key, column, skip_unknown=not is_known)


def _columns(file: Path) -> list[str]:
    try:
        return data.load(file, key=None, file_format=None).rows.column_names
    except EverloopError:  # not a table that everloop reads, so not the one
        return []


def _missing(found: Loop, sources: Sources) -> str:
    """The first declared dataset or label set for which there is no file."""
    for one in found.declared.of(DeclaredDataset):
        if one.name not in {file.name for file in sources.data}:
            return f"the rows of {one.name}"
    for labels in found.declared.of(DeclaredLabels):
        if labels.name not in {file.name for file in sources.labels}:
            return f"the labels of {labels.name}"
    return ""


def _as_toml(sources: Sources) -> str:
    lines = ["# Where 'everloop ci' finds the rows and labels that it trains on; paths from this file on."]
    for one in sources.data:
        lines += ["", f"[data.{one.name}]", f"file = {json.dumps(one.file)}"]
    for named in sources.labels:
        lines += ["", f"[labels.{named.name}]"]
        lines += [f"{name} = {json.dumps(getattr(named, name))}" for name in ("file", "key", "value")]
        if named.skip_unknown:
            lines.append("skip_unknown = true  # labels that are no class of the loop file are left out")
    return "\n".join(lines) + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("everloop.ci", "templates"),
        autoescape=False,  # noqa: S701  (YAML, of names that a loop file declares)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        variable_start_string="[[",
        variable_end_string="]]",
        block_start_string="[%",
        block_end_string="%]",
        comment_start_string="[#",
        comment_end_string="#]",
    )
