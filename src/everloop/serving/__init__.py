"""What a live model answers, and what was answered.

Answers: which release serves a request, what it says, and what every prediction looked like. The control plane
writes releases (`write_manifest`), their signatures and routes (`write_routes`) into `<home>/serving`; serving processes read
them there, say how far they are (`acknowledged`, `workers`) and append each answer to the prediction log, which
`log.read`, `log.batches`, `log.find` and `log.seal` work on.
Owns no table: the data plane has files only and never opens the metadata database, so that predictions go on
when that is down. May call features, settings, ids, clock and errors. `run` is a server; it is loaded when
it is asked for, since readers of the log need no HTTP.
"""

from typing import TYPE_CHECKING, Any

from everloop.serving import log
from everloop.serving.files import (
    acknowledged,
    code_folder,
    has_routes,
    online_path,
    read_manifest,
    read_routes,
    release_path,
    rule_headers,
    workers,
    write_manifest,
    write_routes,
)
from everloop.serving.kept import hashed, log_key, uniform
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
from everloop.serving.newest import (
    FoundPredictions,
    PredictionKind,
    PredictionSearch,
    kind_of,
    newest_predictions,
)
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
    LogPolicy,
    Manifest,
    Personal,
    PredictionRecord,
    Route,
    RouteTable,
    Rule,
    Segment,
    Signature,
    Variant,
    Worker,
)
from everloop.serving.route import HOLDBACK, assign, choose, is_placed
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
    from everloop.serving.local import LocalServer, Question

__all__ = [
    "FUNCTION_FLAVOR",
    "HOLDBACK",
    "IMAGE_STARTS",
    "MLFLOW_VERSION",
    "PREDICTION_ROUTES",
    "SIGNERS",
    "TRIED",
    "WITH_CODE",
    "Approval",
    "Compiled",
    "Failure",
    "Field",
    "FieldProblem",
    "FieldType",
    "Findings",
    "FoundPredictions",
    "FunctionSource",
    "Layout",
    "Limits",
    "Loaded",
    "LocalServer",
    "LogPolicy",
    "Manifest",
    "Personal",
    "PredictionKind",
    "PredictionRecord",
    "PredictionSearch",
    "Predictor",
    "Question",
    "Ranked",
    "Route",
    "RouteTable",
    "Rule",
    "Segment",
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
    "example_row",
    "has_routes",
    "hashed",
    "is_placed",
    "kind_of",
    "layout_of",
    "load_files",
    "load_skops",
    "log",
    "log_key",
    "need_signer",
    "newest_predictions",
    "numbers",
    "of_estimator",
    "of_scores",
    "online_path",
    "predicts_the_most_probable",
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
    "uniform",
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
    if name in ("LocalServer", "Question"):
        from everloop.serving import local  # noqa: PLC0415  (asyncio, for who replays the past alone)

        return getattr(local, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
