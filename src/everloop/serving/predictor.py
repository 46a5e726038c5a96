"""A released model, verified, loaded, warm: rows in, outputs and scores out."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import blake3
import numpy as np
from numpy.typing import NDArray

from everloop.errors import GateFailed, Invalid, NotFound
from everloop.serving.records import Manifest, Signature
from everloop.serving.signature import example_row
from everloop.serving.trusted import AUDITED_TYPES, PREDICTS_THE_MOST_PROBABLE
from everloop.storage import Blobs

logger = logging.getLogger(__name__)

Output = str | float
Scores = dict[str, float]
Prediction = tuple[Output, Scores]
TOP = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """What the model raised on a row."""

    kind: str
    text: str


@dataclass(frozen=True)
class Predictor:
    """A model that answers; made by `load`. One thread at a time may ask it."""

    manifest: Manifest
    model: Any
    classes: tuple[str, ...] | None
    has_scores: bool
    takes_most_probable: bool

    @classmethod
    def load(cls, manifest: Manifest, blobs: Blobs) -> Predictor:
        """Load a release's model from its blobs and warm it with a made-up row.

        Raises
        ------
        NotFound
            A file is not among the blobs.
        GateFailed
            A file's content is not what the manifest says, or the model holds types that are not trusted.
        Invalid
            The model cannot be read, or is not what its signature says.
        """
        if manifest.flavor != "sklearn":
            raise Invalid(
                f"release {manifest.id} is of flavor {manifest.flavor!r}; this version of everloop serves 'sklearn' "
                "(saved with skops). Register the model in that form."
            )
        files = {path: _verified(manifest, path, digest, blobs) for path, digest in manifest.files.items()}
        model = _load_skops(manifest, files)
        _check_columns(manifest, model)
        predictor = cls(
            manifest,
            model,
            classes=_classes(manifest, model),
            has_scores=manifest.signature.output == "class" and hasattr(model, "predict_proba"),
            takes_most_probable=predicts_the_most_probable(model),
        )
        predictor._warm()
        return predictor

    def predict(self, rows: NDArray[np.object_]) -> tuple[list[Output], list[Scores]]:
        """Outputs and the scores of the three most probable classes, for each row.

        Parameters
        ----------
        rows
            (n_rows, n_inputs + n_features) object: the signature's inputs in order, then the features.

        Returns
        -------
        outputs
            n_rows class names or numbers.
        scores
            n_rows dicts, most probable first; empty for numbers and for classifiers without probabilities.
        """
        if self.classes is None:
            return [float(value) for value in self.model.predict(rows)], [{} for _ in rows]
        if not self.has_scores:
            return [str(value) for value in self.model.predict(rows).tolist()], [{} for _ in rows]
        probabilities = np.asarray(self.model.predict_proba(rows), dtype=np.float64)  # (n_rows, n_classes)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]  # (n_rows, 3)
        scores = [
            {self.classes[index]: share for index, share in zip(indices, shares, strict=True)}
            for indices, shares in zip(
                best.tolist(), np.take_along_axis(probabilities, best, axis=1).tolist(), strict=True
            )
        ]
        if self.takes_most_probable:
            return [next(iter(each)) for each in scores], scores
        return [str(value) for value in self.model.predict(rows).tolist()], scores

    def answer(self, rows: list[list[Any]]) -> list[Prediction | Failure]:
        """As `predict`, for rows as lists; when the model raises, each row alone, so that only the guilty fail."""
        try:
            outputs, scores = self.predict(_array(rows))
            return [_finite(output) or (output, each) for output, each in zip(outputs, scores, strict=True)]
        except Exception as error:  # noqa: BLE001  (a model may raise anything; it is the answer to that row)
            if len(rows) == 1:
                return [Failure(type(error).__name__, str(error))]
            return [self.answer([row])[0] for row in rows]

    def _warm(self) -> None:
        row = [
            *example_row(self.manifest.signature),
            *(_FEATURE_EXAMPLES[view.dtype] for view in self.manifest.features),
        ]
        result = self.answer([row])[0]
        if isinstance(result, Failure):
            # no reason to refuse it: the row is made up, and a model may rightly refuse what it has not seen
            logger.info("release %s raised %s on a made-up row", self.manifest.id, result.kind)


_FEATURE_EXAMPLES = {"integer": 0, "number": 0.0, "string": ""}


def untrusted_types(content: bytes) -> list[str]:
    """The types in a skops file that need an entry in `trusted_types` of the manifest; all must be audited.

    Raises GateFailed when one is not audited, Invalid when the content is no skops file.
    """
    import skops.io  # brings scikit-learn, which takes seconds

    try:
        found = sorted(skops.io.get_untrusted_types(data=content))
    except _UNREADABLE as error:
        raise Invalid(f"the model is no skops file: {error}. Save it with skops.io.dump.") from error
    unknown = [name for name in found if name not in AUDITED_TYPES]
    if unknown:
        raise GateFailed(
            f"the model holds {', '.join(unknown)}, which may run code while it loads; only audited types are served. "
            "Use scikit-learn's own estimators, or functions of numpy."
        )
    return found


# what zipfile, json and skops raise for a file that is not theirs
_UNREADABLE = (BadZipFile, ValueError, KeyError, TypeError, OSError, EOFError, AttributeError, ImportError)


def _verified(manifest: Manifest, path: str, digest: str, blobs: Blobs) -> bytes:
    try:
        content = blobs.get(digest)
    except NotFound as error:
        raise NotFound(
            f"{path} of release {manifest.id} is not among the blobs: {error} Restore it or release the version again."
        ) from error
    found = blake3.blake3(content).hexdigest()
    if found != digest:
        raise GateFailed(
            f"{path} of release {manifest.id} has digest {found[:12]}, its manifest says {digest[:12]}: the file was changed "
            "or damaged. Restore it from a backup or release the version again."
        )
    return content


def _load_skops(manifest: Manifest, files: dict[str, bytes]) -> Any:
    import skops.io  # brings scikit-learn, which takes seconds

    models = [path for path in files if path.endswith(".skops")]
    if len(models) != 1:
        raise Invalid(
            f"release {manifest.id} has {len(models)} .skops files; a model is saved in one. Register it again."
        )
    needed = untrusted_types(files[models[0]])
    undeclared = [name for name in needed if name not in manifest.trusted_types]
    if undeclared:
        raise GateFailed(
            f"release {manifest.id} holds {', '.join(undeclared)}, which its manifest does not name as trusted. "
            "Release the version again."
        )
    try:
        return skops.io.loads(files[models[0]], trusted=needed)
    except _UNREADABLE as error:
        raise Invalid(
            f"the model of release {manifest.id} cannot be loaded: {error}. It may be from another version of "
            "scikit-learn; train it again in this environment."
        ) from error


def _check_columns(manifest: Manifest, model: Any) -> None:
    given = len(manifest.signature.inputs) + len(manifest.features)
    taken = getattr(model, "n_features_in_", given)
    if taken != given:
        raise Invalid(
            f"the model of release {manifest.id} takes {taken} columns, its signature and features give {given}. "
            "Train it on the columns that it is served with: inputs, then features."
        )


def _classes(manifest: Manifest, model: Any) -> tuple[str, ...] | None:
    signature: Signature = manifest.signature
    if signature.output == "number":
        return None
    classes = tuple(str(value) for value in np.asarray(getattr(model, "classes_", ())).tolist())
    if classes != signature.classes:
        raise Invalid(
            f"the model of release {manifest.id} knows the classes {_few(classes)}, its signature says "
            f"{_few(signature.classes or ())}. Register the model again with its own signature."
        )
    return classes


def predicts_the_most_probable(model: Any) -> bool:
    """Whether the model answers with the class of highest probability, so that one call does for both."""
    return type(_last_step(model)).__name__ in PREDICTS_THE_MOST_PROBABLE


def _last_step(model: Any) -> Any:
    steps = getattr(model, "steps", None)  # a scikit-learn Pipeline
    return _last_step(steps[-1][1]) if steps else model


def _array(rows: list[list[Any]]) -> NDArray[np.object_]:
    array = np.empty((len(rows), len(rows[0])), dtype=np.object_)
    array[:] = rows
    return array


def _finite(output: Output) -> Failure | None:
    """A number that is none cannot be answered: JSON has no word for it, and callers could not use it."""
    if isinstance(output, str) or math.isfinite(output):
        return None
    return Failure("ValueError", f"the model returned {output}")


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''} ({len(names)})"
