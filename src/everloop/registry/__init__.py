"""Which trained models there are, and which of them may be used for what.

Answers: what is this version made of, has it passed its gates, who approved it, which stage had which version when,
and what exactly was released. A version is a number under a name and never changes; leaving `dev` takes passed (or
waived) gates and the approvals that the model asks for, and a stage may ask for terms of its own. A release is a version
approved for use: its manifest is what serving processes read; what is live is the rollout's word. Owns the tables
`model`, `model_tag`, `model_version`, `model_version_tag`, `version_signature`, `version_trust`, `approval`,
`stage_event` and `release`; each change is audited, told to webhooks, and linked from run to release in the lineage.
A version is signed when it is registered, by a key kept outside the database. What is deleted keeps its row.
May call access, checks, tracking, serving and below.
"""

from everloop.registry.describe import describe, describe_model, tag, tag_model, untag, untag_model
from everloop.registry.examine import layout
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
    stays,
    version,
    version_before,
    version_in_stage,
    version_of_run,
    versions,
    versions_made_by,
    versions_of_logged_models,
    versions_of_runs,
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
    Trust,
    check_stages,
    people,
    stage,
)
from everloop.registry.register import Said, create, define, register, register_folder
from everloop.registry.release import candidate, loadable, release, rewrite_manifests
from everloop.registry.remove import delete_model, delete_version, rename
from everloop.registry.search import search_models, search_versions
from everloop.registry.signing import (
    Verification,
    add_key,
    distrust_key,
    rotate_key,
    sign,
    signing_keys,
    verify,
)
from everloop.registry.sources import register_source
from everloop.registry.trusting import trust

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
    "Trust",
    "Verification",
    "add_key",
    "alias",
    "aliases",
    "approve",
    "archive",
    "candidate",
    "check_stages",
    "create",
    "decisions",
    "define",
    "delete_model",
    "delete_version",
    "demote",
    "describe",
    "describe_model",
    "distrust_key",
    "drop_alias",
    "find_release",
    "history",
    "layout",
    "loadable",
    "may_be_released",
    "model",
    "models",
    "next_stage",
    "people",
    "promote",
    "readiness",
    "register",
    "register_folder",
    "register_source",
    "reject",
    "release",
    "release_of",
    "releases",
    "rename",
    "rewrite_manifests",
    "rotate_key",
    "search_models",
    "search_versions",
    "sign",
    "signing_keys",
    "stage",
    "stages",
    "stays",
    "tag",
    "tag_model",
    "trust",
    "unarchive",
    "untag",
    "untag_model",
    "vacate",
    "verify",
    "version",
    "version_before",
    "version_in_stage",
    "version_of_run",
    "versions",
    "versions_made_by",
    "versions_of_logged_models",
    "versions_of_runs",
    "waiting_for_approval",
]
