"""What MLflow's clients ask of the server itself."""

from __future__ import annotations

from typing import Any

from starlette.responses import PlainTextResponse, Response

from everloop.api.mlflow.protocol import MlflowRoute, Nothing
from everloop.api.routes import Call
from everloop.serving import MLFLOW_VERSION

PROTOCOL_VERSION = MLFLOW_VERSION


def version(_call: Call, _asked: Nothing) -> Response:
    """The version of MLflow whose protocol is spoken here: clients choose their calls by it."""
    return PlainTextResponse(PROTOCOL_VERSION)


def server_info(_call: Call, _asked: Nothing) -> dict[str, Any]:
    """What the server can do beyond the calls that every MLflow server answers."""
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": True,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }


ROUTES = [
    MlflowRoute("GET", "version", None, version, version=None),
    MlflowRoute("GET", "mlflow/server-info", None, server_info, version="3.0"),
]
