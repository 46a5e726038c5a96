"""Steps that everloop brings along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from everloop.errors import Invalid
from everloop.pipelines.steps import recorder, step

if TYPE_CHECKING:
    from everloop.pipelines.values import Model

A = TypeVar("A")
B = TypeVar("B")


@step
def best(models: Sequence[Model], *, by: str, highest: bool | None = None) -> Model:
    """The model whose metric `by` is best; see `fitting.best`. In a pipeline's body a step, elsewhere a function."""
    from everloop.pipelines import fitting  # noqa: PLC0415  (numpy and pyarrow: not for declaring)

    return fitting.best(models, by=by, highest=highest)


@overload
def when(condition: bool, then: Callable[[], A]) -> A | None: ...
@overload
def when(condition: bool, then: Callable[[], A], otherwise: Callable[[], B]) -> A | B: ...
def when(condition: bool, then: Callable[[], Any], otherwise: Callable[[], Any] | None = None) -> Any:
    """What `then` gives when the condition holds, else what `otherwise` gives, or None without one.

    In a pipeline's body the condition is what a step makes. Both functions are traced; when it runs, the steps that the
    one calls run, and those of the other are skipped. With a plain True or False it is Python's own `if`.

    Raises
    ------
    Invalid
        The condition is neither, or a branch is no function.
    """
    given: object = condition  # while a body is traced it is a stand-in
    if isinstance(given, bool):
        taken = then if given else otherwise
        return None if taken is None else taken()
    tracing = recorder.get()
    if tracing is None:
        raise Invalid(
            f"the condition of el.when is {condition!r}, which is neither True nor False. Compare it first."
        )
    return tracing.choose(choice, condition, then, otherwise)


@step
def choice(condition: bool, then: Any = None, otherwise: Any = None) -> Any:
    """The step that joins the two branches of `when`; what was skipped is None."""
    return then if condition else otherwise
