"""The parameters of a pipeline as the server knows them: it never loads a user's code, so they are kept as values."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from everloop.errors import Invalid
from everloop.pipelines import Pipeline

Takes = Mapping[str, Mapping[str, Any]]
"""By the parameter's name: its `type`, where that is one of the simple ones, and whether it is `required`."""

INSTANT = "{instant}"  # stands in parameters for the schedule's instant, or for when the trigger fired

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def takes_of(pipeline: Pipeline[..., Any]) -> Takes:
    """What a pipeline takes, from its signature."""
    found = {}
    for name, parameter in pipeline.signature.parameters.items():
        word = parameter.annotation
        word = word if isinstance(word, str) else getattr(word, "__name__", "")
        found[name] = {
            "type": word if word in _TYPES else None,
            "required": parameter.default is inspect.Parameter.empty,
        }
    return found


def check_params(
    pipeline: str, takes: Takes, params: Mapping[str, Any], *, some_follow: bool = False
) -> None:
    """Raises Invalid for a parameter that is unknown, missing or of another type than the pipeline states.

    With `some_follow`, none is missing yet.
    """
    names = ", ".join(takes) or "none"
    for name, value in params.items():
        if name not in takes:
            near = difflib.get_close_matches(name, takes, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It takes {names}."
            raise Invalid(f"pipeline {pipeline} has no parameter {name!r}. {hint}")
        word = takes[name]["type"]
        if word is not None and type(value) not in _TYPES[word]:
            raise Invalid(
                f"pipeline {pipeline} takes {name} as {word} and got {value!r}, which is {type(value).__name__}. "
                f"Give it a value of type {word}."
            )
    lacking = [name for name, one in takes.items() if one["required"] and name not in params]
    if lacking and not some_follow:
        raise Invalid(
            f"pipeline {pipeline} needs the parameter {lacking[0]!r}, which neither its trigger nor the call gives. "
            f"It takes {names}."
        )
