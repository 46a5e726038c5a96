"""What the room stores and hands out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from everloop.checks import CHECKS, Gate, Waiver
from everloop.errors import Invalid
from everloop.features import FeatureView
from everloop.serving import Manifest, Signature, Signed

Verdict = Literal["approved", "rejected"]
PointerKind = Literal["stage", "alias"]
ObstacleKind = Literal[
    "no_report", "other_evidence", "gate_not_run", "check_failed", "rejected", "approvals", "soak"
]

FREE_STAGE = "dev"  # where anything may be tried; every other stage asks for gates and approvals
RELEASE_STAGE = "production"  # whose terms a release must meet, where a model declares no stages
DESCRIPTION_LENGTH = 8_000
TAG_LENGTH = 100_000  # MLflow's limit, as is the next
_TAG_NAME_LENGTH = 250
_TAGS = 500  # of one model or version
_NAME = re.compile(r"[^\s@/:\\][^@/:\\\x00-\x1f\x7f]{0,119}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,59}")
_ALIAS = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,59}")
_LIKE_A_NUMBER = re.compile(r"[vV]?\d+")


@dataclass(frozen=True)
class ApprovalRule:
    """How many people must approve a version before it leaves `dev`; `not_author`: its author is none of them."""

    people: int = 0
    not_author: bool = False


def people(count: int, *, not_author: bool = False) -> ApprovalRule:
    """A rule that `count` different people must approve a version; 0 lets the gates decide alone.

    With `not_author` the one who registered the version cannot approve it. Raises Invalid for a negative count.
    """
    if count < 0:
        raise Invalid(f"people({count}) asks for fewer than no people; it is 0 or more. Say people(1).")
    return ApprovalRule(count, not_author)


@dataclass(frozen=True)
class StagePolicy:
    """What a version must meet to enter one stage. See `stage`."""

    name: str
    gates: tuple[str, ...] | None = None
    approval: ApprovalRule | None = None
    soak_s: float = 0.0

    @property
    def soak(self) -> timedelta:
        return timedelta(seconds=self.soak_s)

    def as_json(self) -> dict[str, Any]:
        gates = None if self.gates is None else list(self.gates)
        return {**asdict(self), "gates": gates}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> StagePolicy:
        gates, rule = stored["gates"], stored["approval"]
        return cls(
            stored["name"],
            None if gates is None else tuple(gates),
            None if rule is None else ApprovalRule(**rule),
            stored["soak_s"],
        )


def stage(
    name: str,
    *,
    gates: Sequence[str] | None = None,
    approve: ApprovalRule | None = None,
    soak_h: float = 0.0,
) -> StagePolicy:
    """What a version of a model must meet to enter a stage, for `el.model(..., stages=[...])`.

    Parameters
    ----------
    gates
        The gates that must have passed, by what they are about: `["leakage", "macro_f1"]`. Left out: all of them.
    approve
        Who must agree. Left out: what the model asks for.
    soak_h
        How many hours of domain time the version must have spent in the stage before it, in the order of the list.

    Raises
    ------
    Invalid
        A name that cannot be one of a stage, a negative time, or terms for `dev`, which takes any version.
    """
    check_word("a stage", name)
    if name == FREE_STAGE:
        raise Invalid(
            f"the stage {FREE_STAGE!r} has terms; it takes any version, so that all can be tried. Name another stage."
        )
    if soak_h < 0:
        raise Invalid(f"stage {name!r} asks for {soak_h:g} hours in the stage before; that is 0 or more.")
    return StagePolicy(name, None if gates is None else tuple(gates), approve, soak_h * 3_600.0)


@dataclass(frozen=True)
class RegisteredModel:
    """A model by its name, and what its versions must meet. `gates` hold besides the checks that always run.

    `stages` are those with terms of their own, in the order in which a version goes through them.
    """

    name: str
    approval: ApprovalRule
    gates: tuple[Gate, ...]
    created_at: datetime
    created_by: str
    stages: tuple[StagePolicy, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    updated_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def release_stage(self) -> str:
        """The stage whose terms a version must meet to be released: the last one declared."""
        return self.stages[-1].name if self.stages else RELEASE_STAGE

    def terms_of(self, stage: str) -> StagePolicy:
        """The terms of a stage; one without terms of its own asks for what the model asks for."""
        return next((one for one in self.stages if one.name == stage), StagePolicy(stage))

    def stage_before(self, stage: str) -> str | None:
        """The stage that a version has to soak in before it enters this one; None for the first."""
        names = [one.name for one in self.stages]
        place = names.index(stage) if stage in names else 0
        return names[place - 1] if place else None


@dataclass(frozen=True)
class ModelVersion:
    """A trained model, never changed: its files by their BLAKE3, and what they were made from.

    `digest` covers files, signature and features. `flavor` is the form that it is served in (sklearn, xgboost,
    lightgbm, onnx, pyfunc), else `other`. `signature` may be missing of a model logged elsewhere: it cannot be released then.

    `source` is where an MLflow client said that the files are, `logged_model` the id of its logged model, `run_link` a page
    about its run elsewhere. What is said about a version may change: `description` and `tags`. `archived_at` says since when
    it is put aside, by a person or by the version that took its stage over.
    """

    model: str
    number: int
    digest: str
    run: str | None
    files: Mapping[str, str]
    flavor: str
    signature: Signature | None
    features: tuple[FeatureView, ...]
    metrics: Mapping[str, float]
    data_version: str | None
    label_snapshot: str | None
    code: str | None
    environment: str | None
    trusted_types: tuple[str, ...]
    author: str
    created_at: datetime
    source: str | None = None
    logged_model: str | None = None
    run_link: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    updated_at: datetime | None = None
    archived_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def ref(self) -> str:
        """What users type, for example `category@2`."""
        return f"{self.model}@{self.number}"


@dataclass(frozen=True)
class Decision:
    """What one person decided on a version, and the gate report they saw. The last word of each person counts."""

    model_version: str
    verdict: Verdict
    by: str
    reason: str
    gate_report: str | None
    at: datetime


@dataclass(frozen=True)
class StageEvent:
    """From `at` on, a stage or an alias of a model means version `number`; None: no version."""

    model: str
    kind: PointerKind
    name: str
    number: int | None
    by: str
    reason: str
    at: datetime

    @property
    def ref(self) -> str | None:
        return None if self.number is None else f"{self.model}@{self.number}"


@dataclass(frozen=True)
class Release:
    """A version that may be served, with the manifest that serving processes read."""

    id: str
    model: str
    number: int
    manifest: Manifest
    by: str
    at: datetime

    @property
    def version(self) -> str:
        return f"{self.model}@{self.number}"


@dataclass(frozen=True)
class Seal:
    """A key's signature over a statement of what a version is made of; both are kept as they were made."""

    statement: str
    key: str
    signature: str
    by: str
    at: datetime


@dataclass(frozen=True)
class Trust:
    """Somebody read a version and allowed it to run code of its own. Unsigned (None), as it once was made, it does not count."""

    model_version: str
    by: str
    reason: str
    at: datetime
    signed: Signed | None = None


@dataclass(frozen=True)
class Obstacle:
    """One reason why a version may not enter a stage, as a message: found, rule, what to do."""

    kind: ObstacleKind
    message: str


@dataclass(frozen=True)
class Readiness:
    """Whether a version may enter a stage (the last one: be released too), and on what that rests."""

    version: str
    stage: str
    gate_report: str | None
    waivers: tuple[Waiver, ...]
    approvals: tuple[Decision, ...]
    obstacles: tuple[Obstacle, ...]

    @property
    def is_ready(self) -> bool:
        return not self.obstacles


def check_model_name(name: str) -> str:
    """The name. Raises Invalid when it cannot stand before @ in a reference."""
    if not _NAME.fullmatch(name) or name != name.strip():
        raise Invalid(
            f"{name!r} is not a model's name; that is up to 120 characters without @, /, :, \\ and control characters. "
            "Choose another."
        )
    return name


def check_word(what: str, word: str) -> str:
    """The name of a stage. Raises Invalid for what cannot be one."""
    if not _WORD.fullmatch(word):
        raise Invalid(
            f"{word!r} is not a name for {what}; it begins with a letter and has up to 60 letters, digits, and any of "
            "_ . -. Choose another."
        )
    return word


def check_stages(stages: Sequence[StagePolicy], *, gates: Sequence[Gate]) -> None:
    """Raise Invalid when one of a model's stages has two terms, or asks for a gate that nothing runs."""
    names = [one.name for one in stages]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid(
            f"the stage {twice[0]!r} is declared twice; each has one place in the order. Remove one."
        )
    run = {one.about for one in gates} | {name for name, one in CHECKS.items() if one.is_default}
    run |= {"macro_f1", "r2"}  # by which every version is compared with the live one
    for one in stages:
        if unknown := sorted(set(one.gates or ()) - run):
            raise Invalid(
                f"the stage {one.name!r} asks for the gate {unknown[0]!r}, which the model has not; its gates are about "
                f"{', '.join(sorted(run))}. Add it with gates=, or name another."
            )


def check_alias(word: str) -> str:
    """The name of an alias. Raises Invalid, also for what reads like a number: `model@3` is version 3."""
    if not _ALIAS.fullmatch(word) or _LIKE_A_NUMBER.fullmatch(word) or word.lower() == "latest":
        raise Invalid(
            f"{word[:80]!r} is not a name for an alias; it has up to 60 letters, digits, and any of _ . -, and is no number, "
            "no v and a number, and not 'latest'. Choose another."
        )
    return word


def check_description(text: str) -> str:
    """The text. Raises Invalid when it is too long or holds NUL."""
    if len(text) > DESCRIPTION_LENGTH or "\0" in text:
        raise Invalid(
            f"the description has {len(text)} characters; it has up to {DESCRIPTION_LENGTH}, none of them NUL. Shorten it."
        )
    return text


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags. Raises Invalid for a name or a value that cannot be stored, or for too many."""
    if len(tags) > _TAGS:
        raise Invalid(f"there are {len(tags)} tags; a model or a version has up to {_TAGS}. Leave some out.")
    for name, value in tags.items():
        if not name or len(name) > _TAG_NAME_LENGTH or not name.isprintable():
            raise Invalid(
                f"{name[:40]!r} is not a name for a tag; it has 1 to {_TAG_NAME_LENGTH} printable characters. Choose another."
            )
        if len(value) > TAG_LENGTH or "\0" in value:
            raise Invalid(
                f"the tag {name!r} has {len(value)} characters; it has up to {TAG_LENGTH}, none of them NUL. "
                "Log it as a file of the run."
            )
    return dict(tags)


def parse_ref(ref: str) -> tuple[str, int | str | None]:
    """A reference taken apart: `category@2` is version 2, `category@champion` an alias, `category` the newest (None)."""
    model, separator, which = ref.rpartition("@")
    if not separator:
        return ref, None
    is_number = which.isascii() and which.isdigit() and len(which) < 10  # what a column of numbers holds
    return model, int(which) if is_number else which
