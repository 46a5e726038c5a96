"""Doing one step: its inputs are loaded, its function is called, its result is kept. The same in every executor."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from everloop import clock
from everloop.errors import EverloopError, Invalid, StorageFailed
from everloop.pipelines.current import logging_of
from everloop.pipelines.graph import (
    Binding,
    Constant,
    Declared,
    Each,
    Graph,
    Group,
    Mapped,
    Output,
    Reference,
)
from everloop.pipelines.records import Pinned, Stored, Touched
from everloop.pipelines.reports import reporting
from everloop.pipelines.results import Results
from everloop.pipelines.secrets import Hidden, value_of
from everloop.pipelines.seeds import seeded
from everloop.pipelines.steps import Step
from everloop.pipelines.touched import watched
from everloop.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from everloop.workspace import Workspace


@dataclass(frozen=True)
class Task:
    """One attempt at one step, as data. `inputs` are the results by node that it takes, `pins` the declared inputs.

    A node that is not among `inputs` made nothing: it was skipped or failed. `call` is what the plan says will be called.
    `seed` is what its random numbers begin with; None: whatever comes. `index` is that of a map's call, and `item` what
    it takes of a list that a step made. It may use `memory_gb`; None: what there is.
    """

    run: str
    node: str
    attempt: int
    params: Mapping[str, Any]
    inputs: Mapping[str, Stored]
    pins: Mapping[str, Pinned]
    timeout_s: float | None
    call: Mapping[str, Any]
    seed: int | None = None
    index: int | None = None
    item: Stored | None = None
    memory_gb: float | None = None

    @property
    def name(self) -> str:
        """As the journal calls it."""
        return self.node if self.index is None else f"{self.node}[{self.index}]"


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: a result, or an error's text.

    `is_final` says that another try would end the same, `is_lost` that the machine it ran on was lost, which is no failure
    of the step. `log` is the file that holds what the step printed. `touched` is
    what it used without declaring it.
    """

    stored: Stored | None = None
    seconds: float = 0.0
    error: str | None = None
    is_final: bool = False
    is_lost: bool = False
    log: str | None = None
    touched: tuple[Touched, ...] = ()


def perform(
    graph: Graph,
    task: Task,
    *,
    results: Results,
    workspace: Callable[[], Workspace],
    home: Path | None = None,
    own_process: bool = False,
) -> Outcome:
    """Run a step's function on its inputs and keep what it returns.

    Whatever the function raises becomes the outcome's error, except what ends the process: KeyboardInterrupt.

    Parameters
    ----------
    workspace
        Gives the workspace, for declared inputs alone: a step that takes none needs no database.
    home
        The workspace's folder, whose settings say where secrets are; what a step reads and writes in there is not told
        as touched.
    own_process
        Whether the process is the step's own, so that all that is printed in it is the step's.
    """
    begun = clock.elapsed_s()
    hidden = Hidden()
    inputs = _Inputs(graph, task, Results(results.blobs, results.scratch, hidden), workspace, home)
    outcome = _performed(graph, task, inputs, home, own_process=own_process)
    if hidden:
        touched = tuple(replace(one, name=hidden.masked(one.name)) for one in outcome.touched)
        error = None if outcome.error is None else hidden.masked(outcome.error)
        outcome = replace(outcome, error=error, touched=touched)
    return replace(outcome, seconds=clock.elapsed_s() - begun)


def _performed(graph: Graph, task: Task, inputs: _Inputs, home: Path | None, *, own_process: bool) -> Outcome:
    try:
        node = graph.node(task.node)
        bound = node.step.signature.bind_partial()
        bound.arguments.update({key: inputs.value(binding) for key, binding in node.bindings.items()})
    except EverloopError as error:
        return Outcome(error=str(error), is_final=True)
    except Exception as error:  # noqa: BLE001  (a declaration's own code, or the disk that inputs are laid out on)
        return Outcome(error=f"what step {task.name} takes could not be loaded: {_cause(error)}")
    process = os.getpid()
    touched: Callable[[], tuple[Touched, ...]] = tuple
    try:
        scratch = inputs.results.scratch
        ours = [scratch] if home is None else [scratch, home]
        printing = inputs.results.hidden.printing(own_process=own_process)
        logging = logging_of(task.run, task.name, inputs.workspace)
        with printing, watched(ours) as touched, seeded(task.seed), reporting(scratch), logging:
            value = node.step.function(*bound.args, **bound.kwargs)
        _end_copy(process)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a step may raise anything; it is the run's to tell)
        _end_copy(process)
        errors = node.step.retry_on
        is_final = isinstance(error, Invalid) or (errors is not None and not isinstance(error, errors))
        return Outcome(error=_told(error), is_final=is_final, touched=touched())
    try:
        return Outcome(inputs.passed_on(node.step, value) or inputs.results.keep(value), touched=touched())
    except (StorageFailed, OSError) as error:
        text = f"what step {node.step.name} returned was not kept: {_cause(error)}"
        return Outcome(error=text, touched=touched())
    except EverloopError as error:
        text = f"step {node.step.name} returned what cannot be kept: {error}"
        return Outcome(error=text, is_final=True, touched=touched())
    except Exception as error:  # noqa: BLE001  (libraries that write values raise anything over odd ones)
        text = (
            f"step {node.step.name} returned a {type(value).__name__} that cannot be kept: {type(error).__name__}: "
            f"{error}. Return tables, arrays, models, paths, bytes and JSON values that hold nothing odd."
        )
        return Outcome(error=text, is_final=True, touched=touched())


def _end_copy(process: int) -> None:
    """End a copy of this process that a step made by forking and let come back: what it returns is nobody's."""
    if os.getpid() != process:
        os._exit(0)


class _Inputs:
    """Loads what a step is given."""

    def __init__(
        self,
        graph: Graph,
        task: Task,
        results: Results,
        workspace: Callable[[], Workspace],
        home: Path | None,
    ) -> None:
        self.results = results
        self._graph = graph
        self._task = task
        self.workspace = workspace
        self._home = home
        self._loaded: list[tuple[Any, Stored]] = []

    def value(self, binding: Binding) -> Any:
        match binding:
            case Constant(value):
                return value
            case Output(node):
                return self._result(self._task.inputs[node]) if node in self._task.inputs else None
            case Declared(name):
                return self._graph.sources[name].load(self.workspace(), self._task.pins[name].ref)
            case Group(items, is_tuple):
                values = [self.value(item) for item in items]
                return tuple(values) if is_tuple else values
            case Mapped(items):
                return {key: self.value(item) for key, item in items}
            case Reference(secret):
                return self.results.hidden.add(secret, value_of(load_settings(self._home), secret))
            case Each(Group(items)) if self._task.index is not None:
                return self.value(items[self._task.index])
            case Each():
                return None if self._task.item is None else self._result(self._task.item)

    def passed_on(self, step: Step[..., Any], value: Any) -> Stored | None:
        """The stored input that a step of our own, such as `best`, returned untouched: it is not kept a second time.

        A user's step may have changed in place what it returns.
        """
        if not step.function.__module__.startswith("everloop."):
            return None
        return next((stored for loaded, stored in self._loaded if loaded is value), None)

    def _result(self, stored: Stored) -> Any:
        if stored.kind == "list":  # one by one: each may be passed on
            items = self.results.items(stored)
            return [self._result(items[index]) for index in range(len(items))]
        loaded = self.results.bring(stored)
        self._loaded.append((loaded, stored))
        return loaded


def _cause(error: Exception) -> str:
    """An error by its kind and words, one of the disk with what to do about it; our own say all that themselves."""
    if isinstance(error, EverloopError):
        return str(error)
    remedy = (
        " Free space or make the folder writable, then resume the run." if isinstance(error, OSError) else ""
    )
    return f"{type(error).__name__}: {error}.{remedy}"


def _told(error: BaseException) -> str:
    """What a step raised, as text: our own errors explain themselves, others with the way through the user's code."""
    if isinstance(error, EverloopError):
        return str(error)
    if isinstance(error, SystemExit):
        return f"the step called sys.exit({error.code!r}); a step returns its result or raises an error."
    return "".join(traceback.format_exception(type(error), error, _below(error.__traceback__))).rstrip()


def _below(found: TracebackType | None) -> TracebackType | None:
    """The traceback without our own first frame."""
    return found.tb_next if found is not None else None
