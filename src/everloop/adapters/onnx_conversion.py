"""scikit-learn's models in ONNX form, for those that have no compiled plan. Numbers are in single precision there."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from everloop.adapters.onnx import TABLE
from everloop.compiled import NotCompiledError
from everloop.errors import MissingExtra
from everloop.serving import Field

try:
    import skl2onnx
    from onnx import helper
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
except ImportError as error:
    raise MissingExtra("onnx", needed_for="converting a model to ONNX") from error


def convert(estimator: Any, fields: Sequence[Field]) -> bytes:
    """A fitted model that takes these columns in ONNX form: each an input of its own, or all one if they are numbers.

    Raises NotCompiledError with the reason when it has none.
    """
    are_texts = [_is_text(one) for one in fields]
    if not any(are_texts):
        inputs = [(TABLE, FloatTensorType([None, len(fields)]))]
    else:
        kinds = [StringTensorType if is_text else FloatTensorType for is_text in are_texts]
        inputs = [(f"c{place}", kind([None, 1])) for place, kind in enumerate(kinds)]
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = skl2onnx.to_onnx(estimator, initial_types=inputs, options=options)
    except Exception as error:
        raise NotCompiledError(_first_line(error)) from error
    for node in made.graph.node:
        if node.op_type == "StringNormalizer" and all(one.name != "locale" for one in node.attribute):
            # else it asks for en_US.UTF-8, which few machines have
            node.attribute.append(helper.make_attribute("locale", "C.UTF-8"))
    content: bytes = made.SerializeToString()
    return content


def _is_text(field: Field) -> bool:
    if field.type in ("string", "number", "integer", "boolean"):
        return field.type == "string"
    raise NotCompiledError(f"{field.name} is of type {field.type}, which is not converted")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
