"""Which executor runs the steps of a pipeline, by its name."""

from __future__ import annotations

from importlib.metadata import entry_points

from everloop.errors import NotFound
from everloop.pipelines.admission import resources_of
from everloop.pipelines.executors import Executor
from everloop.pipelines.lean import Lean
from everloop.pipelines.processes import Processes
from everloop.settings import Settings

_GROUP = "everloop.executors"


def executor_named(settings: Settings, name: str | None = None, *, slots: int | None = None) -> Executor:
    """The executor of a name, or the one in the settings: one of ours, or what an installed package offers.

    A package offers a function of the settings as an entry point of the group `everloop.executors`. `slots` is how many
    processes `processes` uses at once; None: one for each core.

    Raises
    ------
    NotFound
        Nobody offers one of this name.
    """
    name = name or settings.executor
    resources = resources_of(settings.resources)
    if name == "inline":
        return Lean(resources)
    if name == "processes":
        return Processes(slots, resources=resources)
    offered = {one.name: one for one in entry_points(group=_GROUP)}
    if name not in offered:
        known = ", ".join(sorted({"inline", "processes", *offered}))
        raise NotFound(
            f"there is no executor {name!r}; there are {known}. Name one of them, or install what offers it."
        )
    made: Executor = offered[name].load()(settings)
    return made
