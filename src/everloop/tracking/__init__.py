"""What was run, with which code in which environment, and what came of it.

Answers: which runs there are, their parameters, metrics (each with its history), tags and files; and what exactly the
code and the installed packages were. Owns the tables `experiment`, `run`, `run_param`, `run_tag`, `run_metric`,
`run_latest_metric`, `run_artifact`, `code` and `environment`; files, diffs and source files are blobs. A run's id is
`run_` and 32 hex digits, which are its id for MLflow's clients. Parameters never change once logged; metrics are
added to, and a point that is logged twice counts once, so that any logging call may be repeated after a failure.
The capture of code and environment is linked to its runs in the lineage, and a run to its parent.
May call ledger and below.
"""

from everloop.tracking.files import artifacts, check_path, log_artifact, log_artifacts, read_artifact
from everloop.tracking.hardware import machine, machine_of, machine_tags
from everloop.tracking.imported import (
    SOURCE_TAG,
    ImportedRun,
    adopt,
    end_import,
    imported_runs,
    keep_imported,
)
from everloop.tracking.lifecycle import (
    experiments,
    finish_run,
    finish_run_in,
    resume_run,
    run,
    runs,
    start_run,
    start_run_in,
)
from everloop.tracking.measurements import (
    checked_point,
    log_metrics,
    log_params,
    log_points,
    log_tags,
    metric_history,
)
from everloop.tracking.rebuilding import build_locked, locked_environment, rebuild
from everloop.tracking.records import (
    DEFAULT_EXPERIMENT,
    Artifact,
    Code,
    Environment,
    Experiment,
    Machine,
    MetricPoint,
    Run,
    RunKind,
    RunStatus,
)
from everloop.tracking.software import capture_environment, environment, installed, keep_environment
from everloop.tracking.source_code import capture_code, check_out, code
from everloop.tracking.wheels import Wheels, drop_wheels, keep_wheels, kept_wheels

__all__ = [
    "DEFAULT_EXPERIMENT",
    "SOURCE_TAG",
    "Artifact",
    "Code",
    "Environment",
    "Experiment",
    "ImportedRun",
    "Machine",
    "MetricPoint",
    "Run",
    "RunKind",
    "RunStatus",
    "Wheels",
    "adopt",
    "artifacts",
    "build_locked",
    "capture_code",
    "capture_environment",
    "check_out",
    "check_path",
    "checked_point",
    "code",
    "drop_wheels",
    "end_import",
    "environment",
    "experiments",
    "finish_run",
    "finish_run_in",
    "imported_runs",
    "installed",
    "keep_environment",
    "keep_imported",
    "keep_wheels",
    "kept_wheels",
    "locked_environment",
    "log_artifact",
    "log_artifacts",
    "log_metrics",
    "log_params",
    "log_points",
    "log_tags",
    "machine",
    "machine_of",
    "machine_tags",
    "metric_history",
    "read_artifact",
    "rebuild",
    "resume_run",
    "run",
    "runs",
    "start_run",
    "start_run_in",
]
