"""Whether what one step is annotated to give can be what another is annotated to take. In doubt it can."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.pipelines.steps import Step

# What Python and its type checkers let pass for another.
_PASS_FOR = {(int, float), (int, complex), (float, complex), (bytearray, bytes), (memoryview, bytes)}


def hints_of(step: Step[..., Any]) -> Mapping[str, Any]:
    """A step's annotations by parameter and `return`; empty when they name what is not there at run time."""
    return _hints(step.function)


def can_fit(given: Any, taken: Any) -> bool:
    """Whether a value annotated as `given` may be one annotated as `taken`; None: not annotated."""
    one, other = _class_of(given), _class_of(taken)
    if one is None or other is None:
        return True
    if not (_is_kind_of(one, other) or _is_kind_of(other, one)):
        return False
    inside = typing.get_args(given), typing.get_args(taken)
    return one is not list or other is not list or not all(inside) or can_fit(inside[0][0], inside[1][0])


def told(annotation: Any) -> str:
    """An annotation as it is written."""
    if annotation is type(None):
        return "None"
    return annotation.__qualname__ if type(annotation) is type else str(annotation)


@functools.lru_cache(maxsize=4096)
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001  (annotations are expressions: evaluating them may raise anything)
        return {}


def _class_of(annotation: Any) -> type | None:
    """The one class that values so annotated are of; None: there is no such, or nobody knows."""
    origin = typing.get_origin(annotation) or annotation
    is_open = origin in (Any, object, types.UnionType) or getattr(origin, "_is_protocol", False)
    if not isinstance(origin, type) or is_open:
        return None
    return origin


def _is_kind_of(one: type, other: type) -> bool:
    try:
        return issubclass(one, other) or (one, other) in _PASS_FOR
    except TypeError:  # some classes cannot be asked
        return True
