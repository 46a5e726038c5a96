"""What software code runs on."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import re
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata

from blake3 import blake3

from everloop.errors import NotFound
from everloop.storage import to_json
from everloop.tracking import store
from everloop.tracking.records import Environment
from everloop.workspace import Workspace


def capture_environment(ws: Workspace) -> Environment:
    """Record what this process runs on: Python, platform and the installed packages; one row per content.

    Packages are read once a process: one installed later, while it runs, is not seen.
    """
    here = installed()
    keep_environment(ws, here)
    return here


def keep_environment(ws: Workspace, found: Environment) -> None:
    """Record an environment; one row per content."""
    with ws.read() as connection:
        is_known = store.has_environment(connection, found.digest)
    if not is_known:
        ws.write(lambda tx: store.put_environment(tx, found))


def environment(ws: Workspace, digest: str) -> Environment:
    """A recorded environment. Raises NotFound."""
    with ws.read() as connection:
        found = store.environment_by_digest(connection, digest)
    if found is None:
        raise NotFound(
            f"no environment {digest!r} was recorded here. A run names its own: 'everloop runs show'."
        )
    return found


@functools.cache
def installed() -> Environment:
    """What this process runs on, without recording it.

    The digest covers all of it but the kernel's version, which changes with each reboot after an update and never
    changed a model.
    """
    packages: dict[str, str] = {}
    editable: set[str] = set()
    for distribution in metadata.distributions():
        told, version = _name_and_version(distribution)
        name = normal_name(told)
        if name and name not in packages:  # the first on the path is the one that is imported
            packages[name] = version
            if _is_editable(distribution):
                editable.add(name)
    return described(packages, editable)


def described(packages: Mapping[str, str], editable: Iterable[str] = ()) -> Environment:
    """This Python with these packages, whether or not they are installed."""
    here = Environment(
        digest="",
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        platform=sysconfig.get_platform(),
        packages=tuple(sorted(packages.items())),
        editable=tuple(sorted(editable)),
    )
    content = {name: value for name, value in vars(here).items() if name != "digest"}
    return dataclasses.replace(here, digest=blake3(to_json(content).encode()).hexdigest())


def normal_name(name: str) -> str:
    """A package's name as PEP 503 compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _name_and_version(distribution: metadata.Distribution) -> tuple[str, str]:
    """From the head of a package's own file: to parse all of it, its description too, takes ten times as long."""
    head, _, _ = (distribution.read_text("METADATA") or "").partition("\n\n")
    name, version = (re.search(rf"^{field}: *(.+?) *$", head, re.MULTILINE) for field in ("Name", "Version"))
    if name is None or version is None:  # of a form from before there was METADATA
        return distribution.metadata["Name"] or "", distribution.version
    return name[1], version[1]


def _is_editable(distribution: metadata.Distribution) -> bool:
    origin = distribution.read_text("direct_url.json")  # PEP 610
    return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))
