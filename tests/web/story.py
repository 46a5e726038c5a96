"""Two weeks of a small shop, told through its real records: quiet, drift, a retrain, a canary under way.

The data plane is played by its own files: predictions are appended to the real log by a real writer, and the worker's
file says that it follows the routes. Everything else is what a running everloop does by itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from everloop import background, feedback, predictions, registry, rollout, serving
from everloop.clock import SimulatedClock, to_micros, wall
from everloop.ids import new_prediction_id
from everloop.predictions import LogWriter, PredictionRecord
from everloop.rollout import LiveVariant
from everloop.serving import Worker
from everloop.serving.files import write_worker
from everloop.workspace import Workspace
from tests.loop import shop

LOOP = (
    shop.LOOP.replace(
        "el.canary(50, 100, excess_at_most={'errors': 0.2, 'contradicted': None})".replace("'", '"'),
        'el.canary(10, 50, 100, excess_at_most={"errors": 0.02, "slow": 0.05, "contradicted": None})',
    )
    .replace(
        "when=el.contradicted(live, 1), cooldown_h=1",
        "when=el.drifted(live) & el.contradicted(live, 8), cooldown_h=168",
    )
    .replace("el.drift(least_rows=20, window_h=24)", "el.drift(least_rows=100, window_h=48)")
    .replace("el.accuracy(audit=1.0, window_h=24)", "el.accuracy(audit=0.05, window_h=72, at_least=0.85)")
    .replace("el.latency(p99_ms=1000)", "el.latency(p99_ms=60, every_h=6)")
)


class Shop:
    """Customers of the shop: they ask, complain and review, day by day."""

    def __init__(self, ws: Workspace, log: LogWriter, *, per_hour: int) -> None:
        self.ws, self.log, self.per_hour = ws, log, per_hour
        self.chance = random.Random(11)  # noqa: S311  (made-up goods, not secrets)
        self.goods = shop.goods(ws).to_pylist()
        self.truth: dict[str, str] = {}

    def day(self, *, moved: float = 0.0, slow: float = 1.0) -> None:
        """A day of requests; `moved` is how far taste has moved to lamps, which the first model takes for tea."""
        for hour in range(24):
            crowd = self.per_hour * (0.35 if hour < 7 else 1.0 if hour < 18 else 0.7)
            self._ask(round(crowd * self.chance.uniform(0.8, 1.2)), moved=moved, slow=slow)
            self._pass(hours=1)
        self.follow()
        predictions.seal(self.ws.home / "serving")  # columns are read quicker than records
        background.turn(self.ws)
        self._review()

    def hours(self, n: int) -> None:
        """Some busy hours, in which the rollout is looked at again and again."""
        for _ in range(n):
            for _part in range(3):
                self._ask(self.per_hour * 8, moved=0.6)
                self.follow()
                background.turn(self.ws)
            self._pass(hours=1)

    def follow(self) -> None:
        """Say that this process serves the newest routes."""
        routes = serving.read_routes(self.ws.home / "serving")
        now = wall()
        worker = Worker(self.log.writer, 1, routes.epoch if routes else None, now, now, "127.0.0.1", 8401)
        write_worker(self.ws.home / "serving", worker)

    def _pass(self, **by: float) -> None:
        assert isinstance(self.ws.clock, SimulatedClock)
        self.ws.clock.advance(timedelta(**by))

    def _ask(self, n: int, *, moved: float, slow: float = 1.0) -> None:
        """`n` requests at once, logged as a serving process logs them; a few wrong answers are complained about."""
        variants = rollout.live(self.ws, "kind")
        epoch = serving.acknowledged(self.ws.home / "serving") or 1
        picked = self.chance.choices(variants, [one.weight for one in variants], k=n)
        made = [self._answered(variant, epoch, moved, slow) for variant in picked]
        self.log.write(made)
        for one in made:
            truth = self.truth.get(one.id, one.output)
            if one.output != truth and self.chance.random() < 0.03:
                feedback.correct(
                    self.ws, endpoint="kind", value=str(truth), reporter="moderator", prediction_id=one.id
                )

    def _answered(self, variant: LiveVariant, epoch: int, moved: float, slow: float) -> PredictionRecord:
        goods = self.chance.choice(self.goods)
        while goods["kind"] != "Lamps" and self.chance.random() < moved * 0.8:
            goods = self.chance.choice(self.goods)
        truth = str(goods["kind"])
        title = str(goods["title"]).replace(f"no{goods['sku']}", f"no{self.chance.randrange(300, 999)}")
        number = int(variant.version.partition("@")[2])
        is_wrong = self.chance.random() < (0.04 + 0.6 * moved if number == 1 else 0.05)
        others = [one for one in shop.NOUNS if one != truth]
        answer = self.chance.choice(others) if is_wrong else truth
        has_failed = self.chance.random() < 0.001
        made = PredictionRecord(
            id=new_prediction_id(self.log.writer),
            endpoint="kind",
            variant=variant.name,
            release=variant.release,
            model="kind",
            version=number,
            epoch=epoch,
            at=to_micros(self.ws.now()),
            key=str(goods["sku"]),
            inputs={"title": title, "seller": goods["seller"]},
            features={"seller_volume": (self.chance.randrange(30), None)},
            output=None if has_failed else answer,
            scores={}
            if has_failed
            else {answer: 0.82, next(one for one in shop.NOUNS if one != answer): 0.18},
            status="failed" if has_failed else "ok",
            error="ValueError: the model gave no finite score" if has_failed else None,
            latency_us=round(self.chance.lognormvariate(0, 0.5) * 1_900 * slow),
        )
        if not has_failed:
            self.truth[made.id] = truth
        return made

    def _review(self) -> None:
        """Reviewers settle most of what waits."""
        queue = feedback.review_queue(self.ws, "kind", limit=1_000)
        waiting = [one for one in queue if one.prediction_id in self.truth]
        for item in waiting[: round(len(waiting) * 0.9)]:
            feedback.answer_review(self.ws, item.id, value=self.truth[item.prediction_id], reviewer="carol")


@contextmanager
def told(ws: Workspace, folder: Path, *, per_hour: int = 16) -> Iterator[Shop]:
    """The whole story; at its end a canary is at 10 % and holds, and a third version waits for approval."""
    loop = shop.set_up(ws, folder, text=LOOP)
    trained = shop.train(ws, loop)
    assert trained.passed
    registry.approve(ws.acting_as("alice"), "kind@1", reason="better than asking the catalogue team")
    writer = LogWriter.claim(ws.home / "serving", segment_bytes=40_000)
    try:
        shop_ = Shop(ws, writer, per_hour=per_hour)
        shop_.follow()
        background.turn(ws)
        shop_.follow()
        for _ in range(9):
            shop_.day()
        for day in range(5):
            shop_.day(moved=0.18 * (day + 1))
        assert background.run_jobs(ws) >= 1, "drift and contradictions call for a retrain"
        shop_.day(moved=0.9, slow=1.3)
        registry.approve(ws.acting_as("alice"), "kind@2", reason="right on what moved")
        shop_.follow()
        background.turn(ws)
        shop_.hours(3)
        shop.train(ws, loop)
        yield shop_
    finally:
        writer.close()
