"""What other trackers write, made by those trackers themselves in environments of their own, and by hand."""

from __future__ import annotations

import os
import struct
import subprocess
import textwrap
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from everloop.adapters.record_files import masked_crc32c
from tests.peer import peer

MLFLOW = """
    import math, sys
    import mlflow
    from mlflow import MlflowClient

    mlflow.set_tracking_uri(sys.argv[1])
    is_new = int(mlflow.__version__.split(".")[0]) >= 3
    client = MlflowClient()
    number = client.create_experiment("prices", tags={"team": "listings"})
    mlflow.set_experiment("prices")
    with mlflow.start_run(run_name="parent", description="the first try"):
        mlflow.log_params({"lr": 0.1, "depth": 4})
        mlflow.set_tag("owner", "ana")
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metric("odd", math.nan)
        mlflow.log_metric("odd", math.inf, step=1)
        mlflow.log_text("hello", "notes/hello.txt")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_param("lr", 0.2)
        if "model" in sys.argv:
            import pandas as pd
            from sklearn.linear_model import LogisticRegression

            rows = pd.DataFrame({"x": [0.0, 1, 2, 3]})
            fitted = LogisticRegression().fit(rows, [0, 0, 1, 1])
            mlflow.log_input(mlflow.data.from_pandas(rows, source="rows.csv", name="rows"), context="training")
            signature = mlflow.models.infer_signature(rows, fitted.predict(rows))
            named = {"name": "model"} if is_new else {"artifact_path": "model"}
            # named needs spare MLflow the half minute in which it would find them out
            told = {"signature": signature, "registered_model_name": "price", "pip_requirements": ["scikit-learn"]}
            for _ in range(3):
                mlflow.sklearn.log_model(fitted, **named, **told)
            client.delete_model_version("price", "2")
            client.update_registered_model("price", "of listings")
            client.set_registered_model_tag("price", "unit", "EUR")
            client.update_model_version("price", "3", "the third")
            client.set_model_version_tag("price", "3", "checked", "yes")
            client.set_registered_model_alias("price", "champion", "3")
            client.transition_model_version_stage("price", "1", "Production")
    failed = client.create_run(number, run_name="failed")
    client.set_terminated(failed.info.run_id, "FAILED")
    gone = client.create_run(number, run_name="gone")
    client.delete_run(gone.info.run_id)
    client.create_run(number, run_name="running")
"""

WANDB = """
    import math, os, sys
    import numpy as np
    import wandb
    from PIL import Image

    first = wandb.init(
        project="prices", id="first000", name="first", group="trees", job_type="train", tags=["a", "b"], notes="a note",
        config={"lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.99]}}, dir=sys.argv[1],
    )
    for step in range(2000):
        first.log({"loss": 1 / (step + 1), "inner": {"x": step}})
    first.log({"odd": math.nan, "said": "hello", "spread": wandb.Histogram([1, 2, 3])})
    first.log({"picture": wandb.Image(np.zeros((4, 4, 3), dtype=np.uint8))})
    first.log({"late": math.inf}, step=200_000)
    first.summary["best"] = 0.25
    first.summary["verdict"] = "good"
    first.config.update({"later": True})
    with open(os.path.join(first.dir, "own.txt"), "w") as file:
        file.write("mine")
    first.finish(exit_code=0)
    second = wandb.init(project="prices", id="second00", dir=sys.argv[1], config={"lr": 0.3})
    second.log({"loss": 3.0})
    second.finish(exit_code=3)
"""

TENSORBOARD = """
    import sys, time
    import numpy as np
    from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
    from tensorboard.plugins.hparams import summary_v2 as parameters
    from tensorboard.plugins.scalar import metadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboardX import SummaryWriter

    folder = sys.argv[1]
    writer = SummaryWriter(folder + "/a")
    for step in range(10):
        writer.add_scalar("loss", 1 / (step + 1), step)
    writer.add_text("note", "hello", 1)
    writer.add_histogram("spread", np.arange(10.0), 1)
    writer.add_image("picture", np.zeros((3, 4, 4), dtype=np.uint8), 2)
    writer.close()
    writer = SummaryWriter(folder + "/a", filename_suffix=".second")
    writer.add_scalar("loss", 9.0, 100)
    writer.close()
    writer = SummaryWriter(folder + "/a/sub")
    writer.add_scalar("acc", 0.5, 1)
    writer.close()

    writer = EventFileWriter(folder + "/tensors")
    tensors = [
        dict(dtype=types_pb2.DT_FLOAT, float_val=[2.5]),
        dict(dtype=types_pb2.DT_DOUBLE, double_val=[3.5]),
        dict(dtype=types_pb2.DT_FLOAT, tensor_content=np.float32(4.5).tobytes()),
        dict(dtype=types_pb2.DT_INT64, int64_val=[-7]),
        dict(dtype=types_pb2.DT_HALF, tensor_content=np.float16(1.5).tobytes()),
        dict(dtype=types_pb2.DT_HALF, half_val=[int(np.float16(1.25).view(np.uint16))]),
        dict(dtype=types_pb2.DT_BOOL, bool_val=[True]),
        dict(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0]),
    ]
    for step, tensor in enumerate(tensors):
        about = metadata.create_summary_metadata("", "") if step == 0 else None
        value = summary_pb2.Summary.Value(tag="loss", tensor=tensor_pb2.TensorProto(**tensor), metadata=about)
        writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=[value])))
    told = parameters.hparams_pb({"layers": 3, "drop": 0.5, "act": "relu", "wide": True}, trial_id="one", start_time_secs=1)
    writer.add_event(event_pb2.Event(wall_time=time.time(), summary=told))
    writer.close()
"""


def written_by(environment: str, script: str, *arguments: str) -> None:
    """Run a script in a peer's environment, in the folder that its first argument is in, or names."""
    plain = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}  # noqa: TID251  (a child's)
    settings = {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    command = [str(peer(environment) / "python"), "-c", textwrap.dedent(script), *arguments]
    subprocess.run(command, env=plain | settings, check=True, capture_output=True, timeout=300)


def mlflow_folder(folder: Path, runs: int, *, points: int = 3) -> Path:
    """A folder `mlruns` as MLflow's file store writes it, with an experiment of so many runs."""
    place = folder / "mlruns" / "1"
    write(
        place / "meta.yaml",
        "artifact_location: mlruns/1\nexperiment_id: '1'\nlifecycle_stage: active\nname: prices\n",
    )
    for number in range(runs):
        mlflow_run(place, number, points=points)
    return folder / "mlruns"


def mlflow_run(experiment: Path, number: int, *, points: int = 3) -> Path:
    run = experiment / f"{number:032x}"
    began = 1_700_000_000_000 + number
    write(
        run / "meta.yaml",
        f"artifact_uri: {run}/artifacts\nend_time: {began + 5000}\nexperiment_id: '1'\nlifecycle_stage: active\n"
        f"run_id: {run.name}\nrun_name: run {number}\nstart_time: {began}\nstatus: 3\nuser_id: ana\n",
    )
    write(run / "params" / "lr", f"0.{number}")
    write(run / "tags" / "owner", "ana")
    write(
        run / "metrics" / "loss",
        "".join(f"{began + step} {1 / (step + 1)} {step}\n" for step in range(points)),
    )
    write(run / "artifacts" / "notes" / "hello.txt", f"hello {number}")
    return run


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def message(*told: tuple[int, int | float | str | bytes]) -> bytes:
    """A protocol buffer of numbered fields; a float is a double."""
    parts = []
    for number, value in told:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value & (1 << 64) - 1))
        elif isinstance(value, float):
            parts.append(varint(number << 3 | 1) + struct.pack("<d", value))
        else:
            content = value.encode() if isinstance(value, str) else value
            parts.append(varint(number << 3 | 2) + varint(len(content)) + content)
    return b"".join(parts)


def varint(value: int) -> bytes:
    more = bytearray()
    while value > 0x7F:
        more.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*more, value])


def wandb_file(file: Path, records: Iterable[bytes]) -> Path:
    """A record file as wandb writes it: a header, then chunks that do not cross blocks of 32 KB."""
    data = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        left, is_first = record, True
        while is_first or left:
            room = 32768 - len(data) % 32768
            if room < 7:
                data += bytes(room)
                continue
            part, left = left[: room - 7], left[room - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[
                is_first, not left
            ]
            body = bytes([kind]) + part
            data += zlib.crc32(body).to_bytes(4, "little") + len(part).to_bytes(2, "little") + body
            is_first = False
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def wandb_run(
    folder: Path, *, rows: Sequence[dict[str, str]], run_id: str = "abc", exit_code: int | None = 0
) -> Path:
    """A run's folder with a history; values are JSON."""
    began = message((1, 1_700_000_000), (2, 0))
    told = message((1, run_id), (3, "prices"), (8, "a run"), (17, began))
    records = [message((17, told))]
    for step, row in enumerate(rows):
        own = {"_step": str(step), "_timestamp": str(1_700_000_000 + step), **row}
        items = [(1, message((2, name), (16, value))) for name, value in own.items()]
        records.append(message((2, message(*items, (2, message((1, step)))))))
    if exit_code is not None:
        records.append(message((18, message((1, exit_code), (2, 60)))))
    return wandb_file(
        folder / "wandb" / f"offline-run-20231114_221320-{run_id}" / f"run-{run_id}.wandb", records
    )


def event_file(file: Path, events: Iterable[bytes]) -> Path:
    """A record file as TensorFlow writes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        for event in events:
            length = len(event).to_bytes(8, "little")
            for part in (length, event):
                out.write(part + masked_crc32c(part).to_bytes(4, "little"))
    return file


def scalar(tag: str, value: float, step: int, *, at: float = 1_700_000_000.0) -> bytes:
    """An event with one number, in the form of a tensor."""
    tensor = message((1, 2), (4, struct.pack("<d", value)))
    return message((1, at), (2, step), (5, message((1, message((1, tag), (8, tensor))))))
