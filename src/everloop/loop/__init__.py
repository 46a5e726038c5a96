"""The loop file: how it begins, what a user declares, what that changes, how a declared model is trained and delivered.

Answers: what is a table about and which loop file suits it, what is declared now, what would applying a file change, how
does a declaration become a trained, gated, released and rolled-out version, and what does that say of a whole table. Owns
the table `loop_version`. A loop file only declares; loading it runs the user's code, in commands and job processes, never
in the process that answers the API, which knows declarations from their stored form. May call retraining, rollout,
monitoring and all rooms below.
"""

from everloop.loop.again import (
    FORK,
    GO_ON,
    ask_to_fork,
    ask_to_go_on,
    fork,
    fork_job,
    go_on,
    go_on_job,
)
from everloop.loop.apply import apply, loaded, newest
from everloop.loop.batch import PART_ROWS, Batch, score_batch
from everloop.loop.begin import Begun, Look, begin, check_unused, labelled_rows, look, write_project
from everloop.loop.declare import (
    Collection,
    DeclaredDataset,
    DeclaredEndpoint,
    DeclaredFeature,
    DeclaredLabels,
    DeclaredLimit,
    DeclaredModel,
    DeclaredPool,
    DeclaredRetraining,
    DeclaredScoring,
    DeclaredSearch,
    DeclaredTrigger,
    all_missed,
    collecting,
    dataset,
    endpoint,
    feature,
    label_set,
    limit,
    model,
    pool,
    prediction_log,
    retrain,
    scoring,
    search,
    trigger,
)
from everloop.loop.deliver import deliver, has_approved, prepare_release, rehearse_release, restore
from everloop.loop.facts import plain_name
from everloop.loop.golden_rows import Answered, accept_golden, answer_golden, make_golden
from everloop.loop.guess import ColumnGuess, Guess, Wanted
from everloop.loop.judge_rows import judge_rows
from everloop.loop.load import Loop, load
from everloop.loop.plan import Change, plan, stored
from everloop.loop.project import LOOP_FILE, Names, check_free, minimal_loop_file, write
from everloop.loop.rows import Query
from everloop.loop.score import score
from everloop.loop.store import LoopVersion
from everloop.loop.train import (
    Trained,
    end_training,
    judged_rows,
    pipeline_job,
    train,
    train_job,
)

__all__ = [
    "FORK",
    "GO_ON",
    "LOOP_FILE",
    "PART_ROWS",
    "Answered",
    "Batch",
    "Begun",
    "Change",
    "Collection",
    "ColumnGuess",
    "DeclaredDataset",
    "DeclaredEndpoint",
    "DeclaredFeature",
    "DeclaredLabels",
    "DeclaredLimit",
    "DeclaredModel",
    "DeclaredPool",
    "DeclaredRetraining",
    "DeclaredScoring",
    "DeclaredSearch",
    "DeclaredTrigger",
    "Guess",
    "Look",
    "Loop",
    "LoopVersion",
    "Names",
    "Query",
    "Trained",
    "Wanted",
    "accept_golden",
    "all_missed",
    "answer_golden",
    "apply",
    "ask_to_fork",
    "ask_to_go_on",
    "begin",
    "check_free",
    "check_unused",
    "collecting",
    "dataset",
    "deliver",
    "end_training",
    "endpoint",
    "feature",
    "fork",
    "fork_job",
    "go_on",
    "go_on_job",
    "has_approved",
    "judge_rows",
    "judged_rows",
    "label_set",
    "labelled_rows",
    "limit",
    "load",
    "loaded",
    "look",
    "make_golden",
    "minimal_loop_file",
    "model",
    "newest",
    "pipeline_job",
    "plain_name",
    "plan",
    "pool",
    "prediction_log",
    "prepare_release",
    "rehearse_release",
    "restore",
    "retrain",
    "score",
    "score_batch",
    "scoring",
    "search",
    "stored",
    "train",
    "train_job",
    "trigger",
    "write",
    "write_project",
]
