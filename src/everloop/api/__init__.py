"""The JSON routes: parse, authorise, call one verb, shape the reply; no rule of the domain.

Answers every request on the control port. Owns no table. Each route names the permission it needs (a route without
one cannot be declared), state-changing calls are refused from foreign origins, errors become the one table of
statuses in `answers`. One module per room holds its routes; `app` puts them together. May call any room below.
"""

from everloop.api.answers import EXIT_CODES, STATUSES, exit_code_of, status_of
from everloop.api.app import create_app, error_answer, guarded
from everloop.api.callers import SESSION_COOKIE, address_of, recognise
from everloop.api.guard import check_address
from everloop.api.mlflow import MLFLOW_STATUSES, PROTOCOL_VERSION, MlflowRoute, mlflow_routes
from everloop.api.predictions import Asked as PredictionsAsked
from everloop.api.predictions import Logged, found_predictions
from everloop.api.routes import Call, Route, all_routes, read_query

__all__ = [
    "EXIT_CODES",
    "MLFLOW_STATUSES",
    "PROTOCOL_VERSION",
    "SESSION_COOKIE",
    "STATUSES",
    "Call",
    "Logged",
    "MlflowRoute",
    "PredictionsAsked",
    "Route",
    "address_of",
    "all_routes",
    "check_address",
    "create_app",
    "error_answer",
    "exit_code_of",
    "found_predictions",
    "guarded",
    "mlflow_routes",
    "read_query",
    "recognise",
    "status_of",
]
