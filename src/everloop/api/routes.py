"""What a route is, and what a handler is given."""

from __future__ import annotations

import importlib
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from everloop.access import Permission, Principal
from everloop.api.guard import MAX_BODY_BYTES, holds_nul
from everloop.clock import parse_time
from everloop.errors import Invalid
from everloop.workspace import Workspace

Method = Literal["GET", "POST", "PUT", "DELETE"]
# The modules that hold routes, one per room; the order is that of the reference page.
MODULES = (
    "health",
    "data",
    "labels",
    "runs",
    "models",
    "endpoints",
    "predictions",
    "feedback",
    "monitors",
    "jobs",
    "triggers",
    "searches",
    "governance",
    "access",
    "description",
)
Time = Annotated[  # read by `moment`
    str, msgspec.Meta(description="ISO 8601 with its zone.", extra_json_schema={"format": "date-time"})
]


class Query(msgspec.Struct, frozen=True):
    """What a route takes from the query of its URL; other parameters are left alone."""


class File(Query, frozen=True, kw_only=True):
    """What a route takes from the query while its body is a file."""

    format: Literal["csv", "jsonl", "parquet"]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields that a route takes from its body, which is a JSON object of these and no others."""


class Reason(Body, frozen=True):
    """Why it is done."""

    reason: str


class Limited(Query, frozen=True, kw_only=True):
    """How many are shown at most."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 50


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

    @contextmanager
    def file(self, form: str) -> Iterator[Path]:
        """The body as a file of this format, until the block ends."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"upload.{form}"
            path.write_bytes(self.body)
            yield path


Handler = Callable[..., Any]
"""Takes a Call, and after it what the route asks for, of the type that the signature says."""
Signer = Callable[[Workspace, Mapping[str, str], Mapping[str, str], bytes], tuple[Principal, str]]
"""Who signed a request, and its signature, by workspace, path, headers and body. Raises NotRecognised."""
SIGNATURE = "x-everloop-signature"


@dataclass(frozen=True)
class Route:
    """`permission` None means that anybody may call it: health checks and the description alone.

    The handler's signature says the rest: a second argument is what is asked for, a record of the query (`Query`,
    `File`) or of a JSON body; what it returns is what is answered. A request that carries a signature is recognised
    by `signer` instead of by a token, where there is one. `headers` says what it reads in which header besides.
    """

    method: Method
    path: str
    permission: Permission | None
    handler: Handler
    most_bytes: int = MAX_BODY_BYTES
    signer: Signer | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or "").partition("\n")[0]

    @cached_property
    def asked(self) -> Any:
        """The type of the handler's second argument; None where it has none."""
        types = list(self._types.items())[1:]
        return next((kind for name, kind in types if name != "return"), None)

    @cached_property
    def answer(self) -> Any:
        """The type of what the handler returns."""
        return self._types["return"]

    @cached_property
    def _types(self) -> dict[str, Any]:
        return typing.get_type_hints(self.handler, include_extras=True)

    @property
    def asks_by_query(self) -> bool:
        return isinstance(self.asked, type) and issubclass(self.asked, Query)

    def read(self, query: Mapping[str, str], body: bytes) -> Any:
        """What is asked for, of the type `asked`. Raises Invalid."""
        try:
            if self.asks_by_query:
                return read_query(query, self.asked)
            if holds_nul(body):
                raise Invalid(
                    "the body holds a NUL character, which no name or value may have. Leave it out."
                )
            return msgspec.json.decode(body or b"{}", type=self.asked)
        except msgspec.ValidationError as error:
            part = "query" if self.asks_by_query else "body"
            raise Invalid(f"the {part} is wrong: {error}. {self._takes()}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"the body is not JSON: {error}. Send an object, for example {{}}.") from error
        except RecursionError as error:
            raise Invalid("the body is nested too deeply to read. Send a flat object.") from error

    def _takes(self) -> str:
        if not issubclass(self.asked, msgspec.Struct):
            return "It is a JSON object."
        fields = msgspec.structs.fields(self.asked)
        needed = [_shown(one) for one in fields if one.required]
        others = [_shown(one) for one in fields if not one.required]
        parts = [", ".join(needed), "optionally " + ", ".join(others) if others else ""]
        return f"It takes {' and '.join(filter(None, parts)) or 'nothing'}."


def read_query(query: Mapping[str, Any], kind: Any) -> Any:
    """A record of texts. Raises Invalid, and msgspec's ValidationError."""
    asked = msgspec.convert(query, kind, strict=False)
    for name, text in query.items():
        if getattr(asked, name, text) is None:  # msgspec reads the text null as nothing
            raise Invalid(f"{name} is {text!r} in the query. Leave it out where nothing is meant.")
    return asked


def _shown(one: msgspec.structs.FieldInfo) -> str:
    """A field's name, and its words where it takes no others."""
    words = [
        word
        for part in (one.type, *get_args(one.type))
        if get_origin(part) is Literal
        for word in get_args(part)
    ]
    return f"{one.encode_name} ({', '.join(words)})" if words else one.encode_name


def moment(text: str | None) -> datetime | None:
    """The time that a field says, if it says one. Raises Invalid."""
    return None if text is None else parse_time(text)


def all_routes() -> list[Route]:
    """Every JSON route of the control plane."""
    return [route for name in MODULES for route in importlib.import_module(f"everloop.api.{name}").ROUTES]
