"""What the room stores and hands out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from everloop.checks import Gate, Waiver
from everloop.errors import Invalid
from everloop.features import FeatureView
from everloop.serving import Manifest, Signature

Verdict = Literal["approved", "rejected"]
PointerKind = Literal["stage", "alias"]
ObstacleKind = Literal["no_report", "other_evidence", "gate_not_run", "check_failed", "rejected", "approvals"]

FREE_STAGE = "dev"  # where anything may be tried; every other stage asks for gates and approvals
_NAME = re.compile(r"[^\s@/:\\][^@/:\\\x00-\x1f\x7f]{0,119}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,59}")


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
class RegisteredModel:
    """A model by its name, and what its versions must meet. `gates` hold besides the checks that always run."""

    name: str
    approval: ApprovalRule
    gates: tuple[Gate, ...]
    created_at: datetime
    created_by: str


@dataclass(frozen=True)
class ModelVersion:
    """A trained model, never changed: its files by their BLAKE3, and what they were made from.

    `digest` covers files, signature and features. `flavor` is the form that it is served in (sklearn, xgboost,
    lightgbm, onnx, pyfunc), else `other`. `signature` may be missing of a model logged elsewhere: it cannot be released then.
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
    """Somebody read a version and allowed it to run code of its own."""

    model_version: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Obstacle:
    """One reason why a version may not leave `dev`, as a message: found, rule, what to do."""

    kind: ObstacleKind
    message: str


@dataclass(frozen=True)
class Readiness:
    """Whether a version may leave `dev` and be released, and on what that rests."""

    version: str
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
    """The name of a stage or an alias. Raises Invalid, also for a number: `model@3` is version 3."""
    if not _WORD.fullmatch(word):
        raise Invalid(
            f"{word!r} is not a name for {what}; it begins with a letter and has up to 60 letters, digits, and any of "
            "_ . -. Choose another."
        )
    return word


def parse_ref(ref: str) -> tuple[str, int | str | None]:
    """A reference taken apart: `category@2` is version 2, `category@champion` an alias, `category` the newest (None)."""
    model, separator, which = ref.rpartition("@")
    if not separator:
        return ref, None
    return model, int(which) if which.isascii() and which.isdigit() else which
