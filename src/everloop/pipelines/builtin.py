"""Steps that everloop brings along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from everloop.pipelines.steps import step

if TYPE_CHECKING:
    from everloop.pipelines.values import Model


@step
def best(models: Sequence[Model], *, by: str, highest: bool | None = None) -> Model:
    """The model whose metric `by` is best; see `fitting.best`. In a pipeline's body a step, elsewhere a function."""
    from everloop.pipelines import fitting  # noqa: PLC0415  (numpy and pyarrow: not for declaring)

    return fitting.best(models, by=by, highest=highest)
