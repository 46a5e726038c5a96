"""The name of a secret, as a pipeline's body uses it: all that declaring a pipeline loads of secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from everloop.errors import Invalid

_NAME = re.compile(r"(?!EVERLOOP_)[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True)
class Secret:
    """The name of a secret, in place of its value."""

    name: str

    def __repr__(self) -> str:
        return f"el.secret({self.name!r})"


def secret(name: str) -> Any:
    """Name a secret as an argument of a step in a pipeline's body; the step is given its value, a text.

    The value is that of the environment variable of this name where the step runs, else of the file of this name in the
    folder of the setting `secrets_dir`. The name is part of the step's cache key, the value is not.

    Raises
    ------
    Invalid
        The name is not that of a variable.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is no name of a secret: that is one of an environment variable, of letters, digits and _, and not of "
            "everloop's own. Rename it, such as WAREHOUSE_TOKEN."
        )
    return Secret(name)
