"""What a step touches without declaring it: files, the network, other programs. Noticed, never hindered.

Python tells its audit hooks of each file that it opens, each connection and each program that it starts. One hook per
process listens while a step's function runs. Not told of: what belongs to Python, its packages and the system (fonts,
time zones, certificates), the workspace, and temporary files that the step made itself. Not seen: files that native code
opens without Python, as pyarrow, DuckDB and polars do, and what programs that the step starts do.
"""

from __future__ import annotations

import os
import posixpath
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain, islice
from pathlib import Path
from types import FrameType
from typing import Any

from everloop.pipelines.project import installed_folders
from everloop.pipelines.records import Touch, Touched

_LISTED = 20  # things that are kept of one attempt
_TOGETHER = 5  # files of one folder from which on the folder is told in their place
_REMEMBERED = 20_000  # names that are told apart; further ones are not looked at

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NEW = os.O_CREAT | os.O_EXCL
_NAMELESS = getattr(os, "O_TMPFILE", 0)  # a file without a name, of which the folder is told
_SYSTEM = (
    "/proc", "/sys", "/dev", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/System", "/Library", "/run/systemd", "/run/nscd",
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share", "/usr/bin", "/usr/sbin", "/usr/include",
    "/usr/local/lib", "/usr/local/share", "/usr/local/bin", "/usr/local/include", "/var/cache/fontconfig", "/opt/homebrew",
)  # fmt: skip
_OF_USER = (
    ".config", ".local/lib", ".local/share/fonts", ".fonts", ".matplotlib", ".cache/matplotlib", ".cache/fontconfig",
    "Library/Fonts", "Library/Caches",
)  # fmt: skip
_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dylib", ".dll", ".pth")
_OF_CODE = ("/__pycache__/", "/site-packages/", "/dist-packages/")
# What libraries ask for the number of cores and the place of shared libraries.
_PROBES = frozenset(
    {"lscpu", "ldconfig", "uname", "gcc", "cc", "ld", "objdump", "sysctl", "getconf", "fc-list", "sw_vers"}
)

_watch: _Watch | None = None  # of the step that runs in this process


@contextmanager
def watched(ours: Sequence[Path]) -> Iterator[Callable[[], tuple[Touched, ...]]]:
    """Listen while a step's function runs; what is given says, afterwards too, what it touched.

    Only the calling thread and those that it starts are listened to. What is below `ours` is not told.
    """
    global _watch  # noqa: PLW0603  (a hook is the process's, and cannot be taken off again)
    prepare(ours)
    watch = _watch = _Watch(ours)
    try:
        yield watch.found
    finally:
        _watch = None


def prepare(ours: Sequence[Path]) -> None:
    """What takes a millisecond, once: a process that forks others does it for them."""
    _add_hook()
    _quiet_for(tuple(ours))
    _with_links((Path(tempfile.gettempdir()),))


@cache
def _add_hook() -> None:
    sys.addaudithook(_hear)


def _hear(event: str, details: tuple[Any, ...]) -> None:
    watch = _watch  # another thread may end it meanwhile
    if watch is None or event not in _HEARD:
        return
    try:
        watch.hear(event, details)
    except (TypeError, ValueError, OSError):  # the call that is told of says itself what is wrong with it
        return


class _Watch:
    """What one step touches."""

    def __init__(self, ours: Sequence[Path]) -> None:
        self._others = frozenset(one.ident for one in threading.enumerate()) - {threading.get_ident()}
        self._quiet = _quiet_for(tuple(ours)) + _of_matplotlib()
        self._temporary = _with_links((Path(tempfile.gettempdir()),))
        self._here = posixpath.join(_here(), "")
        self._seen: set[tuple[Touch, str]] = set()
        self._named: dict[tuple[Touch, str], None] = {}  # in the order in which they came
        self._made: set[str] = set()  # temporary files and folders of the step's own
        self._looked_up: set[Any] = set()  # ports of hosts that were asked for by name

    def hear(self, event: str, details: tuple[Any, ...]) -> None:
        if threading.get_ident() not in self._others and len(self._seen) < _REMEMBERED:
            _HEARD[event](self, *details)

    def opened(self, path: Any, mode: str | None = None, flags: int = 0, *_rest: Any) -> None:
        if type(path) is int:
            return
        name: str = path if type(path) is str else os.fsdecode(path)
        writes = bool(flags & _WRITES) or (mode is not None and not {"w", "a", "x", "+"}.isdisjoint(mode))
        seen: tuple[Touch, str] = "wrote" if writes else "read", name
        if seen in self._seen:
            return
        self._seen.add(seen)
        if not posixpath.isabs(name):
            name = posixpath.abspath(name)
        if name.startswith(self._quiet) or name.endswith(_CODE) or any(one in name for one in _OF_CODE):
            return
        if name.startswith(self._temporary) and (flags & _NEW == _NEW or (self._made and self._is_own(name))):
            self._made.add(name)
            return
        if _NAMELESS and flags & _NAMELESS == _NAMELESS:
            return
        self._named[seen[0], name] = None

    def made_folder(self, path: Any, *_rest: Any) -> None:
        name = posixpath.abspath(os.fsdecode(path))
        if name.startswith(self._temporary):
            self._seen.add(("wrote", name))
            self._made.add(name)

    def renamed(self, _old: Any, new: Any, *_rest: Any) -> None:
        self.opened(new, "w")

    def connected_database(self, database: Any, *_rest: Any) -> None:
        name = os.fsdecode(database)
        if name.startswith("file:"):
            name = name.removeprefix("file:").partition("?")[0]
        if name not in ("", ":memory:"):
            self.opened(name)

    def looked_up(self, host: Any, port: Any = None, *_rest: Any) -> None:
        if host is None or _is_importing():
            return
        self._looked_up.add(port)
        named = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
        self._note("connected", named if port is None else f"{named}:{port}")

    def connected(self, connection: Any, address: Any, *_rest: Any) -> None:
        if connection.family.name in ("AF_INET", "AF_INET6"):
            if address[1] not in self._looked_up and not _is_importing():
                self._note("connected", f"{address[0]}:{address[1]}")
        elif isinstance(address, str) and not address.startswith((*self._temporary, *_quiet_places(), "\0")):
            self._note("connected", address)

    def started(self, program: Any, arguments: Any = (), *_rest: Any) -> None:
        words = [
            os.fsdecode(one) for one in ([arguments] if isinstance(arguments, str | bytes) else arguments)
        ]
        first = words[0] if words else os.fsdecode(program)
        name = posixpath.basename(first)
        if words[1:2] == ["-c"] and name in ("sh", "bash", "dash", "zsh"):  # the arguments may be secret
            self.started_in_shell(words[2] if len(words) > 2 else "")
        elif name not in _PROBES and not _is_importing():
            self._note("ran", name)

    def started_in_shell(self, command: Any, *_rest: Any) -> None:
        words = [one for one in os.fsdecode(command).split() if "=" not in one]
        name = posixpath.basename(words[0]) if words else "sh"
        if name not in _PROBES and not _is_importing():
            self._note("ran", name)

    def found(self) -> tuple[Touched, ...]:
        """What is there of it, files of one folder together."""
        if not self._named:
            return ()
        named = list(self._named)  # a thread that the step left may still add to it
        written = {name for what, name in named if what == "wrote"}
        folders: dict[tuple[Touch, str], list[str]] = {}  # in the order in which they came
        for what, name in named:
            if what != "read" or name not in written:
                place = name.rpartition("/")[0] if what in ("read", "wrote") else name
                folders.setdefault((what, place), []).append(name)
        return tuple(islice(chain.from_iterable(map(self._in_folder, folders, folders.values())), _LISTED))

    def _in_folder(self, place: tuple[Touch, str], names: list[str]) -> Iterable[Touched]:
        what, folder = place
        if what not in ("read", "wrote"):
            return [Touched(what, self._shown(names[0]))]
        # a name may have been tried in vain, or be removed again
        some = list(islice(filter(_is_file, names), _TOGETHER + 1))
        if len(some) > _TOGETHER:
            return [Touched(what, self._shown(f"{folder}/*"), len(names))]
        return [Touched(what, self._shown(one), 1, _state(one) if what == "read" else None) for one in some]

    def _note(self, what: Touch, name: str) -> None:
        self._seen.add((what, name))
        self._named[what, name] = None

    def _is_own(self, name: str) -> bool:
        """Whether the step made it, or a temporary folder that it is in."""
        while len(name) > 1:
            if name in self._made:
                return True
            name = posixpath.dirname(name)
        return False

    def _shown(self, name: str) -> str:
        """As the step would write it; what is no text is spelled out, so that it can be kept."""
        return name.removeprefix(self._here).encode(errors="backslashreplace").decode().replace("\0", "")


_HEARD: Mapping[str, Callable[..., None]] = {
    "open": _Watch.opened,
    "os.mkdir": _Watch.made_folder,
    "os.rename": _Watch.renamed,
    "sqlite3.connect": _Watch.connected_database,
    "socket.getaddrinfo": _Watch.looked_up,
    "socket.gethostbyname": _Watch.looked_up,
    "socket.connect": _Watch.connected,
    "socket.sendto": _Watch.connected,
    "subprocess.Popen": _Watch.started,
    "os.posix_spawn": _Watch.started,
    "os.exec": _Watch.started,
    "os.system": _Watch.started_in_shell,
}


def told(step: str, touched: Sequence[Touched]) -> str:
    """What of it matters to who takes a step's result from the cache, in one sentence; empty when nothing was touched."""
    clauses = []
    for what, verb in (("read", "read"), ("connected", "connected to")):
        if names := [one for one in touched if one.what == what]:
            clauses.append(f"{verb} {_listed(names)}")
    said = ""
    if clauses:
        said = (
            f"step {step} {' and '.join(clauses)} without declaring it: its cache key does not see changes of it; use "
            "cache=False or a dataset"
        )
    if written := [one for one in touched if one.what == "wrote"]:
        wrote = (
            f"wrote {_listed(written)}: from the cache it will not be written again; return its Path instead"
        )
        said = f"{said}. It {wrote}" if said else f"step {step} {wrote}"
    if ran := [one for one in touched if one.what == "ran"]:
        what_ran = f"ran {_listed(ran)}, and what that uses is not seen"
        said = f"{said}. It {what_ran}" if said else f"step {step} {what_ran}"
    return said


def listed(touched: Sequence[Touched]) -> str:
    """All of it in a few words: `read data.csv; connected to example.org:443`."""
    verbs = {"read": "read", "wrote": "wrote", "connected": "connected to", "ran": "ran"}
    by_verb = {verb: [one for one in touched if one.what == what] for what, verb in verbs.items()}
    return "; ".join(f"{verb} {_listed(names)}" for verb, names in by_verb.items() if names)


def changed_since(touched: Sequence[Touched], root: Path) -> list[str]:
    """Files that a step read undeclared and that are others now, by size and date, seen from the project's folder."""
    now = {one.name: _state(posixpath.join(root, one.name)) for one in touched if one.state is not None}
    return [one.name for one in touched if now.get(one.name) not in (None, one.state)]


def _listed(touched: Sequence[Touched]) -> str:
    names = [one.name if one.count == 1 else f"{one.name} ({one.count:,} files)" for one in touched]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _here() -> str:
    try:
        return posixpath.abspath("")
    except OSError:  # the folder is gone
        return "/"


def _is_file(name: str) -> bool:
    try:
        return posixpath.isfile(name)
    except ValueError:  # a NUL in it
        return False


def _state(name: str) -> str | None:
    """A file's size and date; None: it is not there."""
    try:
        found = Path(name).stat()
    except (OSError, ValueError):
        return None
    return f"{found.st_size} {found.st_mtime_ns}"


def _is_importing() -> bool:
    """Whether what is heard comes of an import: libraries look around when they are loaded."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@cache
def _quiet_for(ours: tuple[Path, ...]) -> tuple[str, ...]:
    return (*_quiet_places(), *_with_links(ours))


@cache
def _quiet_places() -> tuple[str, ...]:
    """Where Python, its packages, everloop and the system have their files, each with a slash at its end."""
    user = Path.home()
    roots = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)} - {
        Path("/"),
        Path("/usr"),
        Path("/usr/local"),
    }
    ours = Path(__file__).parents[1]
    places = [*map(Path, _SYSTEM), *(user / one for one in _OF_USER), *roots, *installed_folders(), ours]
    return _with_links(tuple(places))


def _of_matplotlib() -> tuple[str, ...]:
    """Its cache and its settings, which may be anywhere."""
    library: Any = sys.modules.get("matplotlib")
    if library is None:
        return ()
    ask = [getattr(library, name, None) for name in ("get_cachedir", "get_configdir")]
    return _with_links(tuple(Path(one()) for one in ask if one is not None))


@cache
def _with_links(places: tuple[Path, ...]) -> tuple[str, ...]:
    """Folders as they are called and as they really are."""
    both = {str(form) for one in places for form in (one.absolute(), one.resolve())}
    return tuple(f"{one.rstrip('/')}/" for one in both)
