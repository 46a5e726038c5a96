"""Files that clients write by themselves below the root that is set for artifacts: found there, without following links.

Whoever makes a run may say where its files are, and who writes below the root may leave links there. So nothing is read
that is not below the root of the settings, and every step from the root on is taken from the folder before it, refusing
links: neither a name nor a race leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from everloop.clock import from_micros
from everloop.errors import Denied, Invalid, NotFound
from everloop.settings import Settings
from everloop.tracking.places import root_setting
from everloop.tracking.records import Entry

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
)  # a pipe that somebody left there must not stop the server
_ELSEWHERE = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO})
_DEEPEST = 40


def open_file(settings: Settings, uri: str, path: str) -> BinaryIO:
    """A file below the place `uri`, open. Raises NotFound, Invalid for a folder, Denied for a place that is not ours."""
    folder, _, name = path.rpartition("/")
    with _opened(settings, uri, folder) as descriptor:
        file = _step(descriptor, name, _FILE, path)
    try:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise Invalid(f"{path!r} is a folder; files are read one by one. List it to see what it holds.")
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _absent(path)
    except BaseException:
        os.close(file)
        raise
    return os.fdopen(file, "rb")


def entries(settings: Settings, uri: str, folder: str) -> list[Entry]:
    """What is in a folder below the place `uri`, without links; nothing for one that is not there. Raises Denied."""
    try:
        with _opened(settings, uri, folder) as descriptor, os.scandir(descriptor) as found:
            return sorted(_entry(one, folder) for one in found if not one.is_symlink())
    except NotFound:
        return []


def all_files(settings: Settings, uri: str, folder: str, *, depth: int = 0) -> Iterator[Entry]:
    """All files below a folder, folder by folder, in order of their names."""
    if depth > _DEEPEST:
        raise Invalid(f"{folder!r} is more than {_DEEPEST} folders deep. Keep the files nearer to the run.")
    for entry in entries(settings, uri, folder):
        if entry.is_folder:
            yield from all_files(settings, uri, entry.path, depth=depth + 1)
        else:
            yield entry


def remove(settings: Settings, uri: str, path: str) -> None:
    """Remove a file or a folder below the place `uri`; all of it for an empty path. Raises NotFound, Denied."""
    if not path:
        for entry in entries(settings, uri, ""):
            remove(settings, uri, entry.path)
        return
    folder, _, name = path.rpartition("/")
    if name in (".", ".."):
        raise _absent(path)
    with _opened(settings, uri, folder) as descriptor:
        try:
            if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=descriptor)
            else:
                os.unlink(name, dir_fd=descriptor)  # a link itself, not what it leads to
        except FileNotFoundError as error:
            raise _absent(path) from error


@contextmanager
def _opened(settings: Settings, uri: str, folder: str) -> Iterator[int]:
    root, parts = _place(settings, uri)
    try:
        descriptor = os.open(
            root, os.O_RDONLY | os.O_DIRECTORY
        )  # the root itself may be a link: who set it chose it
    except OSError as error:
        raise NotFound(
            f"the root {root} that is set for artifacts cannot be opened: {error.strerror}. Make the folder, or set "
            "artifact_root to where the files are."
        ) from error
    try:
        for part in [*parts, *filter(None, folder.split("/"))]:
            below = _step(descriptor, part, _FOLDER, folder)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _place(settings: Settings, uri: str) -> tuple[Path, tuple[str, ...]]:
    """The root of the settings, and the steps from it to `uri`. Raises Denied for what is not below it."""
    root = root_setting(settings)
    if root is None or not root.startswith("file:"):
        raise Denied(
            f"the files are in {uri[:200]}, which their client reads by itself: this server reads its own store and the "
            "folder that artifact_root is set to. Download them with the client, or set artifact_root to that folder."
        )
    place, top = _path_of(uri), _path_of(root)
    if place is None or top is None or ".." in place.parts or not place.is_relative_to(top):
        raise Denied(
            f"the files are in {uri[:200]}, which is not below {root}, the one folder that this server reads. Set "
            "artifact_root to a folder above both if it may read there."
        )
    return top, place.relative_to(top).parts


def _path_of(uri: str) -> Path | None:
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))


def _step(folder: int, name: str, flags: int, path: str) -> int:
    if name in ("", ".", ".."):
        raise _absent(path)
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno in _ELSEWHERE:
            raise _absent(path) from error
        raise Denied(
            f"{path!r} cannot be opened: {error.strerror}. Let the server's user read the folder of the artifacts."
        ) from error


def _entry(found: os.DirEntry[str], folder: str) -> Entry:
    path = f"{folder}/{found.name}" if folder else found.name
    is_folder = found.is_dir(follow_symlinks=False)
    looked_at = found.stat(follow_symlinks=False)
    return Entry(
        path,
        is_folder,
        None if is_folder else looked_at.st_size,
        from_micros(looked_at.st_mtime_ns // 1_000),
    )


def _absent(path: str) -> NotFound:
    return NotFound(f"there is no file {path!r}. List the folder above it to see what there is.")
