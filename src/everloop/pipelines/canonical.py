"""The one text form of a parameter, and digests of such texts."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from everloop.errors import Invalid

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def literal(value: Any) -> str:
    """A parameter as the Python literal that makes it: equal texts are equal values of equal types.

    The order of a dictionary counts, because a step may depend on it.

    Raises
    ------
    Invalid
        The value, or something in it, is none of the types a parameter may have.

    >>> literal({"c": [1, 1.0, True]})
    "{'c': [1, 1.0, True]}"
    """
    _check(value)
    return repr(value)


def digest_of(*texts: str) -> str:
    """BLAKE3 over texts, each with its length before it, so that no two lists of texts run together."""
    hasher = blake3()
    for text in texts:
        data = text.encode()
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()


def is_json(value: Any) -> bool:
    """Whether a value comes back from JSON exactly as it is: no tuple, no dictionary with other keys than texts."""
    kind = type(value)
    if kind is list:
        return all(map(is_json, value))
    if kind is dict:
        return all(type(key) is str and is_json(item) for key, item in value.items())
    return value is None or kind in (bool, int, float, str)


def is_constant(value: Any) -> bool:
    """Whether a module's global is a simple value that cannot change in place."""
    return type(value) in _SCALARS or (type(value) is tuple and all(is_constant(item) for item in value))


def _check(value: Any) -> None:
    if type(value) in _SCALARS:
        return
    if type(value) in (list, tuple):
        for item in value:
            _check(item)
    elif type(value) is dict:
        for key, item in value.items():
            _check(key)
            _check(item)
    else:
        raise Invalid(
            f"{type(value).__name__} is no type of a parameter: those are None, bool, int, float, str, bytes, and lists, "
            "tuples and dicts of them. Pass what describes the value and make it inside the step."
        )
