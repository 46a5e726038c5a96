"""Pictures that were asked about, where a dataset keeps them: the log has their digests alone."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable

import blake3

from everloop import data, serving
from everloop.errors import EverloopError
from everloop.feedback import Exchange
from everloop.serving import Manifest
from everloop.web.previews import kind_of_picture
from everloop.workspace import Workspace

_MOST_BYTES = 200_000  # of one picture
_MOST_IN_ALL = 4_000_000  # of a page


def thumbnails(ws: Workspace, found: Iterable[Exchange]) -> dict[str, str]:
    """The pictures of some predictions, as addresses that hold them, by the digest that the log has.

    A prediction's row is found by its key in the newest version of the dataset that its model was made from; a picture
    that was changed since, is large, or was never there is left out.
    """
    by_release: dict[str, set[str]] = defaultdict(set)
    for one in found:
        if one.prediction.key is not None and one.prediction.release:
            by_release[one.prediction.release].add(one.prediction.key)
    pictures: dict[str, str] = {}
    room = _MOST_IN_ALL
    for release, keys in by_release.items():
        for content in _contents(ws, release, keys):
            kind = kind_of_picture("", content)
            if kind is not None and len(content) <= min(_MOST_BYTES, room):
                room -= len(content)
                told = base64.b64encode(content).decode()
                pictures[f"blake3:{blake3.blake3(content).hexdigest()}"] = f"data:{kind};base64,{told}"
    return pictures


def _contents(ws: Workspace, release: str, keys: set[str]) -> Iterable[bytes]:
    try:
        manifest = serving.read_manifest(ws.home / "serving", release)
        columns = _picture_columns(manifest)
        if not columns or manifest.data_version is None:
            return []
        dataset = manifest.data_version.partition("@")[0]
        rows = data.rows_by_key(ws, data.version(ws, dataset).ref, sorted(keys), columns=columns)
    except EverloopError:  # the release, the dataset or the column is not there any more
        return []
    return [content for name in columns for content in rows[name].to_pylist() if content is not None]


def _picture_columns(manifest: Manifest) -> list[str]:
    return [one.name for one in manifest.signature.inputs if one.type == "image"]
