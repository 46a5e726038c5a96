"""`@step`: a plain typed function that a pipeline can run, cache, retry and time out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from everloop.errors import Invalid
from everloop.pipelines.admission import asked_for
from everloop.pipelines.records import Source
from everloop.pipelines.secret_names import Secret

P = ParamSpec("P")
R = TypeVar("R")


class Recorder(Protocol):
    """What a step tells its call to while a pipeline's body is traced."""

    def record(self, step: Step[..., Any], arguments: dict[str, Any], *, over: str | None = None) -> Any:
        """A call; with `over` one call for each item of that argument."""
        ...

    def choose(
        self,
        choice: Step[..., Any],
        condition: Any,
        then: Callable[[], Any],
        otherwise: Callable[[], Any] | None,
    ) -> Any:
        """What one of two branches gives, each traced for itself."""
        ...


recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@dataclass(frozen=True)
class Step(Generic[P, R]):
    """A function that a pipeline runs as one unit; called outside a pipeline it is just that function.

    Attributes
    ----------
    retries
        How many times more it is tried when it fails.
    timeout_s
        After this many seconds its process is killed and the attempt has failed; None: never. Only an executor
        that gives it a process of its own can do that.
    cache
        Whether a result may be reused by later runs with the same source, environment, parameters and inputs.
    back_off_s
        Seconds before the second attempt; doubles with each.
    retry_on
        The errors after which it is tried again; None: any. A process that died or took too long is tried again
        whatever is said here.
    optional
        When it fails for good the run goes on, and what takes its result is given None.
    always
        It runs though the run has failed, as the last thing, with None for what was not made; never from the cache.
    resources
        What it takes of the machine while it runs, by name: `cpus` above one, `memory_gb`, `gpus` and others of the
        machine's own. It waits until that is free. One that uses more memory than it asked for is killed.
    cache_for_s
        How old, in seconds of domain time, a result may be to be reused; None: of any age.
    environment
        A lock file, seen from the project's folder, such as `locks/torch.txt`: the step runs in a Python of its own with
        the packages that it names. None: with what is installed for the run.
    """

    function: Callable[P, R]
    retries: int = 0
    timeout_s: float | None = None
    cache: bool = True
    back_off_s: float = 1.0
    retry_on: tuple[type[Exception], ...] | None = None
    optional: bool = False
    always: bool = False
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)
    environment: str | None = None
    cache_for_s: float | None = None
    signature: inspect.Signature = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        # frozen, so that nothing changes after tracing; the dictionary takes what inspect and pytest look for
        self.__dict__["signature"] = inspect.signature(self.function)
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            self.__dict__[name] = getattr(self.function, name)
        self.__dict__["__wrapped__"] = self.function

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def entry(self) -> str:
        """Where it is found: `module:function`."""
        return f"{self.function.__module__}:{self.function.__qualname__}"

    @property
    def _named(self) -> list[str]:
        """The parameters that can be given by name."""
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [name for name, one in self.signature.parameters.items() if one.kind in kinds]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        tracing = recorder.get()
        if tracing is None:
            self._refuse_declarations([*args, *kwargs.values()])
            return self.function(*args, **kwargs)
        traced: R = tracing.record(self, self._bind(args, kwargs))
        return traced

    def map(self, items: Iterable[Any], /, **same: Any) -> list[R]:
        """One call for each item, in a pipeline's body as many at once as there are places; their results as a list.

        In a body it is one step of the graph, whose calls are journaled, cached and resumed one by one, as
        `fit[0]`, `fit[1]` and so on. One that fails for good fails the whole, after those that run have ended. Calls may
        share a process, one after the other.

        Parameters
        ----------
        items
            A list, or what a step makes when that is a list. An item goes to the first parameter that `same` does not
            name.
        same
            What is the same for all calls.

        Raises
        ------
        Invalid
            `same` does not fit the step's signature or leaves no parameter for the item, or the step is declared with
            `always`.
        """
        over = next((name for name in self._named if name not in same), None)
        if over is None:
            raise Invalid(
                f"{self.name}.map leaves no parameter for the item: all of {self.name}{self.signature} are given by name. "
                "Leave out the one that the items are for."
            )
        if self.always:
            raise Invalid(
                f"step {self.name} is declared with always=True and mapped; what it goes over may never be made. Let one "
                "call of it take the whole list."
            )
        tracing = recorder.get()
        if tracing is None:
            self._refuse_declarations([items])
            return [self(**{over: item}, **same) for item in items]  # type: ignore[call-arg]  # bound when called
        traced: list[R] = tracing.record(self, self._bind((), {over: items, **same}), over=over)
        return traced

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise Invalid(
                f"step {self.name} was called wrongly: {error}. Its signature is {self.name}{self.signature}."
            ) from error
        bound.apply_defaults()
        return bound.arguments

    def _refuse_declarations(self, values: list[Any]) -> None:
        for value in values:
            if isinstance(value, Secret):
                raise Invalid(
                    f"step {self.name} was called outside a pipeline with {value!r}, which has no value by itself. Give it a "
                    "text, or call the step in a pipeline's body and run that."
                )
            if isinstance(value, Source):
                raise Invalid(
                    f"step {self.name} was called outside a pipeline with the declaration {value.name!r}, which has no "
                    "rows by itself. Give it a table, or call the step in a pipeline's body and run that."
                )


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    retries: int = 0,
    timeout_s: float | None = None,
    cache: bool = True,
    back_off_s: float = 1.0,
    retry_on: tuple[type[Exception], ...] | None = None,
    optional: bool = False,
    always: bool = False,
    cpus: int = 1,
    memory_gb: float | None = None,
    gpus: int = 0,
    resources: Mapping[str, float] | None = None,
    environment: str | None = None,
    cache_for_s: float | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    retries: int = 0,
    timeout_s: float | None = None,
    cache: bool = True,
    back_off_s: float = 1.0,
    retry_on: tuple[type[Exception], ...] | None = None,
    optional: bool = False,
    always: bool = False,
    cpus: int = 1,
    memory_gb: float | None = None,
    gpus: int = 0,
    resources: Mapping[str, float] | None = None,
    environment: str | None = None,
    cache_for_s: float | None = None,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step; see `Step` for the options.

    `cpus`, `memory_gb`, `gpus` and `resources`, which names others, are what it asks for of the machine.

    Raises
    ------
    Invalid
        The function is async or a generator, or an option is out of range.
    """

    def make(plain: Callable[P, R]) -> Step[P, R]:
        return Step(
            plain,
            retries=retries,
            timeout_s=timeout_s,
            cache=cache,
            back_off_s=back_off_s,
            retry_on=retry_on,
            optional=optional,
            always=always,
            resources=asked_for(plain.__name__, cpus=cpus, memory_gb=memory_gb, gpus=gpus, others=resources),
            environment=environment,
            cache_for_s=cache_for_s,
        )

    return make if function is None else make(function)


def _check(made: Step[..., Any]) -> None:
    function: Any = made.function
    if not inspect.isfunction(function):
        raise Invalid(f"@step was given {function!r}; a step is a function made with def.")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise Invalid(
            f"step {function.__name__} is async or a generator; a step is a plain function that returns its result. "
            "Return a list or a table, and run async code inside with asyncio.run."
        )
    if made.retries < 0 or made.back_off_s < 0:
        raise Invalid(
            f"step {function.__name__} has retries={made.retries} and back_off_s={made.back_off_s}; "
            "both are zero or more."
        )
    if made.cache_for_s is not None and not (made.cache and made.cache_for_s > 0):
        raise Invalid(
            f"step {function.__name__} has cache_for_s={made.cache_for_s} and cache={made.cache}; give seconds above zero to a "
            "step whose results may be reused."
        )
    if made.timeout_s is not None and made.timeout_s <= 0:
        raise Invalid(
            f"step {function.__name__} has timeout_s={made.timeout_s}; give seconds above zero, or None."
        )
    lock = made.environment
    if lock is not None and (not lock or lock.startswith("/") or ".." in lock.split("/")):
        raise Invalid(
            f"step {function.__name__} has environment={lock!r}; that is a lock file in the project's folder, seen from it, such "
            "as locks/torch.txt. Move it there."
        )
    errors: Any = made.retry_on
    if errors is not None and not (
        made.retries
        and type(errors) is tuple
        and all(isinstance(one, type) and issubclass(one, Exception) for one in errors)
    ):
        raise Invalid(
            f"step {function.__name__} has retry_on={errors!r} and retries={made.retries}; retry_on is a tuple of errors, "
            "such as (ConnectionError,), for a step with retries of one or more."
        )
