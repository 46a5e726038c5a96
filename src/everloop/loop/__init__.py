"""The loop file: how it begins, what a user declares, what that changes, how a declared model is trained and delivered.

Answers: what is a table about and which loop file suits it, what is declared now, what would applying a file change, and
how does a declaration become a trained, gated, released and rolled-out version. Owns the table `loop_version`. A loop
file only declares; loading it runs the user's code, in commands and job processes, never in the process that answers
the API, which knows declarations from their stored form. May call retraining, rollout, monitoring and all rooms below.
"""

from everloop.loop.apply import apply, loaded, newest
from everloop.loop.begin import Begun, Look, begin, check_unused, labelled_rows, look, write_project
from everloop.loop.declare import (
    Collection,
    DeclaredDataset,
    DeclaredEndpoint,
    DeclaredFeature,
    DeclaredLabels,
    DeclaredModel,
    DeclaredRetraining,
    collecting,
    dataset,
    endpoint,
    feature,
    label_set,
    model,
    retrain,
)
from everloop.loop.deliver import deliver, has_approved, prepare_release, restore
from everloop.loop.facts import plain_name
from everloop.loop.guess import ColumnGuess, Guess, Wanted
from everloop.loop.load import Loop, load
from everloop.loop.plan import Change, plan, stored
from everloop.loop.project import LOOP_FILE, Names, check_free, minimal_loop_file, write
from everloop.loop.score import score
from everloop.loop.store import LoopVersion
from everloop.loop.train import Trained, judged_rows, train, train_job

__all__ = [
    "LOOP_FILE",
    "Begun",
    "Change",
    "Collection",
    "ColumnGuess",
    "DeclaredDataset",
    "DeclaredEndpoint",
    "DeclaredFeature",
    "DeclaredLabels",
    "DeclaredModel",
    "DeclaredRetraining",
    "Guess",
    "Look",
    "Loop",
    "LoopVersion",
    "Names",
    "Trained",
    "Wanted",
    "apply",
    "begin",
    "check_free",
    "check_unused",
    "collecting",
    "dataset",
    "deliver",
    "endpoint",
    "feature",
    "has_approved",
    "judged_rows",
    "label_set",
    "labelled_rows",
    "load",
    "loaded",
    "look",
    "minimal_loop_file",
    "model",
    "newest",
    "plain_name",
    "plan",
    "prepare_release",
    "restore",
    "retrain",
    "score",
    "stored",
    "train",
    "train_job",
    "write",
    "write_project",
]
