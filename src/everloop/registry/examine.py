"""What a version's files are: whole and in which form when it is registered, and what they answer before it is released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from everloop import serving
from everloop.errors import GateFailed, Invalid
from everloop.registry.records import ModelVersion, Trust
from everloop.serving import Findings, Layout
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Examined:
    """The form of a model, and the audited types that serving must be told to trust."""

    flavor: str
    trusted_types: tuple[str, ...] = ()


def examine(ws: Workspace, files: Mapping[str, str]) -> Examined:
    """Look at a model's files. Those that MLflow's clients logged are taken as they are: nothing of them is loaded here.

    Raises Invalid when a path leads out of the folder, a blob is missing or damaged, the MLmodel file cannot be read, or a
    model of ours holds types that could run code.
    """
    _check_files(ws, files)
    layout = _layout(ws, files)
    if layout.flavor != "sklearn" or layout.file is None or layout.is_tried:
        return Examined(layout.flavor)
    try:
        return Examined(layout.flavor, tuple(serving.untrusted_types(ws.blobs.get(files[layout.file]))))
    except GateFailed as error:
        raise Invalid(str(error)) from error


def layout(ws: Workspace, version: ModelVersion) -> Layout:
    """What a version's own files say of it: its form and what it takes. Nothing is loaded.

    Raises Invalid when the MLmodel file cannot be read, and NotFound when it is gone.
    """
    return _layout(ws, version.files)


def is_tried(ws: Workspace, version: ModelVersion) -> bool:
    """Whether a version is asked before it is released: an mlflow client logged it, or it is a function; it may bring code of its own."""
    return _layout(ws, version.files).is_tried


def tried(ws: Workspace, version: ModelVersion, trust: Trust | None) -> tuple[str, Findings]:
    """The form in which a version of an mlflow client is served, and its signature: found by having it answer its example.

    One that brings code of its own is asked in a process without our credentials, and only once somebody trusts it.

    Raises
    ------
    GateFailed
        It brings code of its own that nobody trusts.
    Invalid
        It cannot be loaded here, does not answer its own example, or its inputs cannot be served.
    """
    files = {path: ws.blobs.get(digest) for path, digest in version.files.items()}
    why = "a function" if version.flavor == "function" else "a pickle or a pyfunc"
    if version.flavor not in serving.WITH_CODE:
        try:
            return version.flavor, serving.try_out(files, hidden=ws.home)
        except GateFailed as error:
            if trust is None:
                raise GateFailed(f"{version.ref}: {error} {_REMEDY.format(ref=version.ref)}") from error
            why = str(error)
    if trust is None:
        raise GateFailed(
            f"{version.ref} brings code of its own ({why}), which runs while it is loaded. {_REMEDY.format(ref=version.ref)}"
        )
    flavor = "function" if version.flavor == "function" else "pyfunc"
    return flavor, serving.try_out_trusted(files, python=ws.settings.model_python, hidden=ws.home)


_REMEDY = (
    "It is served only when somebody trusts it, then in a process without credentials. Log the model with skops and audited types "
    "instead, or read it and say: everloop models trust {ref} --reason WHY"
)


def _layout(ws: Workspace, files: Mapping[str, str]) -> Layout:
    return serving.layout_of(files, lambda path: ws.blobs.get(files[path]))


def _check_files(ws: Workspace, files: Mapping[str, str]) -> None:
    if not files:
        raise Invalid("the model has no files; a version is made of the files of its folder. Name them.")
    for path, digest in files.items():
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or "\\" in path or ".." in parts or "\0" in path:
            raise Invalid(
                f"{path!r} is not a path below the model's folder; a file's path is relative, without '..'. Rename it."
            )
        if not ws.blobs.has(digest) or not ws.blobs.verify(digest):
            raise Invalid(
                f"the blob {digest[:12]} of {path} is missing or damaged; a version is made of blobs that are here. "
                "Store the file again with ws.blobs.put_file."
            )
