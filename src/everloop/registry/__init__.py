"""Which trained models there are, and which of them may be used for what.

Answers: what is this version made of, has it passed its gates, who approved it, which stage had which version when,
and what exactly was released. A version is a number under a name and never changes; leaving `dev` takes passed (or
waived) gates and the approvals that the model asks for. A release is a version approved for use: its manifest is
what serving processes read; what is live is the rollout's word. Owns the tables `model`, `model_version`,
`approval`, `stage_event` and `release`; each change is audited, and linked from run to release in the lineage.
May call checks, tracking, serving and below.
"""

from everloop.registry.find import (
    aliases,
    decisions,
    find_release,
    history,
    model,
    models,
    release_of,
    releases,
    stages,
    version,
    version_before,
    version_in_stage,
    version_of_run,
    versions,
    versions_of_runs,
)
from everloop.registry.promote import alias, approve, drop_alias, promote, reject, vacate
from everloop.registry.readiness import may_be_released, readiness, waiting_for_approval
from everloop.registry.records import (
    FREE_STAGE,
    ApprovalRule,
    Decision,
    ModelVersion,
    Obstacle,
    Readiness,
    RegisteredModel,
    Release,
    StageEvent,
    people,
)
from everloop.registry.register import define, register
from everloop.registry.release import release, rewrite_manifests

__all__ = [
    "FREE_STAGE",
    "ApprovalRule",
    "Decision",
    "ModelVersion",
    "Obstacle",
    "Readiness",
    "RegisteredModel",
    "Release",
    "StageEvent",
    "alias",
    "aliases",
    "approve",
    "decisions",
    "define",
    "drop_alias",
    "find_release",
    "history",
    "may_be_released",
    "model",
    "models",
    "people",
    "promote",
    "readiness",
    "register",
    "reject",
    "release",
    "release_of",
    "releases",
    "rewrite_manifests",
    "stages",
    "vacate",
    "version",
    "version_before",
    "version_in_stage",
    "version_of_run",
    "versions",
    "versions_of_runs",
    "waiting_for_approval",
]
