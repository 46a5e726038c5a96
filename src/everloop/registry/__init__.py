"""Which trained models there are, and which of them may be used for what.

Answers: what is this version made of, has it passed its gates, who approved it, which stage had which version when,
and what exactly was released. A version is a number under a name and never changes; leaving `dev` takes passed (or
waived) gates and the approvals that the model asks for, and a stage may ask for terms of its own. A release is a version
approved for use: its manifest is what serving processes read; what is live is the rollout's word. Owns the tables
`model`, `model_tag`, `model_version`, `model_version_tag`, `approval`, `stage_event` and `release`; each change is
audited, told to webhooks, and linked from run to release in the lineage. What is deleted keeps its row.
May call checks, tracking, serving and below.
"""

from everloop.registry.describe import describe, describe_model, tag, tag_model, untag, untag_model
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
)
from everloop.registry.promote import alias, approve, archive, demote, drop_alias, promote, reject, unarchive
from everloop.registry.readiness import may_be_released, next_stage, readiness, waiting_for_approval
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
    StagePolicy,
    check_stages,
    people,
    stage,
)
from everloop.registry.register import Said, create, define, register
from everloop.registry.release import release, rewrite_manifests
from everloop.registry.remove import delete_model, delete_version, rename
from everloop.registry.search import search_models, search_versions
from everloop.registry.sources import register_source

__all__ = [
    "FREE_STAGE",
    "ApprovalRule",
    "Decision",
    "ModelVersion",
    "Obstacle",
    "Readiness",
    "RegisteredModel",
    "Release",
    "Said",
    "StageEvent",
    "StagePolicy",
    "alias",
    "aliases",
    "approve",
    "archive",
    "check_stages",
    "create",
    "decisions",
    "define",
    "delete_model",
    "delete_version",
    "demote",
    "describe",
    "describe_model",
    "drop_alias",
    "find_release",
    "history",
    "may_be_released",
    "model",
    "models",
    "next_stage",
    "people",
    "promote",
    "readiness",
    "register",
    "register_source",
    "reject",
    "release",
    "release_of",
    "releases",
    "rename",
    "rewrite_manifests",
    "search_models",
    "search_versions",
    "stage",
    "stages",
    "tag",
    "tag_model",
    "unarchive",
    "untag",
    "untag_model",
    "version",
    "version_before",
    "version_in_stage",
    "version_of_run",
    "versions",
    "waiting_for_approval",
]
