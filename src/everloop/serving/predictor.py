"""A released model, verified, loaded, warm: rows in, outputs and scores out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import blake3
import msgspec
import numpy as np
from numpy.typing import NDArray

from everloop.compiled import Column, Many, NotCompiledError, Plan, UnreadableError, many_of
from everloop.errors import GateFailed, Invalid, NotFound
from everloop.serving.exact import Quick, quick
from everloop.serving.held import WrongShapeError, held_classes, held_numbers, held_shares
from everloop.serving.loaded import Loaded, load_files, untrusted_types
from everloop.serving.mlmodel import Layout, example_rows, layout_of
from everloop.serving.model_process import ModelStoppedError, in_own_process
from everloop.serving.records import Field, Limits, Manifest
from everloop.serving.signature import example_row
from everloop.storage import Blobs

logger = logging.getLogger(__name__)

Output = str | float
Scores = dict[str, float]
Prediction = tuple[Output, Scores]
TOP = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """What the model raised on a row, or (code `model_stopped`) how its process ended."""

    kind: str
    text: str
    code: str = "model_failed"


@dataclass(frozen=True)
class Ranked:
    """Answers to many rows without an object for each.

    `outputs` is (n_rows,), names or float64. `best` and `shares` are (n_rows, up to 3): the most probable classes, as
    positions in `classes`, and how probable they are; None where there are no probabilities.
    """

    outputs: NDArray[Any]
    classes: NDArray[np.object_]
    best: NDArray[np.intp] | None = None
    shares: NDArray[np.float64] | None = None


def ranked_by(probabilities: NDArray[np.float64], classes: NDArray[np.object_]) -> Ranked:
    """The most probable classes of each row, of (n_rows, n_classes); the first of equals is the better one."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    return Ranked(classes[best[:, 0]], classes, best, np.take_along_axis(probabilities, best, axis=1))


@dataclass(frozen=True)
class Predictor:
    """A model that answers; made by `load`. One thread at a time may ask it. Who is done with it calls `close`."""

    manifest: Manifest
    model: Loaded
    quick: Quick | str = "nobody asked for a compiled plan"
    """The verified plan that answers in place of the model, or why there is none."""
    example: Mapping[str, Any] | None = None
    """A usual row by the names of inputs and features, as JSON has it, if the model's folder holds one."""
    is_example_told: bool = True
    """Whether it is nobody's row; that of an mlflow client may be anybody's."""

    @classmethod
    def load(
        cls,
        manifest: Manifest,
        blobs: Blobs,
        *,
        model_python: str = "",
        hidden: Path | None = None,
        is_compiled: bool = True,
        limits: Limits | None = None,
    ) -> Predictor:
        """Load a release's model from its blobs and warm it with a made-up row.

        A model that brings code of its own runs in a process of its own, if somebody trusted it: with `model_python`,
        the setting of that name, and within `limits`. Where a compiled plan was verified at the release and is as good here, it answers;
        without `is_compiled` the model itself does.

        Raises
        ------
        NotFound
            A file is not among the blobs.
        GateFailed
            A file's content is not what the manifest says, or the model holds types that are not trusted.
        Invalid
            The model cannot be read, or is not what its signature says.
        MissingExtra
            The model's library is not installed.
        """
        return cls.of_files(
            manifest,
            verified_files(manifest, blobs),
            converted=partial(verified_conversion, manifest, blobs),
            model_python=model_python,
            hidden=hidden,
            is_compiled=is_compiled,
            limits=limits,
        )

    @classmethod
    def of_files(
        cls,
        manifest: Manifest,
        files: Mapping[str, bytes],
        *,
        converted: Callable[[], bytes],
        model_python: str = "",
        hidden: Path | None = None,
        is_compiled: bool = True,
        limits: Limits | None = None,
    ) -> Predictor:
        """As `load`, from files whose content was verified; `converted` gives the model's conversion to ONNX, empty if it has none."""
        layout = layout_of(files, files.__getitem__)
        if manifest.flavor not in (layout.flavor, "pyfunc"):
            raise Invalid(
                f"release {manifest.id} is of flavor {manifest.flavor!r}, its files are of flavor {layout.flavor!r}. "
                "Register the model again."
            )
        _check_inputs(manifest, layout)
        if manifest.brings_code:
            predictor = cls(manifest, _in_own_process(manifest, files, model_python, hidden, limits))
        else:
            _check_types(manifest, layout, files)
            predictor = cls(manifest, load_files(layout, files))
        try:
            _check_columns(manifest, predictor.model)
            _check_classes(manifest, predictor.model)
            predictor._warm()
            return replace(
                predictor,
                quick=_quick(manifest, predictor.model, converted, is_compiled=is_compiled),
                example=_example(manifest, layout, files),
                is_example_told=layout.ours is not None or layout.example is None,
            )
        except BaseException:
            predictor.close()
            raise

    def close(self) -> None:
        """End what the model holds besides memory."""
        self.model.close()

    @property
    def has_scores(self) -> bool:
        return self.model.classes is not None and self.model.probabilities is not None

    @property
    def path(self) -> str:
        """Which path answers, in words: `compiled`, `onnx`, or `original` and why."""
        if isinstance(self.quick, str):
            return f"original: {self.quick}"
        return "onnx" if self.quick.is_onnx else "compiled"

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
        quick = self.quick
        if not isinstance(quick, str) and len(rows) <= quick.most_rows:
            try:
                return self._told(quick.plan, rows)
            except Exception:  # noqa: BLE001  (a plan answers what it is sure of; whatever it raises, the model says what is true)
                logger.debug("the plan of release %s left %d rows to the model", self.manifest.id, len(rows))
        return self._told(self.model, rows)

    def ranked(self, rows: NDArray[np.object_]) -> Ranked | None:
        """As `predict`, in arrays, for thousands of rows; None where `answer` has to be asked, because the model raised or
        gave what is no answer.

        The model itself is asked. A plan saves what a call costs, which so many rows share: for 200,000 rows of Adult it took
        four times as long.
        """
        return self._in_arrays(self.model, rows, len(rows))

    def ranked_columns(self, columns: Sequence[Column]) -> Ranked | None:
        """As `ranked`, of a column for each of the model's; None for a model that is not asked so, too."""
        return None if self.many is None else self._in_arrays(self.many, columns, len(columns[0]))

    def ranks_alike(self, columns: Sequence[Column], rows: NDArray[np.object_]) -> bool:
        """Whether both ways give the same rows the same answers, to the last bit."""
        found, expected = self.ranked_columns(columns), self.ranked(rows)
        if found is None or expected is None:
            return False
        pairs = [(getattr(found, one), getattr(expected, one)) for one in ("outputs", "best", "shares")]
        is_alike = all(np.array_equal(ours, theirs) for ours, theirs in pairs)
        if not is_alike:
            logger.warning(
                "release %s answers columns otherwise than rows; it is asked rows", self.manifest.id
            )
        return is_alike

    @cached_property
    def many(self) -> Many | None:
        """How the model is asked about columns, if it can be."""
        if self.model.estimator is None or self.model.takes_numbers:
            return None
        try:
            return many_of(self.model.estimator)
        except (NotCompiledError, UnreadableError) as error:
            logger.debug("release %s is asked rows: %s", self.manifest.id, error)
            return None

    def _in_arrays(self, asked: Loaded | Many, given: Any, rows: int) -> Ranked | None:
        try:
            return self._ranked(asked, given, rows)
        except Exception as error:  # noqa: BLE001  (as in `answer`, which is asked then)
            logger.debug("release %s raised %s on many rows", self.manifest.id, type(error).__name__)
            return None

    def _ranked(self, asked: Loaded | Many, given: Any, rows: int) -> Ranked:
        model, names = self.model, np.array(self.model.classes or (), dtype=object)
        if self.manifest.signature.output == "number":
            numbers = np.asarray(asked.predict(given), dtype=np.float64)
            _require(numbers.shape == (rows,) and bool(np.isfinite(numbers).all()))
            return Ranked(numbers, names)
        if model.classes is None or model.probabilities is None or asked.probabilities is None:
            outputs = np.asarray(asked.predict(given))
            _require(outputs.shape == (rows,))
            return Ranked(outputs.astype(str).astype(object), names)
        probabilities = np.asarray(asked.probabilities(given), dtype=np.float64)
        _require(probabilities.shape == (rows, len(names)) and bool(np.isfinite(probabilities).all()))
        found = ranked_by(probabilities, names)
        if model.takes_most_probable:
            return found
        outputs = np.asarray(asked.predict(given))
        _require(outputs.shape == (rows,))
        return replace(found, outputs=outputs.astype(str).astype(object))

    def predict_at_once(self, rows: list[list[Any]]) -> list[Prediction | Failure] | None:
        """As `answer`, when a plan does that sooner than a thread could be asked; None when it does not."""
        quick = self.quick
        if isinstance(quick, str) or len(rows) > quick.rows_at_once:
            return None
        try:
            return _results(*self._told(quick.plan, _array(rows)))
        except Exception:  # noqa: BLE001  (as in `predict`)
            return None

    def _told(self, asked: Loaded | Plan, rows: NDArray[np.object_]) -> tuple[list[Output], list[Scores]]:
        model, names, count = self.model, self.model.classes, len(rows)
        if self.manifest.signature.output == "number":
            return held_numbers(asked.predict(rows), count), [{} for _ in rows]
        if names is None or model.probabilities is None or asked.probabilities is None:
            return held_classes(asked.predict(rows), count, names), [{} for _ in rows]
        probabilities = np.asarray(asked.probabilities(rows), dtype=np.float64)  # (n_rows, n_classes)
        if asked is model:  # a plan's were compared
            held_shares(probabilities, count, len(names))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]  # (n_rows, 3)
        # np.take_along_axis would take four times as long for a row
        shares = probabilities[np.arange(len(rows))[:, None], best]
        scores = [
            {names[index]: share for index, share in zip(*each, strict=True)}
            for each in zip(best.tolist(), shares.tolist(), strict=True)
        ]
        if model.takes_most_probable:
            return [next(iter(each)) for each in scores], scores
        return held_classes(asked.predict(rows), count, names), scores

    def answer(self, rows: list[list[Any]]) -> list[Prediction | Failure]:
        """As `predict`, for rows as lists; when the model raises, each row alone, so that only the guilty fail."""
        try:
            return _results(*self.predict(_array(rows)))
        except ModelStoppedError as error:
            return [*stopped(error, len(rows))]
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
        if isinstance(result, Failure) and result.kind == WrongShapeError.__name__:
            raise Invalid(
                f"the model of release {self.manifest.id} cannot be served: {result.text}. Log one that gives one answer for each row."
            )
        if isinstance(result, Failure):
            # no reason to refuse it: the row is made up, and a model may rightly refuse what it has not seen
            logger.info("release %s raised %s on a made-up row", self.manifest.id, result.kind)


def _example(manifest: Manifest, layout: Layout, files: Mapping[str, bytes]) -> Mapping[str, Any] | None:
    rows = [] if layout.example is None else example_rows(manifest.signature, files[layout.example])
    return rows[0] if rows else None


def _quick(
    manifest: Manifest, model: Loaded, converted: Callable[[], bytes], *, is_compiled: bool
) -> Quick | str:
    """The plan that answers in place of the model, or why none does."""
    if not is_compiled:
        return "the setting compiled_models is off"
    try:
        found = quick(manifest, model, converted())
    except Exception as error:  # noqa: BLE001  (whatever is wrong with a plan, the model answers)
        found = f"comparing its plan raised {type(error).__name__}: {error}"
    if isinstance(found, str) and manifest.compiled is not None and manifest.compiled.is_used:
        logger.warning(
            "release %s is answered by its model, not by what was compared with it: %s", manifest.id, found
        )
    return found


_FEATURE_EXAMPLES = {"integer": 0, "number": 0.0, "string": ""}


def verified_files(manifest: Manifest, blobs: Blobs) -> dict[str, bytes]:
    """The files of a release by their paths. Raises NotFound, GateFailed."""
    return {path: _verified(manifest, path, digest, blobs) for path, digest in manifest.files.items()}


def verified_conversion(manifest: Manifest, blobs: Blobs) -> bytes:
    """A release's model as it was converted to ONNX; empty if it was not. Raises NotFound, GateFailed."""
    digest = "" if manifest.compiled is None else manifest.compiled.onnx
    return _verified(manifest, "model.onnx", digest, blobs) if digest else b""


def verified_kept(manifest: Manifest, blobs: Blobs) -> bytes:
    """What was kept of a release's model to answer columns; empty if nothing was. Raises NotFound, GateFailed."""
    digest = msgspec.UNSET if manifest.compiled is None else manifest.compiled.columns
    return b"" if digest is msgspec.UNSET else _verified(manifest, "what was kept", digest, blobs)


def stopped(error: ModelStoppedError, rows: int) -> list[Failure]:
    """What each row is told that a model's process did not survive; asked again, the guilty one would end it again."""
    return [Failure(type(error).__name__, str(error), "model_stopped")] * rows


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


def _check_inputs(manifest: Manifest, layout: Layout) -> None:
    """What requests are held to must be what the model's own file says it takes."""
    given = manifest.signature.inputs
    taken = layout.inputs if layout.ours is None else layout.ours.inputs
    if (layout.inputs or layout.ours is not None) and [(one.name, one.type) for one in given] != [
        (one.name, one.type) for one in taken
    ]:
        raise GateFailed(
            f"release {manifest.id} takes {_columns(given)}, its MLmodel file says {_columns(taken)}; a request is checked "
            "against the one and answered by the other. Register the model again with its own signature."
        )


def _check_types(manifest: Manifest, layout: Layout, files: Mapping[str, bytes]) -> None:
    if layout.file is None or not layout.file.endswith(".skops"):
        return
    undeclared = [name for name in untrusted_types(files[layout.file]) if name not in manifest.trusted_types]
    if undeclared:
        raise GateFailed(
            f"release {manifest.id} holds {', '.join(undeclared)}, which its manifest does not name as trusted. "
            "Release the version again."
        )


def _in_own_process(
    manifest: Manifest, files: Mapping[str, bytes], python: str, hidden: Path | None, limits: Limits | None
) -> Loaded:
    if manifest.trust is None:
        raise GateFailed(
            f"release {manifest.id} brings code of its own (a pickle, a pyfunc or a function), which runs only when somebody trusts it. Log the "
            f"model with skops, or: everloop models trust {manifest.model}@{manifest.version} --reason WHY"
        )
    return in_own_process(files, manifest.signature, python=python, hidden=hidden, limits=limits)


def _check_columns(manifest: Manifest, model: Loaded) -> None:
    given = len(manifest.signature.inputs) + len(manifest.features)
    if model.columns not in (None, given):
        raise Invalid(
            f"the model of release {manifest.id} takes {model.columns} columns, its signature and features give {given}. "
            "Train it on the columns that it is served with: inputs, then features."
        )


def _check_classes(manifest: Manifest, model: Loaded) -> None:
    signature = manifest.signature
    if signature.output == "class" and model.classes != signature.classes:
        raise Invalid(
            f"the model of release {manifest.id} knows the classes {_few(model.classes or ())}, its signature says "
            f"{_few(signature.classes or ())}. Register the model again with its own signature."
        )


def _columns(fields: Sequence[Field]) -> str:
    return _few(tuple(f"{one.name} ({one.type})" for one in fields))


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("not one answer for each row")


def _array(rows: list[list[Any]]) -> NDArray[np.object_]:
    array = np.empty((len(rows), len(rows[0])), dtype=np.object_)
    array[:] = rows
    return array


def _results(outputs: list[Output], scores: list[Scores]) -> list[Prediction | Failure]:
    return [_finite(output) or (output, each) for output, each in zip(outputs, scores, strict=True)]


def _finite(output: Output) -> Failure | None:
    """A number that is none cannot be answered: JSON has no word for it, and callers could not use it."""
    if isinstance(output, str) or math.isfinite(output):
        return None
    return Failure("ValueError", f"the model returned {output}")


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''} ({len(names)})"
