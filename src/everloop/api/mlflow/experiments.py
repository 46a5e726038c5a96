"""Routes of experiments."""

from __future__ import annotations

from everloop.api.mlflow.protocol import MlflowRoute

ROUTES: list[MlflowRoute] = []
