"""The files below a folder that a user gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from everloop.errors import Invalid

_NOT_DATA = {"thumbs.db", "desktop.ini"}  # what file managers leave behind; names with a leading dot too


def files_below(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each file and its place below `folder`, in the order of the paths; hidden files are left out.

    Raises Invalid for a symbolic link, and for a name that is not UTF-8.
    """
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        _check_place(path, place)
        is_hidden = path.name.lower() in _NOT_DATA or any(part[0] == "." for part in place.parts)
        if path.is_file() and not is_hidden:
            yield path, place


def _check_place(path: Path, place: Path) -> None:
    if path.is_symlink():
        raise Invalid(
            f"{place} is a symbolic link; only what is in the folder itself is read. Copy it there or remove the link."
        )
    try:
        place.as_posix().encode()
    except UnicodeEncodeError:
        raise Invalid(f"{place.as_posix()!r} is not a name in UTF-8, as keys are. Rename it.") from None
