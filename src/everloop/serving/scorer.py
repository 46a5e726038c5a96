"""A released model asked about whole tables: from what was kept of it at its release where that can be, else its library.

What was kept is data that the manifest names, and answers without scikit-learn, which takes a second to import and half as long again for a
row. Rows of which it is not sure, and those on which the model fails, are left to the model, which is loaded for the first of
them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everloop.compiled import Column, Scoring, UnreadableError, UnsureError, read
from everloop.errors import GateFailed, NotFound
from everloop.serving.predictor import Predictor, Ranked, ranked_by, verified_kept
from everloop.serving.records import Manifest
from everloop.storage import Blobs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scorer:
    """Made by `load`. `scoring` is what was kept, None where nothing was."""

    manifest: Manifest
    scoring: Scoring | None
    loaded: Callable[[], Predictor]

    @classmethod
    def load(
        cls,
        manifest: Manifest,
        blobs: Blobs,
        *,
        model_python: str = "",
        hidden: Path | None = None,
        is_compiled: bool = True,
    ) -> Scorer:
        """Arguments are those of `Predictor.load`, which is called, and raises, when the model is first asked.

        Without `is_compiled` the model answers all.
        """
        # what a plan of rows saves is paid once for thousands of them, and comparing it costs more
        loaded = partial(
            Predictor.load, manifest, blobs, model_python=model_python, hidden=hidden, is_compiled=False
        )
        return cls(manifest, _scoring(manifest, blobs) if is_compiled else None, loaded)

    @cached_property
    def predictor(self) -> Predictor:
        return self.loaded()

    def ranked(self, columns: Sequence[Column]) -> tuple[Ranked, NDArray[np.bool_]] | None:
        """Answers to n rows, and of which of them they are sure; None where nothing was kept, or not for columns of these types.

        Parameters
        ----------
        columns
            One for each that the model takes.
        """
        if self.scoring is None:
            return None
        try:
            found = self.scoring.answer(columns)
        except UnsureError:
            return None
        except Exception:  # whatever is wrong with what was kept, the model answers
            logger.exception("what was kept of release %s failed; its model answers", self.manifest.id)
            return None
        classes = np.array(self.manifest.signature.classes or (), dtype=object)
        if self.manifest.signature.output == "number":
            return Ranked(found.outputs, classes), found.sure
        if found.shares is None:
            return Ranked(classes[found.outputs], classes), found.sure
        return ranked_by(found.shares, classes), found.sure


def _scoring(manifest: Manifest, blobs: Blobs) -> Scoring | None:
    try:
        content = verified_kept(manifest, blobs)
        return Scoring.of(read(content)) if content else None
    except (NotFound, GateFailed, UnreadableError) as error:
        logger.warning("release %s is answered by its model: %s", manifest.id, error)
        return None
