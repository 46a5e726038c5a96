"""A compiled plan: a fitted pipeline's answers without its price per call, for the pipelines that are known piece by piece.

Nearly all that scikit-learn takes for one row is checks and containers. A plan does the arithmetic alone, on plain lists and
small arrays. It is used only for a release whose rows it answered as the original did (see `exact`), and for a row that it
does not stand for, the original is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from everloop.compiled.columns import transformed
from everloop.compiled.models import Ending, ending
from everloop.compiled.parts import NotCompiledError, Part, UnreadableError

Rows = NDArray[Any]
RULES = 1
"""Changes with what is compiled and how; a plan that other rules verified is not used."""


@dataclass(frozen=True)
class Plan:
    """`predict` and `probabilities` as a `Loaded` has them; both raise for a row that the original must answer."""

    predict: Callable[[Rows], Rows]
    probabilities: Callable[[Rows], Rows] | None = None


def plan_of(model: Any, *, columns: int) -> Plan:
    """The plan of a fitted scikit-learn model that takes so many columns.

    Raises NotCompiledError, which names the piece that no plan is known for, and UnreadableError for what cannot be read.
    """
    try:
        before = Part("cells", columns, lambda row: row)
        while type(model).__name__ == "Pipeline":
            for _, step in model.steps[:-1]:
                before = transformed(step, before)
            model = model.steps[-1][1]
        return _plan(ending(model, before))
    except NotCompiledError:
        raise
    except Exception as error:
        # what a plan reads are partly the library's own attributes, which another version may name otherwise
        raise UnreadableError(
            f"reading {type(model).__name__} raised {type(error).__name__}: {error}"
        ) from error


def _plan(found: Ending) -> Plan:
    raw, outputs, shares = found.raw, found.outputs, found.probabilities
    return Plan(
        lambda rows: outputs(raw(rows.tolist())),
        None if shares is None else lambda rows: shares(raw(rows.tolist())),
    )
