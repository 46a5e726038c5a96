"""What can be set, in one frozen object; the only reader of the environment.

A value is looked up in the environment (`EVERLOOP_<NAME>`), then in `settings.toml` in the workspace's home,
then in the defaults here. Every default works on a laptop with nothing else installed.
"""

from __future__ import annotations

import dataclasses
import difflib
import getpass
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from everloop.errors import Invalid

DEFAULT_HOME = ".everloop"
FILE_NAME = "settings.toml"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|_?KEY$|DATABASE_URL|DSN", re.IGNORECASE)
_SHORTEST_SECRET = 6  # shorter ones would be found in the middle of words


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True)
class Settings:
    """All settings of one workspace; see the reference page for each one's meaning."""

    home: Path = _setting(
        Path(DEFAULT_HOME), "Folder of the workspace: database, blobs, keys, prediction log."
    )
    database_url: str = _setting(
        "", "SQLAlchemy URL of the metadata database; empty means SQLite in the home."
    )
    blobs: str = _setting(
        "",
        "Where files are kept: s3://BUCKET/PREFIX, or a folder seen from the home; empty means the folder blobs of the home.",
    )
    blobs_endpoint: str = _setting(
        "",
        "Address of the S3 server, such as http://127.0.0.1:9000; empty means AWS_ENDPOINT_URL, and without it Amazon's.",
    )
    blobs_cache_mb: int = _setting(
        10_240,
        "How much of the blobs on S3 is kept below the home, in 10^6 bytes; what was used least recently goes first.",
    )
    actor: str = _setting(
        "", "Who acts from the shell, as recorded in the audit log; empty means the system user."
    )
    host: str = _setting("127.0.0.1", "Address to listen on; another than loopback needs auth = 'token'.")
    port: int = _setting(8400, "Port of the API, the pages and predictions.")
    auth: Literal["off", "token"] = _setting("off", "Whether requests need a token.")
    allowed_hosts: str = _setting(
        "", "Further host names, comma-separated, that requests may name in Host or Origin."
    )
    webhook_url: str = _setting("", "Where alerts are posted as JSON; empty means the log alone.")
    webhook_allow_private: bool = _setting(
        False, "Whether the webhook may be on a private or loopback address."
    )
    artifact_root: str = _setting(
        "",
        "Where MLflow's clients keep the files of new runs by themselves, such as file:///srv/artifacts; empty means with "
        "everloop.",
    )
    artifact_max_mb: int = _setting(
        20_000, "Size of the largest file that a client may upload to a run, in MB."
    )
    upload_idle_s: int = _setting(
        60, "Seconds after which an upload of which nothing more comes is given up."
    )
    resources: str = _setting(
        "", "What pipeline steps may use of this machine besides cores and memory, such as gpus=1,license=2."
    )
    log_fsync: bool = _setting(
        False, "Force the prediction log to disk before each answer, in groups: survives a power cut."
    )
    log_segment_s: int = _setting(
        3_600, "Seconds after which a part of the prediction log is closed and packed into Parquet."
    )
    log_ship_s: int = _setting(
        60,
        "Where blobs names a place: seconds after which what was logged is copied there; what a lost machine may take with it.",
    )
    executor: str = _setting(
        "inline",
        "Where a pipeline's steps run: inline (in the command's own process), processes (one each), ray (a cluster).",
    )
    ray_address: str = _setting(
        "", "The Ray cluster of the executor ray, such as HOST:6379; empty means one on this machine."
    )
    secrets_dir: str = _setting(
        "",
        "Folder with a file for each secret that steps take, seen from the home; environment variables come first.",
    )

    model_python: str = _setting(
        "",
        "Python of the environment that runs trusted pickles and pyfunc models, with mlflow in it; empty means everloop's own.",
    )
    compiled_models: bool = _setting(
        True,
        "Answer by a model's compiled plan where it was verified row by row at the release; false: always by the model's own library.",
    )
    serving_workers: int = _setting(
        1,
        "How many processes answer predictions; they share one port, and each has the models in its own memory.",
    )
    request_deadline_ms: int = _setting(
        30_000,
        "Milliseconds after which a prediction that has no answer gets 504; an endpoint's limits may say otherwise, a client less.",
    )
    job_workers: int = _setting(
        1,
        "How many processes 'everloop up' starts for background jobs when several wait, each doing one at a time.",
    )

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{(self.home / 'everloop.db').absolute()}"

    @property
    def secrets_folder(self) -> Path | None:
        """The folder of secrets, if there is one."""
        return self.home.absolute() / self.secrets_dir if self.secrets_dir else None


def load_settings(
    home: str | Path | None = None, *, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """Settings of the workspace in `home`; `overrides` (command-line options) win over everything.

    Raises
    ------
    Invalid
        A name that is no setting, in the file or as EVERLOOP_* variable, or a value of the wrong type.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251  (this is the one place)
    from_environment = {
        key.removeprefix("EVERLOOP_").lower(): value
        for key, value in environ.items()
        if key.startswith("EVERLOOP_")
    }
    place = Path(home or from_environment.get("home") or DEFAULT_HOME)
    given: dict[str, tuple[Any, str]] = {}
    for name, value in _read_file(place / FILE_NAME).items():
        given[name] = (value, str(place / FILE_NAME))
    for name, value in from_environment.items():
        given[name] = (value, f"the environment variable EVERLOOP_{name.upper()}")
    for name, value in overrides.items():
        if value is not None:
            given[name] = (value, "the command line")
    values = {name: _converted(name, value, origin) for name, (value, origin) in given.items()}
    values["home"] = (
        place.absolute()
    )  # links in it and its child processes must not depend on the working folder
    if not values.get("actor"):
        values["actor"] = _system_user()
    return Settings(**values)


def home_of(environ: Mapping[str, str] | None = None) -> Path:
    """The home that the environment names, else the default."""
    environ = os.environ if environ is None else environ  # noqa: TID251  (this is the one place)
    return Path(environ.get("EVERLOOP_HOME") or DEFAULT_HOME)


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The environment for a process that everloop starts: this process's own, with the same workspace named."""
    return {
        **os.environ,  # noqa: TID251  (this is the one place)
        "EVERLOOP_HOME": str(settings.home.absolute()),
        "EVERLOOP_DATABASE_URL": settings.database_url,
        "EVERLOOP_BLOBS": settings.blobs,
        "EVERLOOP_BLOBS_ENDPOINT": settings.blobs_endpoint,
        "EVERLOOP_BLOBS_CACHE_MB": str(settings.blobs_cache_mb),
        "EVERLOOP_ACTOR": settings.actor,
        "EVERLOOP_SECRETS_DIR": settings.secrets_dir,
        **extra,
    }


def library_variables(names: Iterable[str]) -> dict[str, str]:
    """Those of the named environment variables that are set: they are read by libraries, and set nothing of everloop."""
    found = {name: os.environ.get(name) for name in names}  # noqa: TID251  (this is the one place)
    return {name: value for name, value in found.items() if value is not None}


def for_libraries(**variables: str) -> None:
    """Set what a library reads from the environment when it is loaded, where the user has not."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)  # noqa: TID251  (this is the one place)


def has_secret(settings: Settings, name: str) -> bool:
    """Whether there is a secret of this name; its value is not read."""
    folder = settings.secrets_folder
    is_set = bool(os.environ.get(name))  # noqa: TID251  (this is the one place)
    return is_set or (folder is not None and (folder / name).is_file())


def secret_value(settings: Settings, name: str) -> str | None:
    """A secret's value: the environment variable of its name, else the file of its name, without the line's end.

    Raises Invalid when its file cannot be read as text.
    """
    value = os.environ.get(name)  # noqa: TID251  (this is the one place)
    folder = settings.secrets_folder
    if value or folder is None or not (folder / name).is_file():
        return value or None
    try:
        return (folder / name).read_text(encoding="utf-8").rstrip("\r\n") or None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"the secret's file {folder / name} cannot be read: {type(error).__name__}. It is text in UTF-8, readable by who "
            "runs the step. Mend the file or its permissions."
        ) from None  # the error holds the bytes


def outside_variables(names: Iterable[str]) -> dict[str, str]:
    """Those of the named environment variables that are set to something: what a CI service tells of its job."""
    return {name: value for name, value in library_variables(names).items() if value}


def environment_without(names: Collection[str]) -> dict[str, str]:
    """This process's environment without some variables, for a program that they would mislead."""
    return {name: value for name, value in os.environ.items() if name not in names}  # noqa: TID251  (this is the one place)


def secret_values() -> frozenset[str]:
    """The values of environment variables whose names say that they are secret, long enough to be looked for."""
    return frozenset(
        value
        for name, value in os.environ.items()  # noqa: TID251  (this is the one place)
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    )


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(
            f"{path} is not valid TOML: {error}. Mend the file or remove it to use the defaults."
        ) from error


def _converted(name: str, value: Any, origin: str) -> Any:
    fields = {one.name: one for one in dataclasses.fields(Settings)}
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else " 'everloop doctor' lists the settings."
        raise Invalid(f"{origin} sets {name!r}, which is not a setting.{hint}")
    default = fields[name].default
    if isinstance(default, bool):
        return _as_bool(name, value, origin)
    if isinstance(default, int):
        return _as_int(name, value, origin)
    if name == "auth" and value not in ("off", "token"):
        raise Invalid(f"{origin} sets auth to {value!r}; it is 'off' or 'token'.")
    return str(value)


def _as_bool(name: str, value: Any, origin: str) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    try:
        return words[str(value).lower()]
    except KeyError as error:
        raise Invalid(f"{origin} sets {name} to {value!r}; it is true or false.") from error


def _as_int(name: str, value: Any, origin: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise Invalid(f"{origin} sets {name} to {value!r}; it is a whole number.") from error
    if number < 1:
        raise Invalid(f"{origin} sets {name} to {number}; it is 1 or more.")
    return number


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return "unknown"
