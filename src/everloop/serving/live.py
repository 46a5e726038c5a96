"""What answers now: loaded releases behind routes, and how a new route table becomes that."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from everloop.clock import Clock
from everloop.errors import EverloopError, Invalid
from everloop.explaining import Explanation
from everloop.features import (
    FeatureFunction,
    FeatureValue,
    FeatureView,
    OnlineHistory,
    load_function,
    online_value,
)
from everloop.serving.apart import Apart
from everloop.serving.batching import Batcher
from everloop.serving.explain import Explainer
from everloop.serving.files import code_folder, online_path, read_routes
from everloop.serving.kept import Keeper, is_hidden, log_key
from everloop.serving.log import batches
from everloop.serving.predictor import Failure, Output, Prediction, Predictor
from everloop.serving.records import Field, Limits, Manifest, Route, RouteTable, Signature, Variant
from everloop.serving.signature import Reader
from everloop.serving.signed import verified_manifest
from everloop.storage import Blobs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A row that came with a request, for the histories that look at it."""

    prediction_id: str
    endpoint: str
    inputs: dict[str, Any]
    key: str | None
    at: datetime
    is_logged: bool = False
    """The inputs are as the log kept them, which may hide some."""


class LiveHistory:
    """A view's past rows: from the materialised file, then from the log, then from requests.

    A row that may come from two of these is recognised by its key. One without a key is taken from the log only
    if it is later than the file, and by its prediction id until `settle`.
    """

    def __init__(self, view: FeatureView) -> None:
        self.rows = OnlineHistory(view)
        self.window = view.window
        self._key, self._key_is_integer = (
            view.key,
            view.key is not None and view.columns[view.key] == "integer",
        )
        columns = {name: kind for name, kind in view.columns.items() if name != view.time}
        self._names = list(columns)
        self._reader = Reader(
            Signature(tuple(Field(name, kind, True) for name, kind in columns.items()), "number")
        )
        self._file_ends_at: datetime | None = None
        self._unsettled: set[str] | None = set()

    def load(self, path: Path) -> None:
        if path.exists():
            self.rows.load(path)
            self._file_ends_at = self.rows.newest_at

    def observe(self, arrival: Arrival) -> None:
        """Take in a row, unless it is known, does not fit the view's types, or comes from a log that hides what the view looks at."""
        if arrival.is_logged and any(is_hidden(arrival.inputs.get(name)) for name in self._names):
            return
        if self._unsettled is not None and arrival.key is None:
            if arrival.prediction_id in self._unsettled:
                return
            if self._file_ends_at is not None and arrival.at <= self._file_ends_at:
                return
            self._unsettled.add(arrival.prediction_id)
        row = {name: arrival.inputs.get(name) for name in self._names}
        if self._key is not None and row.get(self._key) is None:
            row[self._key] = self._as_key(arrival.key)
        values, problems = self._reader.read(row)
        if not problems:
            self.rows.observe(dict(zip(self._names, values, strict=True)), arrival.at)

    def settle(self) -> None:
        """From now on each row comes once, from its own request."""
        self._unsettled = None

    def _as_key(self, key: str | None) -> str | int | None:
        if key is None or not self._key_is_integer:
            return key
        return int(key) if key.removeprefix("-").isdecimal() else None


@dataclass(frozen=True)
class LiveFeature:
    view: FeatureView
    function: FeatureFunction
    history: LiveHistory

    def value(self, entity: Any, at: datetime) -> FeatureValue:
        return online_value(self.view, self.function, self.history.rows, entity=entity, at=at)


@dataclass(frozen=True, eq=False)
class LiveRelease:
    """A loaded, warm release. `batcher` takes rows as the model wants them: inputs, then features.

    Endpoints share one if they have the same limits, apart from deadlines.
    """

    manifest: Manifest
    reader: Reader
    features: tuple[LiveFeature, ...]
    batcher: Batcher[list[Any], Prediction | Failure]
    predictor: Predictor | Apart
    explainer: Batcher[tuple[list[Any], Output], Explanation | Failure]

    async def close(self) -> None:
        """Answer what waits, then let the model go."""
        await self.batcher.close()
        await self.explainer.close()
        self.predictor.close()


@dataclass(frozen=True)
class LiveEndpoint:
    """An endpoint's route, the epoch of its table, the releases it names and the histories they look at."""

    route: Route
    epoch: int
    releases: dict[str, LiveRelease]
    histories: tuple[LiveHistory, ...]
    deadline_ms: float = inf
    keepers: dict[str, Keeper] = field(default_factory=dict)
    """Of the releases whose inputs are not logged as they are."""

    @cached_property
    def main(self) -> LiveRelease:
        """The release that gets most of the traffic: what is described to clients."""
        return self.releases[max(self.route.variants, key=lambda variant: variant.weight).release]

    @cached_property
    def headers(self) -> frozenset[bytes]:
        """The headers that rules look at, in small letters."""
        return frozenset(rule.header.encode() for rule in self.route.rules if rule.header is not None)

    @cached_property
    def by_version(self) -> dict[int, Variant]:
        """Each version that is loaded, under the name by which it answers, or else is kept warm."""
        found: dict[int, Variant] = {}
        for variant in named_in(self.route):
            found.setdefault(self.releases[variant.release].manifest.version, variant)
        return found

    @property
    def signature(self) -> Signature:
        return self.main.manifest.signature

    @property
    def versions(self) -> list[int]:
        """Those that answer, each once, from the oldest."""
        variants = self.route.variants
        live = {one.release for one in variants if one.weight > 0 or len(variants) == 1}
        return sorted({self.releases[release].manifest.version for release in live})


@dataclass(frozen=True)
class LiveTable:
    """All that answers. `epoch` is that of the newest table of which every endpoint could be loaded."""

    epoch: int | None = None
    endpoints: dict[str, LiveEndpoint] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    unloadable: dict[str, str] = field(default_factory=dict)

    @property
    def releases(self) -> list[LiveRelease]:
        """All that is loaded, each once."""
        every = (one for endpoint in self.endpoints.values() for one in endpoint.releases.values())
        return list(dict.fromkeys(every))

    @property
    def histories(self) -> dict[str, LiveHistory]:
        features = [feature for release in self.releases for feature in release.features]
        return {feature.view.history_id: feature.history for feature in features}

    @property
    def with_histories(self) -> frozenset[str]:
        """The endpoints whose requests others' features look at."""
        return frozenset(name for name, endpoint in self.endpoints.items() if endpoint.histories)

    def observe(self, arrival: Arrival, *, but: Collection[int] = ()) -> None:
        """Show the endpoint's histories a row, all but some of these ids."""
        endpoint = self.endpoints.get(arrival.endpoint)
        for history in endpoint.histories if endpoint else ():
            if id(history) not in but:
                history.observe(arrival)

    def catch_up(
        self, current: LiveTable, arrivals: Iterable[Arrival], elsewhere: Iterable[Arrival] = ()
    ) -> None:
        """Show histories that `current` did not have what arrived while they were loaded; `elsewhere` nobody has seen."""
        known = {id(history) for history in current.histories.values()}
        for arrival in arrivals:
            self.observe(arrival, but=known)
        for arrival in elsewhere:
            self.observe(arrival)
        for history in self.histories.values():
            history.settle()


@dataclass(frozen=True)
class Loader:
    """Turns the route table in force into a live one, keeping what is loaded already."""

    folder: Path
    blobs: Blobs
    clock: Clock
    queue_limit: int
    deadline_ms: float = inf
    model_python: str = ""
    is_compiled: bool = True
    log_secret: str | None = None

    def load(self, current: LiveTable) -> LiveTable:
        """The live table for the routes in force; slow, for a thread.

        An endpoint whose release cannot be loaded keeps the route that it had, if any, and is told of in
        `problems`; the others move on. The epoch moves only when all did: a rollout waits for it.
        """
        try:
            table = read_routes(self.folder)
        except EverloopError as error:
            return LiveTable(current.epoch, current.endpoints, {"routes.json": str(error)})
        if table is not None:
            return _Loading(self, current).table(table)
        if not current.endpoints:
            return LiveTable()
        gone = "the file is gone; what was live goes on. Any change of a rollout writes it again."
        return LiveTable(current.epoch, current.endpoints, {"routes.json": gone})


class _Loading:
    """One turn of the loader: the releases and histories that it found loaded or loaded itself."""

    def __init__(self, loader: Loader, current: LiveTable) -> None:
        self._loader = loader
        self._current = current
        self._releases = {
            (name, _loading(endpoint.route.limits)): one
            for endpoint in current.endpoints.values()
            for name, one in endpoint.releases.items()
        }
        self._histories = dict(current.histories)

    def table(self, table: RouteTable) -> LiveTable:
        endpoints: dict[str, LiveEndpoint] = {}
        problems: dict[str, str] = {}
        unloadable: dict[str, str] = {}
        for name, route in table.endpoints.items():
            try:
                endpoints[name] = self._endpoint(route, table.epoch)
                continue
            except EverloopError as error:
                problems[name] = str(error)
            except Exception as error:  # noqa: BLE001  (a feature's module may raise anything when it is imported)
                problems[name] = f"loading raised {type(error).__name__}: {error}"
            if (release := self._first_missing(route)) is not None:
                unloadable[release] = problems[name]
            if name in self._current.endpoints:
                endpoints[name] = self._current.endpoints[name]
        live = LiveTable(self._current.epoch if problems else table.epoch, endpoints, problems, unloadable)
        self._fill_from_log(live)
        return live

    def _first_missing(self, route: Route) -> str | None:
        """The release at which loading ended: they are loaded one after the other."""
        limits = _loading(route.limits)
        named = (variant.release for variant in named_in(route))
        return next((one for one in named if (one, limits) not in self._releases), None)

    def _endpoint(self, route: Route, epoch: int) -> LiveEndpoint:
        named = dict.fromkeys(variant.release for variant in named_in(route))
        limits = _loading(route.limits)
        for name in named:
            if (name, limits) not in self._releases:
                manifest = verified_manifest(self._loader.folder, name)
                self._releases[name, limits] = self._release(manifest, limits)
        releases = {name: self._releases[name, limits] for name in named}
        histories = {
            feature.view.history_id: feature.history
            for release in releases.values()
            for feature in release.features
        }
        deadline_ms = route.limits.deadline_ms or self._loader.deadline_ms
        keepers = {
            name: keeper
            for name, release in releases.items()
            if (keeper := Keeper.of(release.manifest, route.log, self._log_key)) is not None
        }
        _warn_of_hidden(route.endpoint, releases, keepers)
        return LiveEndpoint(route, epoch, releases, tuple(histories.values()), deadline_ms, keepers)

    def _log_key(self) -> bytes:
        return log_key(self._loader.folder, self._loader.log_secret)

    def _release(self, manifest: Manifest, limits: Limits) -> LiveRelease:
        reader = Reader(manifest.signature)
        features = tuple(self._feature(manifest, view, reader) for view in manifest.features)
        predictor = self._predictor(manifest, limits)
        batcher = Batcher(
            predictor.answer,
            limit=limits.queue or self._loader.queue_limit,
            name=manifest.id,
            at_once=None if isinstance(predictor, Apart) else predictor.predict_at_once,
            most=limits.batch_rows,
            wait_s=limits.wait_ms / 1_000,
        )
        # explanations wait for each other in a thread of their own, which is started by the first
        explain = predictor.explain if isinstance(predictor, Apart) else Explainer(predictor).explain
        explainer = Batcher(explain, limit=self._loader.queue_limit, name=f"explain-{manifest.id}")
        return LiveRelease(manifest, reader, features, batcher, predictor, explainer)

    def _predictor(self, manifest: Manifest, limits: Limits) -> Predictor | Apart:
        loader, hidden = self._loader, self._loader.folder.parent.absolute()
        if limits.is_apart and not manifest.brings_code:  # which runs apart by itself
            return Apart.load(manifest, loader.blobs, limits, hidden=hidden, is_compiled=loader.is_compiled)
        return Predictor.load(
            manifest,
            loader.blobs,
            model_python=loader.model_python,
            hidden=hidden,
            is_compiled=loader.is_compiled,
            limits=limits,
        )

    def _feature(self, manifest: Manifest, view: FeatureView, reader: Reader) -> LiveFeature:
        if manifest.code is None:
            raise Invalid(
                f"release {manifest.id} has the feature {view.name!r} but names no code to load it from. "
                "Release the version again."
            )
        if view.entity not in reader.column_types:
            raise Invalid(
                f"feature {view.name!r} of release {manifest.id} is by {view.entity!r}, which is not an input of the model. "
                "Make it one, so that requests carry it."
            )
        function = load_function(view, code_folder(self._loader.folder, manifest.code))
        history = self._histories.get(view.history_id)
        if history is None:
            history = LiveHistory(view)
            history.load(online_path(self._loader.folder, view))
            self._histories[view.history_id] = history
        return LiveFeature(view, function, history)

    def _fill_from_log(self, live: LiveTable) -> None:
        """Show new histories what was asked since they were materialised, by whichever process."""
        known = {id(history) for history in self._current.histories.values()}
        feeds = {
            name: [history for history in endpoint.histories if id(history) not in known]
            for name, endpoint in live.endpoints.items()
        }
        windows = [history.window for histories in feeds.values() for history in histories]
        if not windows:
            return
        for arrival in _arrivals(self._loader.folder, since=self._loader.clock.now() - 2 * max(windows)):
            for history in feeds.get(arrival.endpoint, ()):
                history.observe(arrival)


def _warn_of_hidden(
    endpoint: str, releases: Mapping[str, LiveRelease], keepers: Mapping[str, Keeper]
) -> None:
    """Say which features forget, when this process ends, what came since they were materialised."""
    for name, keeper in keepers.items():
        for feature in releases[name].features:
            if hidden := keeper.hides(feature.view.columns):
                logger.warning(
                    "feature %r of endpoint %r looks at %s, which the prediction log does not keep: what is asked is seen by "
                    "later requests of this process alone, and forgotten with it",
                    feature.view.name,
                    endpoint,
                    " and ".join(hidden),
                )


def _loading(limits: Limits) -> Limits:
    """Those by which a release is loaded and asked: a deadline alone needs no other model."""
    return msgspec.structs.replace(limits, deadline_ms=None)


def named_in(route: Route) -> Iterable[Variant]:
    """Every variant of a route: those that answer by chance first, then those that are kept warm or that rules name."""
    rest = () if route.rest is None else (route.rest,)
    return (*route.variants, *route.shadow, *rest, *(rule.variant for rule in route.rules))


def _arrivals(folder: Path, *, since: datetime) -> Iterable[Arrival]:
    """The rows that came with logged requests: not the refused, the replayed, nor a shadow's second record."""
    columns = ("id", "endpoint", "at", "key", "inputs", "status", "replay", "shadow_of")
    for batch in batches(folder, start=since - timedelta(microseconds=1), columns=columns):
        for row in batch.to_pylist():
            if row["status"] != "refused" and not row["replay"] and row["shadow_of"] is None:
                inputs = msgspec.json.decode(row["inputs"])
                yield Arrival(row["id"], row["endpoint"], inputs, row["key"], row["at"], is_logged=True)
