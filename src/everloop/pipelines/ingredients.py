"""What two runs were made of, part by part, and where it differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from everloop import tracking

Ingredient = Literal["code", "environment", "data", "labels", "parameter", "seed", "hardware"]


@dataclass(frozen=True)
class Difference:
    """Something that two runs were made of and that differs. None where it was not there or is not known."""

    what: Ingredient
    name: str
    before: str | None
    after: str | None

    @property
    def sentence(self) -> str:
        what = f"{self.what} {self.name}".replace(" =", "")
        if self.before is None or self.after is None:
            return f"{what} is {'new' if self.before is None else 'gone'}"
        if self.what == "code" and not self.name.endswith(" ="):
            return f"{what} is other code"
        return f"{what} went from {_cut(self.before)} to {_cut(self.after)}"


def differences(what: Ingredient, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What differs between two sets of named texts, in order of the names."""
    return [
        Difference(what, name, _text(before.get(name)), _text(after.get(name)))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def software_differences(before: tracking.Environment, after: tracking.Environment) -> list[Difference]:
    """Packages, Python and platform that differ."""
    return differences("environment", _software(before), _software(after))


def hardware_differences(before: tracking.Machine | None, after: tracking.Machine | None) -> list[Difference]:
    """Processor, cores, threads and hash seed that differ; nothing is said of a machine that is not on record."""
    if before is None or after is None:
        return []
    return differences("hardware", _hardware(before), _hardware(after))


def _software(found: tracking.Environment) -> dict[str, str]:
    return {
        **dict(found.packages),
        "Python": f"{found.implementation} {found.python}",
        "platform": found.platform,
    }


def _hardware(machine: tracking.Machine) -> dict[str, str]:
    return {
        "processor": machine.processor,
        "cores": str(machine.cores),
        **machine.threads,
        "PYTHONHASHSEED": machine.hash_seed,
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
