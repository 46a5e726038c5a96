"""Steps and pipelines: what is run in which order, what of it must run again, and what came of it.

Answers: how does a result come about, can a run go on where a dead process left it, why did a step run, does the same
come of a run that is done again, and what tells two runs apart. A pipeline's body is traced into a static graph; a run
executes it from a snapshot of the code, journals each step under a fencing token, keeps each result by content and takes
from the cache what nothing has changed of. Owns the tables `pipeline_run`, `step_run`, `step_source`, `outside_run` and
`step_share`; a run is a
tracking run of the same id. Also what steps hand to each other: tables, splits and models. May call registry and below.
Names are loaded when they are asked for: a loop file that only declares needs no database and no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.pipelines.admission import resources_of
    from everloop.pipelines.builtin import best, when
    from everloop.pipelines.choosing import executor_named
    from everloop.pipelines.comparison import (
        AnswerDifference,
        Comparison,
        DataDifference,
        LabelDifference,
        compare,
    )
    from everloop.pipelines.executors import Executor, Inline, Work
    from everloop.pipelines.explanation import why
    from everloop.pipelines.fitting import fit
    from everloop.pipelines.forking import fork
    from everloop.pipelines.from_function import FunctionModel, function_model
    from everloop.pipelines.graph import Graph, Guard
    from everloop.pipelines.ingredients import Difference
    from everloop.pipelines.inside import log_artifact, log_metrics, log_params, log_tags, start_run
    from everloop.pipelines.lean import Lean
    from everloop.pipelines.logs import follow, printed
    from everloop.pipelines.outside import end_run, run_of, run_step, step_items
    from everloop.pipelines.overview import (
        Confusion,
        RunLine,
        RunOrder,
        RunOverview,
        attempts_at,
        calls_of,
        confusion,
        pipeline_names,
        run_lines,
        run_overview,
    )
    from everloop.pipelines.parameters import Between, between
    from everloop.pipelines.perform import Outcome, Task
    from everloop.pipelines.plan import Plan, Planned, PlannedStep, plan_run
    from everloop.pipelines.processes import Processes
    from everloop.pipelines.project import files_reached
    from everloop.pipelines.queries import sql
    from everloop.pipelines.reading import (
        files_of_model,
        held_out_answers,
        output_of,
        pipeline_run,
        pipeline_runs,
        result,
        step_run,
    )
    from everloop.pipelines.records import (
        Change,
        OnProgress,
        Pinned,
        PipelineRun,
        Progress,
        RunState,
        Source,
        StepRun,
        Stored,
        Touched,
        Why,
    )
    from everloop.pipelines.reports import Report, report, reports_of
    from everloop.pipelines.reproduction import (
        DEFAULT_TOLERANCE,
        REPRODUCE,
        Reproduction,
        ask_to_reproduce,
        reproduce,
        reproduce_job,
        verdicts_on,
    )
    from everloop.pipelines.run import begin_run, cancel, is_known, pause, planned, resume, run_pipeline
    from everloop.pipelines.secret_names import Secret, secret
    from everloop.pipelines.seeds import DEFAULT_SEED
    from everloop.pipelines.serializers import serializer
    from everloop.pipelines.snapshot import entry_file
    from everloop.pipelines.steps import Step, step
    from everloop.pipelines.touched import listed
    from everloop.pipelines.tracing import Pipeline, pipeline
    from everloop.pipelines.values import (
        Model,
        Split,
        Table,
        as_objects,
        split,
        with_facts,
        with_features,
    )

_HOMES = {
    "AnswerDifference": "comparison",
    "DataDifference": "comparison",
    "LabelDifference": "comparison",
    "Difference": "ingredients",
    "Comparison": "comparison",
    "compare": "comparison",
    "best": "builtin",
    "Executor": "executors",
    "Inline": "executors",
    "Lean": "lean",
    "follow": "logs",
    "printed": "logs",
    "resources_of": "admission",
    "Work": "executors",
    "executor_named": "choosing",
    "Outcome": "perform",
    "Task": "perform",
    "Plan": "plan",
    "Planned": "plan",
    "PlannedStep": "plan",
    "plan_run": "plan",
    "Processes": "processes",
    "end_run": "outside",
    "run_of": "outside",
    "run_step": "outside",
    "step_items": "outside",
    "when": "builtin",
    "why": "explanation",
    "fit": "fitting",
    "Graph": "graph",
    "Guard": "graph",
    "Pipeline": "tracing",
    "files_reached": "project",
    "pipeline": "tracing",
    "Confusion": "overview",
    "confusion": "overview",
    "RunLine": "overview",
    "RunOrder": "overview",
    "RunOverview": "overview",
    "attempts_at": "overview",
    "calls_of": "overview",
    "pipeline_names": "overview",
    "run_lines": "overview",
    "run_overview": "overview",
    "sql": "queries",
    "held_out_answers": "reading",
    "files_of_model": "reading",
    "output_of": "reading",
    "pipeline_run": "reading",
    "pipeline_runs": "reading",
    "result": "reading",
    "step_run": "reading",
    "Change": "records",
    "OnProgress": "records",
    "Pinned": "records",
    "PipelineRun": "records",
    "Progress": "records",
    "RunState": "records",
    "Source": "records",
    "StepRun": "records",
    "Stored": "records",
    "Why": "records",
    "Report": "reports",
    "log_artifact": "inside",
    "log_metrics": "inside",
    "log_params": "inside",
    "log_tags": "inside",
    "start_run": "inside",
    "report": "reports",
    "reports_of": "reports",
    "DEFAULT_TOLERANCE": "reproduction",
    "REPRODUCE": "reproduction",
    "Reproduction": "reproduction",
    "ask_to_reproduce": "reproduction",
    "reproduce_job": "reproduction",
    "reproduce": "reproduction",
    "verdicts_on": "reproduction",
    "fork": "forking",
    "FunctionModel": "from_function",
    "function_model": "from_function",
    "begin_run": "run",
    "cancel": "run",
    "pause": "run",
    "planned": "run",
    "resume": "run",
    "run_pipeline": "run",
    "DEFAULT_SEED": "seeds",
    "entry_file": "snapshot",
    "Step": "steps",
    "step": "steps",
    "Model": "values",
    "Split": "values",
    "Table": "values",
    "as_objects": "values",
    "split": "values",
    "with_facts": "values",
    "with_features": "values",
    "Touched": "records",
    "is_known": "run",
    "listed": "touched",
    "Secret": "secret_names",
    "secret": "secret_names",
    "serializer": "serializers",
    "Between": "parameters",
    "between": "parameters",
}

__all__ = [
    "DEFAULT_SEED",
    "DEFAULT_TOLERANCE",
    "REPRODUCE",
    "AnswerDifference",
    "Between",
    "Change",
    "Comparison",
    "Confusion",
    "DataDifference",
    "Difference",
    "Executor",
    "FunctionModel",
    "Graph",
    "Guard",
    "Inline",
    "LabelDifference",
    "Lean",
    "Model",
    "OnProgress",
    "Outcome",
    "Pinned",
    "Pipeline",
    "PipelineRun",
    "Plan",
    "Planned",
    "PlannedStep",
    "Processes",
    "Progress",
    "Report",
    "Reproduction",
    "RunLine",
    "RunOrder",
    "RunOverview",
    "RunState",
    "Secret",
    "Source",
    "Split",
    "Step",
    "StepRun",
    "Stored",
    "Table",
    "Task",
    "Touched",
    "Why",
    "Work",
    "as_objects",
    "ask_to_reproduce",
    "attempts_at",
    "begin_run",
    "best",
    "between",
    "calls_of",
    "cancel",
    "compare",
    "confusion",
    "end_run",
    "entry_file",
    "executor_named",
    "files_of_model",
    "files_reached",
    "fit",
    "follow",
    "fork",
    "function_model",
    "held_out_answers",
    "is_known",
    "listed",
    "log_artifact",
    "log_metrics",
    "log_params",
    "log_tags",
    "output_of",
    "pause",
    "pipeline",
    "pipeline_names",
    "pipeline_run",
    "pipeline_runs",
    "plan_run",
    "planned",
    "printed",
    "report",
    "reports_of",
    "reproduce",
    "reproduce_job",
    "resources_of",
    "result",
    "resume",
    "run_lines",
    "run_of",
    "run_overview",
    "run_pipeline",
    "run_step",
    "secret",
    "serializer",
    "split",
    "sql",
    "start_run",
    "step",
    "step_items",
    "step_run",
    "verdicts_on",
    "when",
    "why",
    "with_facts",
    "with_features",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
