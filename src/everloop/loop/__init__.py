"""The loop file: what a user declares, what that changes, and how a declared model is trained and delivered.

Answers: what is declared now, what would applying a file change, and how does a declaration become a trained, gated,
released and rolled-out version. Owns the table `loop_version`. A loop file only declares; loading it runs the user's
code, in commands and job processes, never in the process that answers the API, which knows declarations from their
stored form. May call retraining, rollout, monitoring and all rooms below.
"""

from everloop.loop.apply import apply, loaded, newest
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
from everloop.loop.load import Loop, load
from everloop.loop.plan import Change, plan
from everloop.loop.score import score
from everloop.loop.store import LoopVersion
from everloop.loop.train import Trained, train, train_job

__all__ = [
    "Change",
    "Collection",
    "DeclaredDataset",
    "DeclaredEndpoint",
    "DeclaredFeature",
    "DeclaredLabels",
    "DeclaredModel",
    "DeclaredRetraining",
    "Loop",
    "LoopVersion",
    "Trained",
    "apply",
    "collecting",
    "dataset",
    "deliver",
    "endpoint",
    "feature",
    "has_approved",
    "label_set",
    "load",
    "loaded",
    "model",
    "newest",
    "plan",
    "prepare_release",
    "restore",
    "retrain",
    "score",
    "train",
    "train_job",
]
