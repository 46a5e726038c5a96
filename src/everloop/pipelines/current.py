"""The run that is logged to without being named: that of a step, begun by its first word, or one that a script began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from everloop.errors import Invalid

if TYPE_CHECKING:
    from everloop.tracking import RunStatus
    from everloop.workspace import Workspace


@dataclass
class Place:
    """Where what is logged goes: a workspace and a run below another one, each made when it is needed."""

    open_workspace: Callable[[], Workspace]
    begin: Callable[[Workspace], str]
    begun: str | None = None

    @cached_property
    def ws(self) -> Workspace:
        return self.open_workspace()

    @property
    def run_id(self) -> str:
        self.begun = self.begun or self.begin(self.ws)
        return self.begun


_place: ContextVar[Place | None] = ContextVar("everloop_run", default=None)


def around() -> Place | None:
    """Where what is logged here would go, None when no run goes on here."""
    return _place.get()


def here() -> Place:
    """Where what is logged here goes. Raises Invalid when no run goes on here."""
    place = _place.get()
    if place is None:
        raise Invalid(
            "no run goes on here to log to. Log inside a step that a pipeline runs, or inside: with el.start_run(): ..."
        )
    return place


@contextmanager
def logging_of(run_id: str, name: str, workspace: Callable[[], Workspace]) -> Iterator[None]:
    """What is logged meanwhile makes a run of this name below another; a step that logs nothing needs no database."""

    def begin(ws: Workspace) -> str:
        from everloop import tracking  # noqa: PLC0415  (only for steps that log)

        experiment = tracking.run(ws, run_id).experiment
        return tracking.start_run(ws, experiment=experiment, name=name, parent=run_id).id

    with logging_to(Place(workspace, begin)):
        yield


@contextmanager
def logging_to(place: Place) -> Iterator[None]:
    """What is logged meanwhile goes there; the run ends with the block, in its way."""
    token = _place.set(place)
    try:
        yield
    except Exception as error:
        _finish(place, "failed", f"{type(error).__name__}: {error}")
        raise
    except BaseException:
        _finish(place, "killed")
        raise
    else:
        _finish(place, "finished")
    finally:
        _place.reset(token)


def _finish(place: Place, status: RunStatus, error: str | None = None) -> None:
    if place.begun is not None:
        from everloop import tracking  # noqa: PLC0415  (as above)

        tracking.finish_run(place.ws, place.begun, status, error=error)
