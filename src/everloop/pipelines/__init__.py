"""Steps and pipelines: what is run in which order, what of it must run again, and what came of it.

Answers: how does a result come about, can a run go on where a dead process left it, why did a step run, does the same
come of a run that is done again, and what tells two runs apart. A pipeline's body is traced into a static graph; a run
executes it from a snapshot of the code, journals each step under a fencing token, keeps each result by content and takes
from the cache what nothing has changed of. Owns the tables `pipeline_run`, `step_run` and `step_source`; a run is a
tracking run of the same id. Also what steps hand to each other: tables, splits and models. May call registry and below.
Names are loaded when they are asked for: a loop file that only declares needs no database and no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.pipelines.builtin import best, when
    from everloop.pipelines.comparison import (
        AnswerDifference,
        Comparison,
        DataDifference,
        LabelDifference,
        compare,
    )
    from everloop.pipelines.executors import Executor, Inline
    from everloop.pipelines.explanation import why
    from everloop.pipelines.fitting import fit
    from everloop.pipelines.graph import Graph
    from everloop.pipelines.ingredients import Difference
    from everloop.pipelines.logs import printed
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
    from everloop.pipelines.plan import Plan, PlannedStep
    from everloop.pipelines.processes import Processes
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
        Why,
    )
    from everloop.pipelines.reproduction import (
        DEFAULT_TOLERANCE,
        REPRODUCE,
        Reproduction,
        ask_to_reproduce,
        reproduce,
        reproduce_job,
        verdicts_on,
    )
    from everloop.pipelines.run import cancel, resume, run_pipeline
    from everloop.pipelines.seeds import DEFAULT_SEED
    from everloop.pipelines.steps import Step, step
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
    "Processes": "processes",
    "when": "builtin",
    "why": "explanation",
    "fit": "fitting",
    "Graph": "graph",
    "Pipeline": "tracing",
    "pipeline": "tracing",
    "Confusion": "overview",
    "confusion": "overview",
    "RunLine": "overview",
    "RunOrder": "overview",
    "RunOverview": "overview",
    "attempts_at": "overview",
    "calls_of": "overview",
    "pipeline_names": "overview",
    "printed": "logs",
    "run_lines": "overview",
    "run_overview": "overview",
    "Plan": "plan",
    "PlannedStep": "plan",
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
    "DEFAULT_TOLERANCE": "reproduction",
    "REPRODUCE": "reproduction",
    "Reproduction": "reproduction",
    "ask_to_reproduce": "reproduction",
    "reproduce_job": "reproduction",
    "reproduce": "reproduction",
    "verdicts_on": "reproduction",
    "cancel": "run",
    "resume": "run",
    "run_pipeline": "run",
    "DEFAULT_SEED": "seeds",
    "Step": "steps",
    "step": "steps",
    "Model": "values",
    "Split": "values",
    "Table": "values",
    "as_objects": "values",
    "split": "values",
    "with_facts": "values",
    "with_features": "values",
}

__all__ = [
    "DEFAULT_SEED",
    "DEFAULT_TOLERANCE",
    "REPRODUCE",
    "AnswerDifference",
    "Change",
    "Comparison",
    "Confusion",
    "DataDifference",
    "Difference",
    "Executor",
    "Graph",
    "Inline",
    "LabelDifference",
    "Model",
    "OnProgress",
    "Pinned",
    "Pipeline",
    "PipelineRun",
    "Plan",
    "PlannedStep",
    "Processes",
    "Progress",
    "Reproduction",
    "RunLine",
    "RunOrder",
    "RunOverview",
    "RunState",
    "Source",
    "Split",
    "Step",
    "StepRun",
    "Stored",
    "Table",
    "Why",
    "as_objects",
    "ask_to_reproduce",
    "attempts_at",
    "best",
    "calls_of",
    "cancel",
    "compare",
    "confusion",
    "files_of_model",
    "fit",
    "held_out_answers",
    "output_of",
    "pipeline",
    "pipeline_names",
    "pipeline_run",
    "pipeline_runs",
    "printed",
    "reproduce",
    "reproduce_job",
    "result",
    "resume",
    "run_lines",
    "run_overview",
    "run_pipeline",
    "split",
    "step",
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
