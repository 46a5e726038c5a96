"""Outside systems, one module each, named as its extra: the only place where their packages are imported.

Answers: how does a pipeline of ours look to another engine. The files that are written for Airflow and Kubeflow need
neither to be installed here; Ray does. Owns no tables. May call governance and all rooms below; a room that can use what
stands here finds it by its entry point.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.adapters.airflow import airflow_dag
    from everloop.adapters.carrying import Carried, LeftOut
    from everloop.adapters.elsewhere import Exported, exported
    from everloop.adapters.kubeflow import kubeflow_ir
    from everloop.adapters.mlflow_import import import_mlflow
    from everloop.adapters.tensorboard_import import import_tensorboard
    from everloop.adapters.wandb_import import import_wandb

_HOMES = {
    "airflow_dag": "airflow",
    "Carried": "carrying",
    "Exported": "elsewhere",
    "LeftOut": "carrying",
    "exported": "elsewhere",
    "import_mlflow": "mlflow_import",
    "import_tensorboard": "tensorboard_import",
    "import_wandb": "wandb_import",
    "kubeflow_ir": "kubeflow",
}

__all__ = [
    "Carried",
    "Exported",
    "LeftOut",
    "airflow_dag",
    "exported",
    "import_mlflow",
    "import_tensorboard",
    "import_wandb",
    "kubeflow_ir",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
