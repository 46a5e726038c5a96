"""Why a live model answered as it did, beside the path of predictions: in a thread of its own, asked for by a request.

A library's own explanation of its trees comes first, then scikit-learn's linear models and trees taken apart, and any other model
is asked about rows between the given one and a usual one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from everloop.explaining import (
    Explanation,
    NotExplainedError,
    TakenApart,
    added_up,
    by_asking,
    taken_apart,
)
from everloop.serving.loaded import Rows, class_names, numbers
from everloop.serving.predictor import Failure, Output, Predictor
from everloop.serving.signature import Reader, example_row, in_json

logger = logging.getLogger(__name__)

MOST_EXPLAINED = 100  # rows of one request


class Unexplained(msgspec.Struct, frozen=True):
    """Why there is no explanation, beside a prediction that there is."""

    problem: str


class Explainer:
    """Explains a loaded release's answers. Asked by one thread at a time."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        manifest, model = predictor.manifest, predictor.model
        self._names = [
            *(one.name for one in manifest.signature.inputs),
            *(one.name for one in manifest.features),
        ]
        self._apart: TakenApart | None = None
        if model.estimator is not None and model.contributions is None:
            try:
                self._apart = taken_apart(model.estimator, self._names)
            except NotExplainedError:
                self._apart = None  # it is asked instead

    def explain(self, asked: list[tuple[list[Any], Output]]) -> list[Explanation | Failure]:
        """For each row as the model takes it, and what was answered to it."""
        return [self._explained(row, output) for row, output in asked]

    def _explained(self, row: list[Any], output: Output) -> Explanation | Failure:
        try:
            if self._predictor.model.contributions is not None:
                return self._of_library(row, output)
            if self._apart is not None:
                try:
                    return self._taken_apart(self._apart, row, output)
                except Exception as error:  # noqa: BLE001  (transformers may raise anything; the model can still be asked)
                    logger.info(
                        "release %s is asked, not taken apart: %s", self._predictor.manifest.id, error
                    )
                    self._apart = None  # what mixes its columns does so in every row
            return self._by_asking(row, output)
        except Exception as error:  # noqa: BLE001  (a model may raise anything; the prediction is answered all the same)
            return Failure(type(error).__name__, str(error))

    def _taken_apart(self, apart: TakenApart, row: list[Any], output: Output) -> Explanation:
        given = _one(row)
        if self._predictor.model.takes_numbers:
            given = numbers(given)
        return apart.explain(given, self._place(output), _label(output))

    def _of_library(self, row: list[Any], output: Output) -> Explanation:
        ask = self._predictor.model.contributions
        assert ask is not None  # noqa: S101  (whoever calls has looked)
        found = ask(_one(row))[0]  # (n_classes or 1, n_columns + 1)
        place, sign = self._place(output), 1.0
        if len(found) == 1:  # two classes share the second one's score
            place, sign = 0, -1.0 if isinstance(output, str) and place == 0 else 1.0
        amounts = sign * found[place]
        seen = [(at, "", 0.0, float(amount)) for at, amount in enumerate(amounts[:-1])]
        return Explanation(
            "tree shap",
            "raw score",
            float(amounts.sum()),
            float(amounts[-1]),
            added_up(self._names, seen),
            _label(output),
        )

    def _by_asking(self, row: list[Any], output: Output) -> Explanation:
        score, of = self._score(output)
        usual = self._usual()
        found = by_asking(score, row, usual, names=self._names, of=of, label=_label(output))
        told = {name: in_json(value) for name, value in (found.compared_with or {}).items()}
        return msgspec.structs.replace(found, compared_with=told if self._predictor.is_example_told else None)

    def _score(self, output: Output) -> tuple[Callable[[Rows], Rows], str]:
        model = self._predictor.model
        if not isinstance(output, str):
            return lambda rows: np.asarray(model.predict(rows), dtype=np.float64), "the number"
        if model.probabilities is None:
            return (
                lambda rows: np.array(
                    [name == output for name in class_names(model.predict(rows))], dtype=float
                ),
                f"whether it answers {output}",
            )
        ask, place = model.probabilities, self._place(output)
        return lambda rows: np.asarray(ask(rows), dtype=np.float64)[:, place], "probability"

    def _usual(self) -> list[Any]:
        """The row to compare with: the model's input example as far as it goes, then null, then what is made up."""
        manifest, example = self._predictor.manifest, self._predictor.example or {}
        values, problems = Reader(manifest.signature).read(
            {one.name: example.get(one.name) for one in manifest.signature.inputs}
        )
        wrong = {one.field for one in problems}
        made_up = example_row(manifest.signature)
        inputs = [
            made_up[place] if one.name in wrong else values[place]
            for place, one in enumerate(manifest.signature.inputs)
        ]
        return [*inputs, *(example.get(one.name) for one in manifest.features)]

    def _place(self, output: Output) -> int:
        classes = self._predictor.model.classes
        return classes.index(output) if isinstance(output, str) and classes is not None else 0


def _one(row: list[Any]) -> Rows:
    rows = np.empty((1, len(row)), dtype=np.object_)
    rows[0] = row
    return rows


def _label(output: Output) -> str | None:
    return output if isinstance(output, str) else None
