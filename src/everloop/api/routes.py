"""What a route is, and what a handler is given."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from everloop.access import Permission, Principal
from everloop.api.guard import MAX_BODY_BYTES
from everloop.errors import Invalid
from everloop.workspace import Workspace

FILE_FORMATS = ("csv", "jsonl", "parquet")
Method = Literal["GET", "POST", "PUT", "DELETE"]
# The modules that hold routes, one per room; the order is that of the reference page.
MODULES = (
    "health",
    "data",
    "labels",
    "runs",
    "models",
    "endpoints",
    "feedback",
    "monitors",
    "jobs",
    "triggers",
    "searches",
    "governance",
    "access",
)


@dataclass(frozen=True)
class Call:
    """One authorised request, parsed. `headers` are by small letters; `signature` is that of a signed one."""

    ws: Workspace
    principal: Principal
    path: dict[str, str]
    query: dict[str, str]
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    signature: str | None = None

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises Invalid for anything else."""
        try:
            value = json.loads(self.body or b"{}")
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise Invalid(f"the body is not JSON: {error}. Send an object, for example {{}}.") from error
        except RecursionError as error:
            raise Invalid("the body is nested too deeply to read. Send a flat object.") from error
        if not isinstance(value, dict):
            raise Invalid(f"the body is a JSON {type(value).__name__}; it must be an object such as {{}}.")
        return value

    def fields(self, *names: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
        """The body's fields, all of `names` present and nothing beyond `optional`."""
        value = self.json()
        missing = [name for name in names if name not in value]
        extra = [name for name in value if name not in names and name not in optional]
        if missing or extra:
            found = [f"{name} is missing" for name in missing] + [f"{name} is not known" for name in extra]
            raise Invalid(
                f"the body's fields are wrong: {', '.join(found)}. "
                f"It takes {', '.join(names)}{' and optionally ' + ', '.join(optional) if optional else ''}."
            )
        return value

    @contextmanager
    def file(self) -> Iterator[Path]:
        """The body as a file of the query's `format`, until the block ends. Raises Invalid for another format."""
        form = self.query.get("format", "")
        if form not in FILE_FORMATS:
            raise Invalid(
                f"format is {form!r}; it is one of {', '.join(FILE_FORMATS)}. Name it in the query: ?format=parquet"
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"upload.{form}"
            path.write_bytes(self.body)
            yield path

    def limit(self, *, default: int = 50, most: int = 1_000) -> int:
        text = self.query.get("limit", str(default))
        if not text.isdigit() or not 1 <= int(text) <= most:
            raise Invalid(f"limit is {text!r}; it is a whole number from 1 to {most}.")
        return int(text)


Handler = Callable[[Call], Any]
Signer = Callable[[Workspace, Mapping[str, str], Mapping[str, str], bytes], tuple[Principal, str]]
"""Who signed a request, and its signature, by workspace, path, headers and body. Raises NotRecognised."""
SIGNATURE = "x-everloop-signature"


@dataclass(frozen=True)
class Route:
    """`permission` None means that anybody may call it: health checks alone.

    A request that carries a signature is recognised by `signer` instead of by a token, where there is one.
    """

    method: Method
    path: str
    permission: Permission | None
    handler: Handler
    most_bytes: int = MAX_BODY_BYTES
    signer: Signer | None = None

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or "").partition("\n")[0]


def all_routes() -> list[Route]:
    """Every JSON route of the control plane."""
    return [route for name in MODULES for route in importlib.import_module(f"everloop.api.{name}").ROUTES]
