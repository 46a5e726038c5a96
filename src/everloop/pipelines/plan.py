"""A run as data, decided before anything happens: what will be called, with what, under which cache keys.

The plan is all that the runner needs. It is stored with the run, so that any process can take the run over without
importing the user's code; only the process that executes a step does that.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from everloop.errors import Invalid, NotFound
from everloop.pipelines.canonical import digest_of, literal
from everloop.pipelines.cells import source_in_cells
from everloop.pipelines.fingerprint import StepSource, source_of, source_of_function, together
from everloop.pipelines.graph import (
    Binding,
    Constant,
    Declared,
    Each,
    Graph,
    Group,
    Guard,
    Mapped,
    Node,
    Output,
    Reference,
    leaves_of,
)
from everloop.pipelines.project import Project, in_notebook, module_name
from everloop.pipelines.records import Pinned, Stored
from everloop.pipelines.seeds import DEFAULT_SEED
from everloop.pipelines.steps import Step
from everloop.pipelines.tracing import Pipeline

_CHOICE = "everloop.pipelines.builtin:choice"
_SHORT = 1_000  # characters up to which what a map goes over is told in a key's parts, item by item


@dataclass(frozen=True)
class PlannedStep:
    """One node. `bindings` are JSON: {"value": literal}, {"node": name}, {"source": name}, {"list": [...]},
    {"tuple": [...]}, {"dict": [[key, binding], ...]}, {"secret": name} or {"each": binding}, for one call with each item.

    Such a call is a planned step too, made when its turn comes (`call`). An item of what a step made is bound as
    {"value": literal, "of": name} where it is short, else as {"item": content, "of": name}.
    """

    name: str
    step: str
    source: str
    retries: int
    timeout_s: float | None
    cache: bool
    back_off_s: float
    bindings: Mapping[str, Any]
    guards: tuple[Guard, ...] = ()
    optional: bool = False
    always: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    environment: str | None = None
    cache_for_s: float | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlannedStep:
        return cls(**{**value, "guards": tuple((node, holds) for node, holds in value.get("guards", ()))})

    def described(self) -> dict[str, Any]:
        """As `described` of the node that it was planned from."""
        return {"step": self.step, "bindings": dict(self.bindings)}

    @property
    def needs(self) -> tuple[str, ...]:
        """The nodes whose results it takes."""
        return tuple(dict.fromkeys(leaf["node"] for leaf in leaves(self.bindings.values()) if "node" in leaf))

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The nodes that have to be settled before it can be said whether it runs, and run."""
        return tuple(dict.fromkeys([*self.needs, *(node for node, _ in self.guards)]))

    @property
    def over(self) -> str | None:
        """The parameter that takes one item after the other, of a map."""
        return next((key for key, binding in self.bindings.items() if "each" in binding), None)

    @property
    def is_choice(self) -> bool:
        """Whether it joins the branches of a condition."""
        return self.step == _CHOICE

    def call(self, index: int, item: Mapping[str, Any] | None) -> PlannedStep:
        """One call of a map; `item` binds what it takes of a list that a step made."""
        over = self.over or ""
        binding = item or self.bindings[over]["each"]["list"][index]
        return replace(self, name=f"{self.name}[{index}]", bindings={**self.bindings, over: binding})

    @property
    def sources(self) -> tuple[str, ...]:
        """The declared inputs that it takes."""
        return tuple(
            dict.fromkeys(leaf["source"] for leaf in leaves(self.bindings.values()) if "source" in leaf)
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that it takes."""
        return tuple(
            dict.fromkeys(leaf["secret"] for leaf in leaves(self.bindings.values()) if "secret" in leaf)
        )

    @property
    def parameters(self) -> dict[str, str]:
        """Its constant arguments as Python literals."""
        return {key: binding["value"] for key, binding in self.bindings.items() if "value" in binding}

    @property
    def label(self) -> str:
        """Its name with its parameters, for people: `fit-2(c=4)`."""
        shown = ", ".join(f"{key}={value}" for key, value in self.parameters.items() if len(value) <= 40)
        return f"{self.name}({shown})" if shown else self.name


@dataclass(frozen=True)
class Plan:
    """A run of a pipeline before it happens.

    `entry` is `module:function`, to be imported from `folders` below `root`, the project's folder. `preload` are
    installed modules that steps need and that take long to import. `seed` is the run's; None in plans of before there were
    seeds. `repeats` names the run that this one does again, beside the cache: it takes nothing from it and adds nothing.
    `locks` names the blob of each lock file that steps have as their `environment`.
    """

    pipeline: str
    entry: str
    root: str
    folders: tuple[str, ...]
    params: Mapping[str, Any]
    steps: tuple[PlannedStep, ...]
    output: Mapping[str, Any]
    preload: tuple[str, ...] = ()
    seed: int | None = None
    repeats: str | None = None
    locks: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def by_name(self) -> Mapping[str, PlannedStep]:
        return {step.name: step for step in self.steps}

    def to_json(self) -> dict[str, Any]:
        # not dataclasses.asdict, which copies all of it once more: 0.5 ms a step
        listed = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**listed, "steps": [vars(step) for step in self.steps]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        steps = tuple(PlannedStep.from_json(one) for one in value["steps"])
        listed = {name: tuple(value[name]) for name in ("folders", "preload")}
        return cls(**{**value, **listed, "steps": steps})


@dataclass(frozen=True)
class Planned:
    """A plan with what it was made from: the graph, and the parts of each step's source by its digest."""

    plan: Plan
    graph: Graph
    sources: Mapping[str, Mapping[str, str]]


def plan_run(
    pipeline: Pipeline[..., Any],
    params: Mapping[str, Any],
    project: Project | None,
    *,
    seed: int = DEFAULT_SEED,
) -> Planned:
    """Trace a pipeline and fingerprint its steps; nothing is run and nothing is stored.

    Raises
    ------
    Invalid
        A parameter is no JSON value, the body does what only a step can, or a step's source cannot be read.
    Conflict
        The code in memory is not the code in the files.
    """
    _check_params(pipeline, params)
    graph = pipeline.trace(params)
    code = {step: _source_of(step, project) for step in {node.step for node in graph.nodes}}
    sources = {node.name: _source(node, code[node.step], graph, project) for node in graph.nodes}
    plan = Plan(
        pipeline.name,
        f"{module_name(pipeline)}:{pipeline.function.__qualname__}",
        str(project.root if project else Path.cwd()),
        project.folders if project else (),
        dict(params),
        tuple(_planned(node, sources[node.name]) for node in graph.nodes),
        _as_json(graph.output),
        _preload(graph, project, module_name(pipeline)),
        seed,
    )
    return Planned(plan, graph, {source.digest: source.parts for source in sources.values()})


def _source(node: Node, own: StepSource, graph: Graph, project: Project | None) -> StepSource:
    """A step's code, and that by which the rows that it takes are completed when they are loaded: their features."""
    taken = (
        leaf.name for one in node.bindings.values() for leaf in leaves_of(one) if isinstance(leaf, Declared)
    )
    functions = [one for name in taken for one in getattr(graph.sources[name], "functions", ())]
    return together([own, *(source_of_function(one, project) for one in functions)]) if functions else own


def forced(plan: Plan, names: Collection[str]) -> Plan:
    """The plan with these steps run whatever the cache holds; `all` means each.

    `names` are steps as the plan calls them, or functions, which stand for all their calls.

    Raises
    ------
    NotFound
        The plan has no such step.
    """
    functions = {step.name: step.step.rpartition(":")[2].rpartition(".")[2] for step in plan.steps}
    unknown = [name for name in names if name not in {"all", *functions, *functions.values()}]
    if unknown:
        raise NotFound(
            f"pipeline {plan.pipeline} has no step {unknown[0]!r} to force; its steps are {', '.join(functions)}. "
            "'all' means each."
        )
    wanted = set(names)
    steps = tuple(
        replace(step, cache=step.cache and wanted.isdisjoint({"all", step.name, functions[step.name]}))
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def _source_of(step: Step[..., Any], project: Project | None) -> StepSource:
    is_in_cells = step.function.__module__ == "__main__" and in_notebook()
    return source_in_cells(step) if is_in_cells else source_of(step, project)


def key_parts(
    step: PlannedStep,
    *,
    environment: str,
    outputs: Mapping[str, Stored],
    pins: Mapping[str, Pinned],
    seed: int | None = None,
    lock: str | None = None,
) -> dict[str, Any]:
    """What a step's result depends on, part by part; the digest of it is its cache key.

    `lock` is the digest of the lock file of a step that has an `environment` of its own.

    The default seed is no part: it is what every run has that asks for no other, and results of before there were seeds
    are a draw as good as any.
    """
    parts = {
        "source": step.source,
        "environment": environment,
        "parameters": step.parameters,
        "inputs": {
            key: _identity(one, outputs, pins) for key, one in step.bindings.items() if "value" not in one
        },
    }
    if lock is not None:
        parts["lock"] = lock
    return parts if seed in (None, DEFAULT_SEED) else {**parts, "seed": seed}


def cache_key(parts: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(parts, sort_keys=True))


def _check_params(pipeline: Pipeline[..., Any], params: Mapping[str, Any]) -> None:
    """Only values that come back from JSON as they went in: another process traces the pipeline again with them."""
    for name, value in params.items():
        try:
            same = literal(json.loads(json.dumps(value, allow_nan=False))) == literal(value)
        except (TypeError, ValueError, Invalid):
            same = False
        if not same:
            raise Invalid(
                f"parameter {name} of pipeline {pipeline.name} is {value!r}; parameters of a run are None, true or false, "
                "numbers, texts, and lists and dictionaries of these. Name declared inputs in the pipeline's body."
            )


_SLOW_TO_IMPORT = frozenset(
    {"numpy", "scipy", "sklearn", "pandas", "pyarrow", "skops", "PIL", "duckdb", "polars"}
)


def _preload(graph: Graph, project: Project | None, module: str) -> tuple[str, ...]:
    """What is worth importing once for all steps. Only libraries of which it is known that nothing starts on import."""
    reached = () if project is None else project.reached_from(module)
    named = {imported.module for one in reached for imported in one.imported_modules(eagerly=False)}
    named |= {name for source in graph.sources.values() for name in getattr(source, "imports", ())}
    slow = {name for name in named if name.partition(".")[0] in _SLOW_TO_IMPORT}
    ours = {"everloop.storage"}
    if graph.sources or slow:
        ours |= {"everloop.pipelines.value_files", "everloop.workspace"}
    if slow:
        ours.add("numpy.random")  # numpy imports it when it is used, and each step sets its seed
    if any(name.startswith("sklearn") for name in slow):
        ours |= {"everloop.pipelines.fitting", "sklearn.base", "skops.io"}
    return tuple(sorted(slow | ours))


def described(node: Node, index: int | None = None) -> dict[str, Any]:
    """Which function a node calls with what: the same whichever process traces the pipeline.

    With `index` one call of a map, at the price of one: of ten thousand items only that one is looked at.
    """
    bindings = dict(node.bindings)
    for key, binding in bindings.items():
        if index is not None and isinstance(binding, Each) and isinstance(binding.items, Group):
            bindings[key] = binding.items.items[index]
    return {
        "step": f"{module_name(node.step)}:{node.step.function.__qualname__}",
        "bindings": {key: _as_json(binding) for key, binding in bindings.items()},
    }


def _planned(node: Node, source: StepSource) -> PlannedStep:
    step = node.step
    return PlannedStep(
        name=node.name,
        source=source.digest,
        retries=step.retries,
        timeout_s=step.timeout_s,
        cache=step.cache and not step.always,
        back_off_s=step.back_off_s,
        guards=node.guards,
        optional=step.optional,
        always=step.always,
        resources=dict(step.resources),
        environment=step.environment,
        cache_for_s=step.cache_for_s,
        **described(node),
    )


def _as_json(binding: Binding) -> dict[str, Any]:
    match binding:
        case Constant(value):
            return {"value": literal(value)}
        case Output(node):
            return {"node": node}
        case Declared(name):
            return {"source": name}
        case Group(items, is_tuple):
            return {"tuple" if is_tuple else "list": [_as_json(item) for item in items]}
        case Mapped(items):
            return {"dict": [[key, _as_json(item)] for key, item in items]}
        case Each(items):
            return {"each": _as_json(items)}
        case Reference(secret):
            return {"secret": secret}


def leaves(bindings: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The bindings of an argument list that are no list and no dictionary, in order."""
    for binding in bindings:
        if "dict" in binding:
            yield from leaves(item for _, item in binding["dict"])
        elif "list" in binding or "tuple" in binding:
            yield from leaves(binding.get("list", ()) or binding.get("tuple", ()))
        elif "each" in binding:
            yield from leaves([binding["each"]])
        else:
            yield binding


def _identity(binding: Mapping[str, Any], outputs: Mapping[str, Stored], pins: Mapping[str, Pinned]) -> Any:
    """An input by its content: what it is called and which node made it do not matter."""
    if "node" in binding:
        stored = outputs.get(binding["node"])
        return "nothing" if stored is None else f"{stored.kind} {stored.digest}"
    if "item" in binding:
        return binding["item"]
    if "each" in binding:
        items = _identity(binding["each"], outputs, pins)
        text = json.dumps(items)
        return ["each", items if len(text) <= _SHORT else f"{len(items) - 1} items {digest_of(text)}"]
    if "source" in binding:
        pinned = pins[binding["source"]]
        return f"{pinned.kind} {pinned.digest or pinned.ref}"
    if "secret" in binding:
        return f"secret {binding['secret']}"
    if "dict" in binding:
        return [[key, _identity(item, outputs, pins)] for key, item in binding["dict"]]
    for kind in ("list", "tuple"):
        if kind in binding:
            return [kind, *(_identity(item, outputs, pins) for item in binding[kind])]
    return f"value {binding['value']}"
