"""`@pipeline`: a function whose body is traced, before anything runs, into a frozen static graph of steps."""

from __future__ import annotations

import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, overload

from everloop.errors import Invalid
from everloop.pipelines.annotations import can_fit, hints_of, told
from everloop.pipelines.canonical import literal
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
from everloop.pipelines.parameters import check
from everloop.pipelines.records import Source
from everloop.pipelines.secret_names import Secret
from everloop.pipelines.steps import Step, recorder

P = ParamSpec("P")
R = TypeVar("R")


class Traced:
    """Stands for a result that no step has made yet. Whatever would need the value says so instead of guessing."""

    __slots__ = ("_node", "_trace")
    __hash__ = None  # type: ignore[assignment]  # equality is refused, so it cannot be a key

    def __init__(self, node: str, trace: Trace) -> None:
        self._node = node
        self._trace = trace

    def __repr__(self) -> str:
        return f"<the result of step {self._node}, not made yet>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # what debuggers and notebooks probe for
            raise AttributeError(name)
        raise self._unknown(f"its attribute .{name} cannot be read")

    def __bool__(self) -> bool:
        raise self._unknown("the pipeline cannot branch on it")

    def __iter__(self) -> Iterator[Any]:
        raise self._unknown("it cannot be unpacked or looped over")

    def __len__(self) -> int:
        raise self._unknown("it has no length")

    def __getitem__(self, key: object) -> NoReturn:
        raise self._unknown(f"its part [{key!r}] cannot be taken")

    def __contains__(self, item: object) -> bool:
        raise self._unknown("nothing can be looked up in it")

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise self._unknown("it cannot be called")

    def __str__(self) -> str:
        raise self._unknown("it cannot be turned into text")

    def __format__(self, _spec: str) -> str:
        raise self._unknown("it cannot be turned into text")

    def _refuse_operand(self, *_others: object) -> Any:
        raise self._unknown("it cannot be compared or calculated with")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse_operand
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = (
        _refuse_operand
    )
    __floordiv__ = __mod__ = __pow__ = __matmul__ = __neg__ = __abs__ = __and__ = __or__ = _refuse_operand
    __int__ = __float__ = __index__ = __array__ = _refuse_operand

    def _unknown(self, what: str) -> Invalid:
        return Invalid(
            f"the result of step {self._node} is not known while the pipeline {self._trace.name} is traced: {what}. "
            "A pipeline's body only connects steps; do this inside a function with @step and pass the result to it."
        )


class Trace:
    """The graph of one pipeline while its body runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[Node] = []
        self._names = _Names()
        self._source_names = _Names()
        self._sources: dict[str, Source] = {}
        self._within = ""
        self._guards: tuple[Guard, ...] = ()
        self._guards_of: dict[str, tuple[Guard, ...]] = {}
        self._gives: dict[str, Any] = {}  # by node how its result is annotated, None where it is not

    def record(self, step: Step[..., Any], arguments: dict[str, Any], *, over: str | None = None) -> Traced:
        bindings: dict[str, Binding] = {}
        for key, value in arguments.items():
            where = f"{step.name}({key}=)"
            bindings[key] = self._each(value, where) if key == over else self._bind(value, where)
            if isinstance(value, Traced):
                self._check_fit(value, step, key, is_mapped=key == over)
        return self._add(step, bindings, gives=list if over is not None else hints_of(step).get("return"))

    def _check_fit(self, value: Traced, step: Step[..., Any], key: str, *, is_mapped: bool) -> None:
        """Refuse what a step makes where another can take it in no case, by what both are annotated with."""
        gives, takes = self._gives.get(value._node), hints_of(step).get(key)
        if is_mapped:
            takes = list if takes is None else list[takes]  # type: ignore[valid-type]  # made while tracing
        if can_fit(gives, takes):
            return
        raise Invalid(
            f"{step.name}({key}=) in pipeline {self.name} takes {told(takes)} and got {value!r}, which gives {told(gives)}. "
            "Connect another result, or correct the annotation that is wrong."
        )

    def choose(
        self,
        choice: Step[..., Any],
        condition: Any,
        then: Callable[[], Any],
        otherwise: Callable[[], Any] | None,
    ) -> Traced:
        if not isinstance(condition, Traced):
            raise Invalid(
                f"the condition of el.when in pipeline {self.name} is {condition!r}; it is what a step makes, or True or "
                "False. Put the comparison into a step and pass its result."
            )
        test = self._output(condition, "the condition of el.when")
        bindings: dict[str, Binding] = {"condition": test}
        for word, branch, holds in (("then", then, True), ("otherwise", otherwise, False)):
            if branch is not None and (isinstance(branch, Traced) or not callable(branch)):
                raise Invalid(
                    f"{word} of el.when in pipeline {self.name} is {branch!r}; it is a function without parameters, so that "
                    f"its steps run only when they are asked for. Write {word}=lambda: ..."
                )
            with self._guarded((test.node, holds)):
                given = None if branch is None else branch()
                bindings[word] = self._bind(given, f"what {word} of el.when gives")
        return self._add(choice, bindings)

    @contextmanager
    def inside(self, pipeline: str) -> Iterator[None]:
        """Put a pipeline's name before the names of the steps it adds while it runs within another."""
        before, self._within = self._within, f"{self._within}{pipeline}."
        try:
            yield
        finally:
            self._within = before

    @contextmanager
    def _guarded(self, guard: Guard) -> Iterator[None]:
        before, self._guards = self._guards, (*self._guards, guard)
        try:
            yield
        finally:
            self._guards = before

    def _add(self, step: Step[..., Any], bindings: dict[str, Binding], *, gives: Any = None) -> Traced:
        name = self._names.new(self._within + step.name)
        self._nodes.append(Node(name, step, MappingProxyType(bindings), self._guards))
        self._guards_of[name] = self._guards
        self._gives[name] = gives
        return Traced(name, self)

    def finish(self, result: object) -> Graph:
        output = self._bind(result, "the pipeline's result")
        if any(isinstance(leaf, Declared | Reference) for leaf in leaves_of(output)):
            raise Invalid(
                f"pipeline {self.name} returns a declared input itself, or a secret; it returns what a step makes. Pass it through a step."
            )
        if not self._nodes:
            raise Invalid(
                f"the body of pipeline {self.name} calls no step. Call functions with @step in it and return a result."
            )
        return Graph(self.name, tuple(self._nodes), MappingProxyType(self._sources), output)

    def _bind(self, value: Any, where: str) -> Binding:
        if isinstance(value, Traced):
            return self._output(value, where)
        if isinstance(value, Secret):
            return Reference(value.name)
        if isinstance(value, Source):
            return Declared(self._source_name(value))
        if type(value) in (list, tuple):
            items = tuple(self._bind(item, where) for item in value)
            return Group(items, type(value) is tuple) if _has_nodes(items) else self._constant(value, where)
        if type(value) is dict:
            pairs = tuple((key, self._bind(item, where)) for key, item in value.items())
            return Mapped(pairs) if _has_nodes(item for _, item in pairs) else self._constant(value, where)
        return self._constant(value, where)

    def _each(self, items: Any, where: str) -> Each:
        if isinstance(items, Traced):
            return Each(self._output(items, where))
        if type(items) not in (list, tuple, range):
            raise Invalid(
                f"{where} in pipeline {self.name} is mapped over {items!r}, a {type(items).__name__}; that takes a list, or "
                "what a step makes when that is a list. Make the list in a step."
            )
        return Each(Group(tuple(self._bind(item, where) for item in items), is_tuple=False))

    def _output(self, value: Traced, where: str) -> Output:
        if value._trace is not self:
            raise Invalid(
                f"{where} got {value!r} of another tracing, of pipeline {value._trace.name}. "
                "Results do not outlive the pipeline's body: call that step, or the other pipeline, in this body."
            )
        guards = self._guards_of[value._node]
        if guards != self._guards[: len(guards)]:
            raise Invalid(
                f"{where} in pipeline {self.name} takes {value!r} from inside a branch of el.when, which may not have run. "
                "Let the branch's function return it and take what el.when gives."
            )
        return Output(value._node)

    def _source_name(self, source: Source) -> str:
        for name, known in self._sources.items():
            if known is source or known == source:
                return name
        name = self._source_names.new(source.name)
        self._sources[name] = source
        return name

    def _constant(self, value: Any, where: str) -> Constant:
        try:
            literal(value)
        except Invalid as error:
            raise Invalid(f"{where} in pipeline {self.name}: {error}") from error
        return Constant(value)


@dataclass(frozen=True)
class Pipeline(Generic[P, R]):
    """A function that connects steps. Calling it runs its body as plain Python, or adds it to the one being traced."""

    function: Callable[P, R]
    signature: inspect.Signature = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not inspect.isfunction(self.function) or inspect.iscoroutinefunction(self.function):
            raise Invalid(
                f"@pipeline was given {self.function!r}; a pipeline is a plain function made with def."
            )
        self.__dict__["signature"] = inspect.signature(self.function)
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            self.__dict__[name] = getattr(self.function, name)
        self.__dict__["__wrapped__"] = self.function

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        tracing = recorder.get()
        if not isinstance(tracing, Trace):
            return self.function(*args, **kwargs)
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise Invalid(
                f"pipeline {self.name} was called wrongly in pipeline {tracing.name}: {error}. Its signature is "
                f"{self.name}{self.signature}."
            ) from error
        bound.apply_defaults()
        self._check(bound.arguments)
        with tracing.inside(self.name):
            return self.function(*args, **kwargs)

    def map(self, *_items: Any, **_same: Any) -> NoReturn:
        """A pipeline is not mapped."""
        raise Invalid(
            f"pipeline {self.name} was mapped; only a step is called once for each item of a list that is not known yet. Map "
            "its steps one after the other, or call it in a loop over a list that is written in the body."
        )

    def trace(self, params: Mapping[str, Any] | None = None) -> Graph:
        """The graph of this pipeline with these parameters.

        Raises
        ------
        Invalid
            A parameter is unknown, missing, of another type than annotated or out of its range, or the body does what only a step can.
        """
        trace = Trace(self.name)
        token = recorder.set(trace)
        try:
            return trace.finish(self.function(**self._parameters(params or {})))  # type: ignore[call-arg]  # checked there
        except RecursionError as error:
            raise Invalid(
                f"the body of pipeline {self.name} calls itself, or gives a step a value that holds itself, without an end; a "
                "graph of steps has no circle. Let a parameter end it, or loop inside a step."
            ) from error
        finally:
            recorder.reset(token)

    def _parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        for name in given:
            if name not in self.signature.parameters:
                raise Invalid(f"pipeline {self.name} has no parameter {name!r}. {self._listed(name)}")
        missing = [
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.default is parameter.empty and name not in given
        ]
        if missing:
            raise Invalid(f"pipeline {self.name} needs the parameter {missing[0]!r}. {self._listed()}")
        bound = self.signature.bind_partial(**given)
        bound.apply_defaults()
        self._check(bound.arguments)
        return dict(given)

    def _check(self, arguments: Mapping[str, Any]) -> None:
        """Check what is known before anything runs; a stand-in for a result, a declared input or a secret is not."""
        known = {
            name: value
            for name, value in arguments.items()
            if not isinstance(value, Traced | Source | Secret)
        }
        check(self.name, self.function, known)

    def _listed(self, name: str = "") -> str:
        near = difflib.get_close_matches(name, self.signature.parameters, n=1)
        if near:
            return f"Did you mean {near[0]!r}?"
        names = ", ".join(self.signature.parameters)
        return f"Its parameters: {names}." if names else "It takes none."


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline() -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(
    function: Callable[P, R] | None = None, /
) -> Pipeline[P, R] | Callable[[Callable[P, R]], Pipeline[P, R]]:
    """Make a function a pipeline: its body calls steps and returns what one of them makes.

    Its parameters are values such as numbers and texts. Loops and conditions over them are plain Python; what a step
    returns is not known yet and refuses to be looked into.
    """
    return Pipeline if function is None else Pipeline(function)


def _has_nodes(bindings: Any) -> bool:
    return any(not isinstance(leaf, Constant) for binding in bindings for leaf in leaves_of(binding))


class _Names:
    """Gives out names that are not taken: `fit`, then `fit-2`, `fit-3`, in the order of the calls."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._uses = Counter[
            str
        ]()  # so that a thousand calls of one step are not counted from the start each time

    def new(self, name: str) -> str:
        found = name
        while found in self._taken:
            self._uses[name] += 1
            found = f"{name}-{self._uses[name] + 1}"
        self._taken.add(found)
        return found
