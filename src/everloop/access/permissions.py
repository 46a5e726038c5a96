"""The one table of roles and what each may do."""

from __future__ import annotations

from typing import Literal, get_args

Permission = Literal[
    "see",  # read any page and record
    "predict",  # ask an endpoint
    "correct",  # report that an answer was right or wrong
    "label",  # give labels
    "review",  # settle disagreements and review items
    "run",  # ingest data, run pipelines, log and register
    "approve",  # approve or refuse a model version
    "release",  # start, pause and roll back rollouts
    "administer",  # accounts, tokens, settings, erasure
]
Role = Literal["viewer", "client", "annotator", "reviewer", "engineer", "owner"]

ROLES: dict[Role, frozenset[Permission]] = {
    "viewer": frozenset({"see"}),
    "client": frozenset({"predict", "correct"}),
    "annotator": frozenset({"see", "label"}),
    "reviewer": frozenset({"see", "label", "review", "correct", "approve"}),
    "engineer": frozenset({"see", "predict", "correct", "label", "run", "release"}),
    "owner": frozenset(get_args(Permission)),
}


def permissions_of(role: Role) -> frozenset[Permission]:
    return ROLES[role]
