"""One good and one bad call of every command on a live shop; flows run the rest through real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from everloop import access, checks, data, feedback, jobs, loop, registry, rollout
from everloop.cli import main
from everloop.errors import Invalid
from tests.checks import tables
from tests.loop import living
from tests.loop import shop as made_up
from tests.loop.living import Shop
from tests.rollout.test_rollouts import started


class Shell:
    """`everloop ...` on the shop's home, in this process."""

    def __init__(self, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
        self.shop = shop
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> Any:
        """The JSON answer, or what was said on stderr when it must fail."""
        self._capsys.readouterr()
        ended = 0
        try:
            main([*words, "--home", str(self.shop.ws.home), "--actor", "alice", "--json"])
        except SystemExit as stop:
            ended = int(stop.code or 0)
        printed = self._capsys.readouterr()
        assert ended == code, printed
        if code:
            assert "Traceback" not in printed.err
            return printed.err
        return json.loads(printed.out)

    def shown(self, *words: str) -> str:
        """What a person sees."""
        self._capsys.readouterr()
        with suppress(SystemExit):
            main([*words, "--home", str(self.shop.ws.home)])
        printed = self._capsys.readouterr()
        return printed.out + printed.err


@pytest.fixture
def everloop(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(shop, capsys)


def names(found: list[dict[str, Any]], field: str = "name") -> list[Any]:
    return [one[field] for one in found]


LOOKS: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("data list", names, ["goods"]),
    ("data versions goods", lambda one: names(one, "rows"), [240]),
    ("data profile goods", bool, True),
    ("data diff goods@1 goods@1", bool, True),
    ("labels quality kind", lambda one: one["labelled"], 240),
    ("labels snapshots kind", lambda one: names(one, "count"), [240]),
    ("runs list --kind pipeline", len, 2),
    ("runs compare kind@1 kind@2", lambda one: one["answers"]["shared"] > 0, True),
    ("models list kind", lambda one: names(one, "number"), [2, 1]),
    ("models show kind@2", lambda one: one["gate_report"]["verdict"], "passed"),
    ("models verify kind@2", lambda one: (one["problems"], one["files"]), ([], 7)),
    ("models keys list", lambda one: [key["is_current"] for key in one], [True]),
    ("models history kind", lambda one: set(names(one)), {"production"}),
    ("models list kind --filter version_number>1", lambda one: names(one, "number"), [2]),
    ("models live kind", lambda one: names(one, "version"), ["kind@1"]),
    ("models live kind --at 2020-01-01T00:00:00Z", list, []),
    ("models delete kind@2", lambda one: one["deleted_at"], None),
    ("endpoints list", names, ["kind"]),
    ("endpoints limit kind --deadline-ms 200 --queue 9", bool, True),
    ("endpoints limit kind --own-process", lambda one: one["own_process"], True),
    ("endpoints limit kind --reset", lambda one: one.get("queue"), None),
    ("endpoints workers", lambda one: names(one, "pid"), [1]),
    ("endpoints live kind", lambda one: names(one, "version"), ["kind@1"]),
    ("endpoints live kind --at 2000-01-01", list, []),
    ("rollouts list --endpoint kind", lambda one: names(one, "state"), ["done"]),
    (
        "rollouts simulate kind --steps 50,100 --control errors=0 --control contradicted=0 "
        "--new errors=0.9 --rollouts 20 --requests 1000",
        lambda one: [case["forecast"]["rolled_back"] for case in one],
        [0.0, 1.0],
    ),
    (
        "rollouts simulate kind --steps 50,100 --excess wrong=0.3 --control errors=0 --control contradicted=0 "
        "--control wrong=0 --audited 0.5 --reviewed-share 0.8 --reviewed-after 2 --reported-after 1 --per-hour 100 "
        "--new wrong=0.9 --rollouts 20 --requests 1000",
        lambda one: [one[1]["forecast"]["rolled_back"], one[0]["told"], one[0]["after_h"]],
        [1.0, {"wrong": 0.4}, {"contradicted": 1.0, "wrong": 2.0}],
    ),
    ("feedback queue", list, []),
    ("monitors measures kind", list, []),
    ("monitors findings", list, []),
    ("monitors events --kind rollout.", lambda one: names(one, "kind"), ["rollout.started"]),
    ("jobs list", list, []),
    ("jobs schedules", list, []),
    ("access list", list, []),
    ("trace kind@1", lambda one: one["gaps"], []),
    ("impact goods:7", lambda one: one["reached"]["dataset_version"], ["goods@1"]),
    ("impact annotator:catalogue", lambda one: one["reached"]["model_version"], ["kind@1", "kind@2"]),
    ("audit list --who alice", lambda one: names(one, "act"), ["registry.approve"]),
    ("audit verify", lambda one: one["is_intact"], True),
    ("audit head", lambda one: ":" in one["head"], True),
]


@pytest.mark.parametrize(("line", "part", "expected"), LOOKS, ids=[one[0] for one in LOOKS])
def test_a_command_that_looks(everloop: Shell, line: str, part: Callable[[Any], Any], expected: Any) -> None:
    assert part(everloop(*line.split())) == expected


MISTAKES = [
    ("data ingest goods none.csv", 2, "none.csv"),
    ("data versions good", 2, "Did you mean 'goods'?"),
    ("data profile goods@9", 2, "goods@9"),
    ("data diff goods@1 goods@9", 2, "goods@9"),
    ("labels quality kinds", 2, "kinds"),
    ("labels snapshot kinds", 2, "kinds"),
    ("runs show run_none", 2, "run_none"),
    ("runs steps run_none", 2, "everloop runs list"),
    ("runs compare kind@1 run_none", 2, "run_none"),
    ("reproduce run_none", 2, "everloop runs list"),
    ("runs logs run_none", 2, "everloop runs list"),
    ("runs pause run_none", 2, "everloop runs list"),
    ("runs resume run_none", 2, "everloop runs list"),
    ("runs cancel run_none --reason test", 2, "everloop runs list"),
    ("runs fork run_none --from fit", 2, "everloop runs list"),
    ("models show kind@9", 2, "kind@9"),
    ("models approve kind@2 --reason=", 2, "reason"),
    ("models verify kind@9", 2, "kind@9"),
    ("models verify kind@2 --folder nowhere", 2, "is no folder"),
    ("models sign kind@2 --reason=", 2, "without a reason"),
    ("models trust kind@2 --reason x", 2, "was trained here"),
    ("models register kind nowhere", 2, "no file MLmodel"),
    ("models check kind@9 --train nowhere.csv --test nowhere.csv --label kind", 2, "nowhere.csv"),
    ("models keys add 12 --name x --reason y", 2, "64 hex digits"),
    ("models keys distrust ff --reason y", 2, "0 keys begin"),
    ("models keys rotate --reason=", 2, "without a reason"),
    ("models release kind@2", 3, "approve"),
    ("models promote kind@2 production", 3, "approve"),
    ("models delete kind@1 --yes", 2, "what is live is not deleted"),
    ("models delete kind --yes", 2, "what is live is not deleted"),
    ("models demote kind@2 production --reason x", 2, "is not in production"),
    ("models alias kind champion", 2, "name a version"),
    ("models alias kind v1 kind@1", 2, "not a name for an alias"),
    ("models tag kind@9 a=b", 2, "kind@9"),
    ("models rename kind other", 2, "declared in a loop file"),
    ("models live kind --at tomorrow", 2, "not a time"),
    ("models list kind --filter nothing", 2, "the filter"),
    ("models waive gr_none drift --reason x --until tomorrow", 2, "not a time"),
    ("endpoints live none", 2, "no endpoint 'none'"),
    ("endpoints live kind --at yesterday", 2, "not a time"),
    ("endpoints create kind kind", 2, "is an endpoint 'kind' already"),
    ("endpoints create Kind kind", 2, "cannot name an endpoint"),
    ("endpoints create other kinds", 2, "no model 'kinds'"),
    ("endpoints create other kind --steps 10,ten", 2, "no list of percentages"),
    ("endpoints create other kind --steps 10,50", 2, "100"),
    ("endpoints create other kind --memory-mb 1", 2, "memory_mb is 1"),
    ("endpoints limit none", 2, "no endpoint 'none'"),
    ("endpoints limit kind --queue 0", 2, "queue is 0"),
    ("endpoints rule kind staff --to candidate --reason x", 2, "looks at nothing"),
    (
        "endpoints rule kind staff --to candidate --header X-A --input seller --reason x",
        2,
        "Make two of it",
    ),
    ("endpoints rule kind staff --to candidate --header Cookie=a --reason x", 2, "is a secret"),
    ("endpoints rule kind staff --to kind@2 --header X-A=b --reason x", 2, "not released"),
    ("endpoints rule kind staff --to candidate --input size=1 --reason x", 2, "inputs are title, seller"),
    ("endpoints drop-rule kind staff --reason x", 2, "there is none"),
    ("rollouts start kind kind@2 --reason x", 2, "not released"),
    ("rollouts simulate kind", 2, "--control errors=0.01"),
    ("rollouts simulate kind --steps ten", 2, "--steps 10,50,100"),
    ("rollouts simulate kind --new errors", 2, "errors=0.01"),
    ("rollouts simulate kind --spread sales=2", 2, "--spread names sales"),
    ("rollouts split kind kind@1=100 --reason x", 2, "two versions or more"),
    ("rollouts split kind kind@1=90 kind@2=10 --reason x", 2, "not released"),
    ("rollouts results kind", 2, "no split 'kind'"),
    ("rollouts end-split kind --reason x", 2, "no split 'kind'"),
    ("rollouts show ro_none", 2, "everloop rollouts list"),
    ("rollouts pause ro_none --reason x", 2, "ro_none"),
    ("feedback correct kind none Tea --reporter ann", 2, "pred_"),
    ("feedback settle rev_none Tea", 2, "everloop feedback queue"),
    ("feedback import kind none.csv --key a --value b --at c --reporter d", 2, "none.csv"),
    ("monitors measures kind --limit 0", 2, "--limit"),
    ("jobs show job_none", 2, "job_none"),
    ("jobs cancel job_none --reason x", 2, "job_none"),
    ("apply none.py", 2, "no loop file"),
    ("run trian", 2, "it has train"),
    ("score kind@1 none.parquet", 2, "none.parquet"),
    ("trace nothing", 2, "cannot be traced"),
    ("impact nothing", 2, "nothing is known"),
    (f"audit verify --anchor 9999:{'0' * 64}", 3, ""),
    ("audit verify --anchor 9999:abc", 2, "everloop audit head"),
    ("serve --host 0.0.0.0", 2, "loopback"),
    ("up --host 0.0.0.0", 2, "auth is off"),
]


@pytest.mark.parametrize(("line", "code", "told"), MISTAKES, ids=[one[0] for one in MISTAKES])
def test_a_mistake_is_told_with_its_exit_code(everloop: Shell, line: str, code: int, told: str) -> None:
    assert told in everloop(*line.split(), code=code)


def test_goods_and_labels_come_from_files(everloop: Shell, tmp_path: Path) -> None:
    goods = made_up.goods(everloop.shop.ws, 10, first=240)
    pq.write_table(goods.drop_columns(["kind"]), tmp_path / "goods.parquet")
    pq.write_table(goods.select(["sku", "kind"]), tmp_path / "labels.parquet")
    assert everloop("data", "ingest", "goods", str(tmp_path / "goods.parquet"))["rows"] == 250
    columns = ("--key", "sku", "--value", "kind", "--annotator", "bob")
    assert everloop("labels", "import", "kind", str(tmp_path / "labels.parquet"), *columns)["imported"] == 10
    assert everloop("labels", "snapshot", "kind")["count"] == 250


def test_a_version_is_described_tagged_named_moved_and_deleted(everloop: Shell) -> None:
    assert everloop("models", "describe", "kind@2", "picky")["description"] == "picky"
    assert everloop("models", "describe", "kind", "kinds of goods")["description"] == "kinds of goods"
    assert everloop("models", "tag", "kind@2", "team=vision") == {"team": "vision"}
    assert everloop("models", "tag", "kind", "team") == {"team": ""}
    assert everloop("models", "tag", "kind", "team", "--drop") == {"team": None}
    assert everloop("models", "alias", "kind", "challenger", "kind@2")["number"] == 2
    assert everloop("models", "show", "kind@challenger")["version"]["tags"] == {"team": "vision"}
    assert everloop("models", "alias", "kind", "challenger", "--drop")["alias"] == "challenger"
    everloop("models", "approve", "kind@2", "--reason", "looks right")
    everloop("models", "promote", "kind@2", "staging")
    assert "models demote kind@2 staging" in everloop("models", "delete", "kind@2", "--yes", code=2)
    assert everloop("models", "demote", "kind@2", "staging", "--reason", "over")["number"] is None
    assert everloop("models", "archive", "kind@2")["archived_at"] is not None
    assert everloop("models", "archive", "kind@2", "--undo")["archived_at"] is None
    assert everloop("models", "delete", "kind@2", "--yes")["deleted_at"] is not None
    assert "was deleted" in everloop("models", "show", "kind@2", code=2)
    assert everloop("trace", "kind@2")["gaps"] == []


def test_a_version_is_approved_released_planned_rolled_out_and_taken_back(everloop: Shell) -> None:
    assert everloop("models", "approve", "kind@2", "--reason", "looks right")["by"] == "alice"
    assert everloop("models", "release", "kind@2")["id"].startswith("rel_")
    words = ("rollouts", "start", "kind", "kind@2", "--reason", "a test")
    assert [one["weight"] for one in everloop(*words, "--dry-run")["stages"]] == [50, 100]
    assert rollout.rollouts(everloop.shop.ws, states=["running"]) == []
    started = everloop(*words)["id"]
    states = [
        everloop("rollouts", verb, started, "--reason", "a test")["state"]
        for verb in ("pause", "resume", "rollback")
    ]
    assert states == ["paused", "running", "rolled_back"]
    assert [one["act"] for one in everloop("rollouts", "show", started)][-1] == "rolled_back"


def test_a_dry_run_says_what_would_come_of_it_and_changes_nothing(everloop: Shell) -> None:
    """All that changes a deployment and is not planned in stages: the act itself is tried, and undone."""
    shop, made = everloop.shop, started(everloop.shop, 10, 50, 100, watch_h=1)
    folder, head = shop.folder, everloop("audit", "head")
    routes = (folder / "routes.json").read_bytes()
    for verb, state in (("pause", "paused"), ("promote", "done"), ("rollback", "rolled_back")):
        words = ("rollouts", verb, made.id, "--reason", "a test", "--dry-run")
        assert everloop(*words)["state"] == state
    told = everloop.shown("rollouts", "promote", made.id, "--reason", "a test", "--dry-run")
    assert told.startswith(f"{made.id}: done; kind is answered by kind@2 100 %.\n")
    assert "nothing was changed" in told
    assert everloop("endpoints", "limit", "kind", "--queue", "9", "--dry-run")["queue"] == 9
    rule = (
        "endpoints",
        "rule",
        "kind",
        "staff",
        "--header",
        "X-A=b",
        "--to",
        "control",
        "--reason",
        "a test",
    )
    assert names(everloop(*rule, "--dry-run")["rules"]) == ["staff"]
    words = ("rollouts", "resume", made.id, "--reason", "a test", "--dry-run")
    assert "only one that is paused can be running" in everloop(*words, code=2)
    (endpoint,) = rollout.endpoints(shop.ws)
    assert (endpoint.limits.queue, endpoint.rules, rollout.rollout_of(shop.ws, made.id)) == (None, (), made)
    assert ((folder / "routes.json").read_bytes(), everloop("audit", "head")) == (routes, head)


def test_a_dry_run_of_a_release_says_whether_it_may_be_and_changes_nothing(everloop: Shell) -> None:
    assert "asks for the approval" in everloop("models", "release", "kind@2", "--dry-run", code=3)
    for verb in ("approve", "reject"):
        assert everloop("models", verb, "kind@2", "--reason", "a test", "--dry-run")["by"] == "alice"
    everloop("models", "approve", "kind@2", "--reason", "a test")
    head = everloop("audit", "head")
    assert everloop("models", "promote", "kind@2", "staging", "--dry-run")["name"] == "staging"
    assert everloop("models", "release", "kind@2", "--dry-run")["version"] == 2
    assert "kind@2 may be released." in everloop.shown("models", "release", "kind@2", "--dry-run")
    assert everloop("audit", "head") == head


def test_names_that_are_none_are_refused_before_anything_is_done(everloop: Shell) -> None:
    assert "no endpoint 'kid'" in everloop("rollouts", "list", "--endpoint", "kid", code=2)
    twice = ("rollouts", "split", "kind", "kind@1=50", "kind@1=50", "--reason", "a test")
    assert "names one thing twice" in everloop(*twice, code=2)
    assert "there is no file rows.csv" in everloop("score", "kind@1", "rows.csv", code=2)
    assert "cannot name a dataset" in everloop("score", "kind@1", "goods", "--to", "two words", code=2)


def test_rules_are_put_shown_and_dropped(everloop: Shell) -> None:
    words = ("endpoints", "rule", "kind")
    everloop(*words, "staff", "--header", "X-Staff=yes", "--to", "candidate", "--reason", "a test")
    everloop(*words, "seven", "--input", "seller=7", "--to", "control", "--reason", "a test")
    (shown,) = everloop("endpoints", "list")
    assert [(one["name"], one["values"]) for one in shown["rules"]] == [("staff", ["yes"]), ("seven", [7])]
    told = everloop.shown("endpoints", "live", "kind")
    assert "Rule staff: candidate answers where header X-Staff is yes." in told
    dropped = everloop("endpoints", "drop-rule", "kind", "staff", "--reason", "over")
    assert names(dropped["rules"]) == ["seven"]


def test_the_shares_of_a_segment_are_told_with_what_the_segment_is_of_all(everloop: Shell) -> None:
    started(everloop.shop, only={"seller": [1, 2]})
    everloop.shop.ask(10, inputs={"seller": 1})
    everloop.shop.ask(30, inputs={"seller": 5})
    told = everloop.shown("endpoints", "live", "kind")
    assert "shares of the requests whose seller is 1 or 2, 25 % of all so far" in told
    assert "kind@1 answers all others" in told


def test_a_failed_check_is_waived_until_the_end_of_a_day(everloop: Shell) -> None:
    ws = everloop.shop.ws
    report = checks.evaluate(
        ws, "kind@2", tables.with_column(tables.shop(), "copy", tables.labels(tables.shop()))
    )
    day = ws.now().date() + timedelta(days=30)
    words = ("models", "waive", report.id, "leakage", "--reason", "known", "--until", day.isoformat())
    assert everloop(*words)["until"].startswith((day + timedelta(days=1)).isoformat())
    assert checks.standing(ws, report.id).is_clear


def test_an_answer_is_corrected_by_its_key_and_the_review_settled(everloop: Shell) -> None:
    everloop.shop.ask(1, key="7")
    said = everloop("feedback", "correct", "kind", "7", "Lamps", "--by-key", "--reporter", "seller")
    assert said["contradicts"]
    (item,) = everloop("feedback", "queue")
    assert everloop("feedback", "settle", item["id"], "Tea")["value"] == "Tea"
    assert feedback.review_queue(everloop.shop.ws) == []


def test_a_job_is_cancelled(everloop: Shell) -> None:
    ws = everloop.shop.ws
    put = ws.write(lambda tx: jobs.put(ws, tx, "train", {"model": "kind"}, reason="a test"))
    everloop("jobs", "cancel", put, "--reason", "wrong data")
    assert everloop("jobs", "show", put)["state"] == "cancelled"


def test_runs_show_their_steps(everloop: Shell) -> None:
    run = registry.version(everloop.shop.ws, "kind@1").run
    assert run is not None
    assert {one["state"] for one in everloop("runs", "steps", run)} == {"done"}
    assert everloop("runs", "show", run)["status"]


def test_a_run_of_the_shop_gives_the_same_bits_again(everloop: Shell) -> None:
    run = registry.version(everloop.shop.ws, "kind@1").run
    assert run is not None
    found = everloop("reproduce", run)
    assert (found["verdict"], found["run"]) == ("identical", run)
    assert [one["id"] for one in everloop("runs", "list", "--kind", "rerun")] == [found["rerun"]]


def test_a_run_keeps_the_seed_that_it_was_given(everloop: Shell) -> None:
    run = everloop("run", "train", "--seed", "7")["run"]
    assert everloop("runs", "show", run)["tags"]["everloop.seed"] == "7"
    before = registry.version(everloop.shop.ws, "kind@2").run
    differing = everloop("runs", "compare", str(before), run)["parameters"]
    assert {"what": "seed", "name": "of the run", "before": "0", "after": "7"} in differing


def test_a_run_is_forked_from_a_step_and_its_model_gated(everloop: Shell) -> None:
    run = str(registry.version(everloop.shop.ws, "kind@1").run)
    forked = everloop("runs", "fork", run, "--from", "fit", "--param", "picky=true")
    assert forked["version"] == "kind@3"
    assert forked["gate_report"]
    states = {one["node"]: one["state"] for one in everloop("runs", "steps", forked["run"])}
    assert (states["split"], states["fit"]) == ("cached", "done")
    assert everloop("runs", "show", forked["run"])["params"] == {"picky": "true"}
    assert everloop("runs", "resume", forked["run"])["version"] == "kind@3"  # it is done already
    assert everloop("runs", "logs", forked["run"]) == []
    assert "is done; only a running one can be paused" in everloop("runs", "pause", forked["run"], code=2)


def test_a_comparison_is_told_part_by_part(everloop: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(everloop.shop.ws.home)
    main(["runs", "compare", "kind@1", "kind@2", "--home", home])
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[1:] if line.startswith("  ") and line[2] != " "] == [
        "code",
        "environment",
        "machine",
        "data",
        "labels",
        "parameters",
        "metrics",
        "answers",
    ]


def test_a_file_is_scored_as_it_would_be_served(everloop: Shell, tmp_path: Path) -> None:
    goods = made_up.goods(everloop.shop.ws, 5, first=300)
    pq.write_table(goods.drop_columns(["kind"]), tmp_path / "goods.parquet")
    answers = everloop("score", "kind@1", str(tmp_path / "goods.parquet"), "--key", "sku")
    assert list(answers) == ["300", "301", "302", "303", "304"]
    assert list(answers.values()) == goods["kind"].to_pylist()


def test_a_dataset_version_and_a_csv_file_are_scored_alike(everloop: Shell, tmp_path: Path) -> None:
    rows = data.read(everloop.shop.ws, "goods").slice(0, 20)
    shown = rows.select(["sku", "title", "seller", "listed_at"])
    csv.write_csv(
        shown.set_column(3, "listed_at", shown["listed_at"].cast(pa.string())), tmp_path / "goods.csv"
    )
    of_version, of_file = (
        everloop("score", "kind@1", "goods@1"),
        everloop("score", "kind@1", str(tmp_path / "goods.csv")),
    )
    assert len(of_version) == 240
    assert of_file == {key: of_version[key] for key in map(str, rows["sku"].to_pylist())}


def test_a_column_that_the_model_cannot_take_is_refused(everloop: Shell, tmp_path: Path) -> None:
    rows = data.read(everloop.shop.ws, "goods").slice(0, 2)
    wrong = rows.set_column(rows.column_names.index("seller"), "seller", pa.array(["Ann", "Bob"]))
    with pytest.raises(Invalid, match="the column 'seller' holds string and the model takes it as integer"):
        loop.score(everloop.shop.ws, "kind@1", wrong)


def test_the_newest_predictions_that_fit_are_listed(everloop: Shell) -> None:
    everloop.shop.ask(3)
    (failed,) = everloop.shop.ask(1, status="failed", output=None, scores={}, error="model_failed: x")
    listed = everloop("predictions", "list", "kind", "--status", "failed", "--limit", "5")
    assert names(listed, "id") == [failed.id]
    day = everloop.shop.ws.now().date().isoformat()
    assert len(everloop("predictions", "list", "kind", "--since", day, "--until", day)) == 4
    assert "is a model's version" in everloop("predictions", "list", "kind", "--version", "new", code=2)


def test_background_work_is_done_on_request(everloop: Shell) -> None:
    living.approve(everloop.shop.ws, "kind@2")
    assert everloop("work")["done"] > 0
    assert [one["version"] for one in everloop("endpoints", "live", "kind")] == ["kind@1", "kind@2"]
    assert everloop("work")["done"] == 0


def test_the_password_of_an_account_can_be_revoked(everloop: Shell) -> None:
    everloop("access", "add", "bob", "--role", "viewer")
    access.set_password(everloop.shop.ws, "bob", "four words, one lake")
    assert everloop("access", "password", "bob", "--revoke") == {"revoked": "bob"}
    assert "has no password" in everloop("access", "password", "bob", "--revoke", code=2)


def test_an_account_gets_a_token_that_can_be_revoked(everloop: Shell) -> None:
    everloop("access", "add", "bob", "--role", "viewer")
    made = everloop("access", "token", "bob")
    assert everloop("access", "revoke", made["id"]) == {"revoked": made["id"]}
    assert everloop("access", "disable", "bob") == {"disabled": "bob"}
    assert "nobody" in everloop("access", "token", "nobody", code=2)


def test_the_prediction_log_is_looked_at_exported_and_erased(everloop: Shell, tmp_path: Path) -> None:
    asked = everloop.shop.ask(3, key="7")
    everloop.shop.ask(1, status="failed", output=None, key="8")
    newest = everloop("predictions", "list", "kind", "--key", "7", "--limit", "2")
    assert names(newest, "id") == [asked[2].id, asked[1].id]
    assert names(everloop("predictions", "list", "kind", "--status", "failed"), "key") == ["8"]
    assert "no endpoint 'kid'" in everloop("predictions", "list", "kid", code=2)
    file = tmp_path / "asked.parquet"
    assert everloop("predictions", "export", "kind", str(file))["rows"] == pq.read_table(file).num_rows == 4
    everloop("predictions", "export", "kid", str(file), code=2)
    assert pq.read_table(file).num_rows == 4, "what is refused leaves the file as it was"
    assert "cannot be written" in everloop("predictions", "export", "kind", str(file / "below"), code=2)
    assert everloop("predictions", "expire", "--dry-run") == []
    assert everloop("predictions", "erase", "7", "--reason", "a request")["predictions"] == 3
    one = everloop.shown("predictions", "erase", "8", "--reason", "a request", "--dry-run")
    assert "1 prediction would be erased, 0 reports of it would lose the key." in one
    assert "1 prediction is erased" in everloop.shown("predictions", "erase", "8", "--reason", "a request")
    assert names(everloop("predictions", "list", "kind"), "key") == [None] * 4
