"""What a version's files are, found out when it is registered: whole, in which form, with which signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from everloop import serving
from everloop.errors import EverloopError, GateFailed, Invalid
from everloop.registry.records import ModelVersion
from everloop.serving import Layout, Manifest, Signature
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Examined:
    """The form of a model, the audited types that serving must be told to trust, and the signature, given or found."""

    flavor: str
    trusted_types: tuple[str, ...]
    signature: Signature | None


def examine(ws: Workspace, files: Mapping[str, str], signature: Signature | None) -> Examined:
    """Look at a model's files; those of an mlflow client say themselves what the model takes.

    A model that could run code of its own is `pyfunc` if MLflow can load it: somebody must trust it before it is served.

    Raises Invalid when a path leads out of the folder, a blob is missing or damaged, the MLmodel file cannot be read, or the
    model holds types that could run code and MLflow cannot load it either.
    """
    _check_files(ws, files)
    layout = _layout(ws, files)
    flavor: str = layout.flavor
    trusted: tuple[str, ...] = ()
    if layout.file is not None and layout.file.endswith(".skops"):
        try:
            trusted = tuple(serving.untrusted_types(ws.blobs.get(files[layout.file])))
        except GateFailed as error:
            if not layout.is_pyfunc:
                raise Invalid(str(error)) from error
            flavor = "pyfunc"
    if signature is None:
        try:
            signature = _found_signature(ws, files, layout, flavor)
        except (
            EverloopError
        ):  # it is kept all the same; what stands in the way is told when it is to be released
            signature = None
    return Examined(flavor, trusted, signature)


def why_without_signature(ws: Workspace, version: ModelVersion) -> str:
    """What stood in the way of finding a version's signature."""
    try:
        _found_signature(ws, version.files, _layout(ws, version.files), version.flavor)
    except EverloopError as error:
        return str(error)
    return "it was registered without one, and where it was its library was not installed."


def try_out(ws: Workspace, manifest: Manifest) -> None:
    """Ask a model that was logged elsewhere, in the process of whoever releases it, or in its own; nothing for ours.

    Raises GateFailed, Invalid, MissingExtra as `serving.try_out`.
    """
    layout = _layout(ws, manifest.files)
    if layout.inputs and layout.ours is None:
        serving.try_out(manifest, ws.blobs.folder, layout, model_python=ws.settings.model_python)


def _layout(ws: Workspace, files: Mapping[str, str]) -> Layout:
    return serving.layout_of(files, lambda path: ws.blobs.get(files[path]))


def _found_signature(ws: Workspace, files: Mapping[str, str], layout: Layout, flavor: str) -> Signature:
    if flavor == "pyfunc" or (layout.ours is None and layout.problem is not None):
        return layout.signature(None, is_class=bool(layout.has_text_output))
    loaded = serving.load_files(layout, {path: ws.blobs.get(digest) for path, digest in files.items()})
    return layout.signature(loaded.classes, is_class=loaded.is_class)


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
