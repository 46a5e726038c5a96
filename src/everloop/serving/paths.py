"""What the prediction server answers, and who may ask: for whoever forwards to it, and for the reference page."""

from __future__ import annotations

from typing import Literal

ROUTES: tuple[tuple[str, str, Literal["predict", "public"]], ...] = (
    ("POST", "/endpoints/{name}/predict", "predict"),
    ("GET", "/endpoints/{name}/openapi.json", "predict"),
    ("POST", "/endpoints/{name}/invocations", "predict"),
    ("POST", "/invocations", "predict"),
    ("GET", "/ping", "public"),
    ("GET", "/version", "public"),
    ("GET", "/v2", "public"),
    ("GET", "/v2/health/live", "public"),
    ("GET", "/v2/health/ready", "public"),
    ("GET", "/v2/models", "predict"),
    ("GET", "/v2/models/{name}", "predict"),
    ("GET", "/v2/models/{name}/ready", "predict"),
    ("POST", "/v2/models/{name}/infer", "predict"),
    ("GET", "/v2/models/{name}/versions/{version}", "predict"),
    ("GET", "/v2/models/{name}/versions/{version}/ready", "predict"),
    ("POST", "/v2/models/{name}/versions/{version}/infer", "predict"),
    ("GET", "/v1/models", "predict"),
    ("GET", "/v1/models/{name}", "predict"),
    ("POST", "/v1/models/{name}:predict", "predict"),
    ("POST", "/v1/models/{name}:explain", "predict"),
    ("GET", "/health", "public"),
    ("GET", "/ready", "public"),
    ("GET", "/", "public"),
)
"""Method, path and permission of each route."""

MLFLOW_VERSION = "3.17.2"
"""Whose protocol is spoken where MLflow's clients ask."""
