"""What a live model answers.

Answers: which release serves a request, and what it says. The control plane writes releases (`write_manifest`), their
signatures and routes (`write_routes`) into `<home>/serving`; serving processes read them there, say how far they are
(`acknowledged`, `workers`) and append each answer to the log of `predictions`.
Owns no table: the data plane has files only and never opens the metadata database, so that predictions go on
when that is down. May call predictions, features, settings, ids, clock and errors. `run` is a server; it is loaded when
it is asked for, since others need no HTTP.
"""

from typing import TYPE_CHECKING, Any

from everloop.serving.files import (
    acknowledged,
    code_folder,
    crashes,
    has_routes,
    not_loaded,
    note_crash,
    online_path,
    read_manifest,
    read_routes,
    release_path,
    rule_headers,
    workers,
    write_manifest,
    write_routes,
)
from everloop.serving.http import BODIES_AT_ONCE, BODY_LIMIT_BYTES, Refusal, Room, read_body
from everloop.serving.loaded import (
    Loaded,
    class_names,
    load_files,
    load_skops,
    numbers,
    of_estimator,
    of_scores,
    predicts_the_most_probable,
    untrusted_types,
)
from everloop.serving.mlmodel import FUNCTION_FLAVOR, FunctionSource, Layout, layout_of
from everloop.serving.paths import MLFLOW_VERSION
from everloop.serving.paths import ROUTES as PREDICTION_ROUTES
from everloop.serving.predictor import Failure, Predictor, Ranked
from everloop.serving.records import (
    TRIED,
    WITH_CODE,
    Approval,
    Compiled,
    Field,
    FieldType,
    Limits,
    Manifest,
    Route,
    RouteTable,
    Rule,
    Segment,
    Signature,
    Variant,
    Worker,
)
from everloop.serving.route import HOLDBACK, assign, choose, is_placed
from everloop.serving.scorer import Scorer
from everloop.serving.signature import IMAGE_STARTS, FieldProblem, check, example_row, refusals, takes_all
from everloop.serving.signed import (
    SIGNERS,
    Signed,
    Signer,
    check_key,
    need_signer,
    read_signed,
    read_signers,
    verified_manifest,
    what_is_wrong,
    write_signed,
    write_signers,
)
from everloop.serving.tryout import Findings, compare_plan, try_out, try_out_trusted

if TYPE_CHECKING:
    from everloop.serving.app import run
    from everloop.serving.connections import BODY_S, STEP_BYTES, Server
    from everloop.serving.local import LocalServer, Question

__all__ = [
    "BODIES_AT_ONCE",
    "BODY_LIMIT_BYTES",
    "BODY_S",
    "FUNCTION_FLAVOR",
    "HOLDBACK",
    "IMAGE_STARTS",
    "MLFLOW_VERSION",
    "PREDICTION_ROUTES",
    "SIGNERS",
    "STEP_BYTES",
    "TRIED",
    "WITH_CODE",
    "Approval",
    "Compiled",
    "Failure",
    "Field",
    "FieldProblem",
    "FieldType",
    "Findings",
    "FunctionSource",
    "Layout",
    "Limits",
    "Loaded",
    "LocalServer",
    "Manifest",
    "Predictor",
    "Question",
    "Ranked",
    "Refusal",
    "Room",
    "Route",
    "RouteTable",
    "Rule",
    "Scorer",
    "Segment",
    "Server",
    "Signature",
    "Signed",
    "Signer",
    "Variant",
    "Worker",
    "acknowledged",
    "assign",
    "check",
    "check_key",
    "choose",
    "class_names",
    "code_folder",
    "compare_plan",
    "crashes",
    "example_row",
    "has_routes",
    "is_placed",
    "layout_of",
    "load_files",
    "load_skops",
    "need_signer",
    "not_loaded",
    "note_crash",
    "numbers",
    "of_estimator",
    "of_scores",
    "online_path",
    "predicts_the_most_probable",
    "read_body",
    "read_manifest",
    "read_routes",
    "read_signed",
    "read_signers",
    "refusals",
    "release_path",
    "rule_headers",
    "run",
    "takes_all",
    "try_out",
    "try_out_trusted",
    "untrusted_types",
    "verified_manifest",
    "what_is_wrong",
    "workers",
    "write_manifest",
    "write_routes",
    "write_signed",
    "write_signers",
]


def __getattr__(name: str) -> Any:
    if name == "run":
        from everloop.serving import app  # noqa: PLC0415  (uvicorn: a third of a second that readers do not need)

        return app.run
    if name in ("BODY_S", "STEP_BYTES", "Server"):
        from everloop.serving import connections  # noqa: PLC0415  (as above)

        return getattr(connections, name)
    if name in ("LocalServer", "Question"):
        from everloop.serving import local  # noqa: PLC0415  (asyncio, for who replays the past alone)

        return getattr(local, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
