"""The same pipeline as an MLflow model, for mlflow models serve.

python mlflow_model.py FOLDER, with the environment of `rows`
"""

from __future__ import annotations

import sys

import mlflow
import rows
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

TYPES = {"string": "string", "integer": "long"}
inputs = Schema(
    [
        ColSpec(TYPES[kind], name, required=not may_be_null)
        for name, (kind, may_be_null) in rows.FIELDS.items()
    ]
)
signature = ModelSignature(inputs=inputs, outputs=Schema([ColSpec("string")]))
mlflow.sklearn.save_model(
    rows.Model().pipeline, sys.argv[1], signature=signature, serialization_format="cloudpickle"
)
