import json
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from torch import Tensor, nn

from features.cache import arrays, tables
from features.networks import extraction, streams
from features.weights.file import write_seeded
from stages import extract
from stages.engine.outputs import INDEX
from stages.engine.params import load_params
from stages.engine.workers import Input, Item, Job

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(in_folder: Path) -> Path:
    """Two videos' sound, one without any, and vggish with seeded weights."""
    (in_folder / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    tone = np.sin(np.arange(32_000) / 20).astype(np.float32)
    rows = []
    for name, waveform in (("loud", tone), ("silent", tone[:0])):
        rate_hz = 16_000 if len(waveform) else 0
        attributes = {"key": name, "sample_rate_hz": rate_hz, "start_s": 0.5}
        arrays.write(Path(f"data/views/sound/joy/{name}.h5"), {"waveform": waveform}, attributes)
        rows.append({"video_id": f"joy/{name}", "content": name, "path": f"joy/{name}.h5"})
    rows = [{**row, "label": "joy", "status": "ok"} for row in rows]
    rows.append({"video_id": "joy/bad", "label": "joy", "status": "failed", "reason": "empty"})
    schema = pa.schema([*INDEX.items(), ("rows", pa.int32())])
    tables.write(Path("data/views/sound.parquet"), rows, schema)
    write_seeded(Path("data/weights/vggish.safetensors"), "vggish", 3)
    return in_folder


def run() -> dict[str, int]:
    extract.main("vggish")
    log: dict[str, int] = json.loads(Path("logs/extract@vggish.json").read_text())
    return log


def change(max_failed: float = 0.5, runtime: str = "torch", **block: object) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["max_failed"] = max_failed
    raw["engine"]["runtime"] = runtime
    raw["backbones"]["vggish"] |= block
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def test_features_say_what_they_came_from_and_missing_sound_is_no_row(project: Path) -> None:
    change()
    assert run()["computed"] == 2
    rows = {row["video_id"]: row for row in tables.read(Path("data/tables/vggish.parquet"))}
    assert [rows[f"joy/{n}"]["rows"] for n in ("loud", "silent", "bad")] == [2, 0, None]
    assert rows["joy/bad"]["reason"] == "empty"
    found, said = arrays.read(Path("data/features/vggish/joy/loud.h5"))
    assert found["embedding"].shape == (2, 128) and found["embedding"].dtype == np.float16
    assert said["axes"] == {"embedding": "T D", "index": "T", "pts_s": "T", "valid": "T"}
    np.testing.assert_allclose(found["pts_s"], [0.5, 1.46])
    assert (said["pretrained"], said["key"]) == (False, rows["joy/loud"]["key"])
    assert said["packing"] == arrays.COMPACT.note
    made_of = said["ingredients"]
    assert isinstance(made_of, dict)
    assert (made_of["input"], made_of["precision"]) == ("loud", "float32")
    assert arrays.read(Path("data/features/vggish/joy/silent.h5"))[0]["embedding"].shape == (0, 128)


def test_what_is_done_is_let_go_where_nothing_is_left_to_take_for_a_while(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may wait for it, while this one waits for what that one has."""
    monkeypatch.setattr(extract, "_is_done", lambda future: False)  # it is never quick enough
    network = extract.Network(
        "vggish", "{}", "float32", Path("data/weights/vggish.safetensors"), "cpu"
    )
    task = extract.Task(Path("data/views/sound/joy/silent.h5"), network, {}, {})
    job = Job(Item("joy/silent", {"k": "joy/silent.h5"}, task), ("k",), {"k": Path("made.h5")})
    left = [None] * 50

    def jobs() -> Generator[Job[extract.Task] | None, None, None]:
        yield job
        while left:
            yield left.pop()

    results = extract.computed_together(network, print, jobs())
    done, counts = next(results)
    assert done is job and isinstance(counts, dict)
    assert left  # not only when all is over
    results.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the precisions that are asked for; all is computed in float32, which is quick."""
    precisions: list[object] = []

    def spy(network: nn.Module, precision: str) -> extraction.Forward:
        precisions.append(precision)
        return extraction.forward_of(network, "float32")

    extract._loaded.cache_clear()
    monkeypatch.setattr(extract, "forward_of", spy)
    return precisions


def test_what_matters_computes_anew_and_what_does_not_is_reused(
    project: Path, asked: list[object]
) -> None:
    change()
    run()
    first = Path("data/features/vggish/joy/loud.h5").read_bytes()
    change(file=None)
    assert run()["computed"] == 0
    change(precision="bfloat16")
    assert run()["computed"] == 2
    change(precision="float32", options={"relu": True})
    assert run()["computed"] == 2
    relu = arrays.read(Path("data/features/vggish/joy/loud.h5"))[0]["embedding"]
    assert relu.min() == 0
    change(options={})
    assert run()["computed"] == 0
    assert Path("data/features/vggish/joy/loud.h5").read_bytes() == first


def test_a_view_that_cannot_be_read_costs_its_own_row(project: Path) -> None:
    """Reading is done ahead, in a thread: what fails there is the video's reason all the same."""
    change(max_failed=1.0)
    path = Path("data/views/sound/joy/loud.h5")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert run()["failed"] == 1
    rows = {row["video_id"]: row for row in tables.read(Path("data/tables/vggish.parquet"))}
    assert "joy/loud.h5: expected a whole array file" in str(rows["joy/loud"]["reason"])
    assert rows["joy/silent"]["status"] == "ok"
    path.write_bytes(whole)
    assert run()["computed"] == 1


@pytest.mark.slow  # to make a graph of a network takes seconds
def test_a_runtime_is_in_the_file_and_not_in_the_key(project: Path) -> None:
    path = Path("data/features/vggish/joy/loud.h5")
    change()
    run()
    in_torch, said = arrays.read(path)
    assert said["runtime"] == "torch"
    change(runtime="openvino")
    assert run()["computed"] == 0
    shutil.rmtree(".store/items")
    shutil.rmtree("data/features")
    assert run()["computed"] == 2
    in_openvino, told = arrays.read(path)
    assert (told["runtime"], told["key"]) == ("openvino", said["key"])
    one, other = (each["embedding"].astype(np.float64) for each in (in_torch, in_openvino))
    assert np.abs(one - other).max() <= 1e-3 * np.abs(one).max()
    first = path.read_bytes()
    for name in (".store/items", "data/features"):
        shutil.rmtree(name)
    assert run()["computed"] == 2  # by what is remembered
    assert path.read_bytes() == first


@pytest.mark.parametrize("has_it", [True, False])
def test_bfloat16_without_its_instructions_is_told(
    project: Path,
    asked: list[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    has_it: bool,
) -> None:
    monkeypatch.setattr(extract, "has_bfloat16", lambda: has_it)
    change(precision="bfloat16", runtime="openvino")
    run()
    said = capsys.readouterr().err
    assert ("about 6 times slower than in float32" in said) is not has_it
    assert arrays.read_attributes(Path("data/features/vggish/joy/loud.h5"))["runtime"] == "torch"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_of_a_block_reaches_the_network(
    project: Path, asked: list[object], precision: str
) -> None:
    change(precision=precision)
    run()
    assert asked == [precision]


def test_a_feature_is_stored_as_its_block_says(project: Path) -> None:
    change(dtypes={"embedding": "float32"})
    assert run()["computed"] == 2
    whole, said = arrays.read(Path("data/features/vggish/joy/loud.h5"))
    assert whole["embedding"].dtype == np.float32
    assert isinstance(said["ingredients"], dict)
    assert said["ingredients"]["dtypes"] == {"embedding": "float32"}
    change(dtypes={"embedding": "float16"})
    assert run()["computed"] == 2
    half, _ = arrays.read(Path("data/features/vggish/joy/loud.h5"))
    np.testing.assert_array_equal(half["embedding"], whole["embedding"].astype(np.float16))
    change(dtypes={})  # which is the same
    assert run()["computed"] == 0


def test_a_view_that_the_module_cannot_read_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(view="uniform")
    with pytest.raises(SystemExit):
        run()
    said = " ".join(capsys.readouterr().err.split())
    assert "backbones.vggish.view: found 'uniform', vggish reads sound" in said


def test_tf32_is_refused_without_a_gpu(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(precision="tf32")
    with pytest.raises(SystemExit):
        run()
    said = " ".join(capsys.readouterr().err.split())
    assert "backbones.vggish.precision: tf32" in said and "networks run on cpu here" in said


def test_a_gpu_has_larger_batches_several_in_flight_and_readers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "device_of", lambda engine: "cuda")
    monkeypatch.setattr("stages.engine.workers.devices_of", lambda engine, device: ())
    monkeypatch.setattr("stages.engine.device.devices_of", lambda engine, device: ())
    change(runtime="auto")
    params = load_params()
    extract._loaded.cache_clear()
    monkeypatch.setattr(extract, "_loaded", lambda network: nn.Identity())
    taken: list[tuple[int, str, bool]] = []

    def on_gpu(
        network: nn.Module, precision: str, rows: Tensor, *, may_record: bool, note: object
    ) -> tuple[str, Callable[[Tensor], dict[str, Tensor]]]:
        taken.append((len(rows), precision, may_record))
        return "torch, CUDA graph", lambda batch: {"y": batch}

    monkeypatch.setattr(streams, "on_gpu", on_gpu)
    (item,) = extract.work(params, "vggish", [Input("joy/loud", "c", Path("loud.h5"))]).items
    network: Any = item.task.network
    running = extract.Running(network)
    running.begin(torch.zeros(5, 2))
    assert taken == [(48, "float32", True)] and network.batch == 48
    assert (running.runtime, running.at_once) == ("torch, CUDA graph", 3)
    assert network.readers == 0  # of sound a thread is enough
    frames = next(iter(name for name, block in params.backbones.items() if block.view != "sound"))
    write_seeded(Path(f"data/weights/{frames}.safetensors"), frames, 3)
    (item,) = extract.work(params, frames, [Input("joy/loud", "c", Path("loud.h5"))]).items
    assert item.task.network.readers > 0


@pytest.mark.slow  # a process imports torch
def test_what_readers_prepare_is_what_a_thread_prepares(project: Path) -> None:
    """In the order of the jobs; what cannot be read is its video's error."""
    weights = Path("data/weights/vggish.safetensors")
    paths = {name: Path(f"data/views/sound/joy/{name}.h5") for name in ("loud", "silent")}
    paths["none"] = Path("data/views/sound/joy/none.h5")

    def made(readers: int) -> dict[str, object]:
        network = extract.Network("vggish", "{}", "float32", weights, "cpu", readers=readers)

        def jobs() -> Generator[Job[extract.Task] | None, None, None]:
            for number, name in enumerate(("loud", "none", "silent", "loud")):
                task = extract.Task(paths[name], network, {}, {})
                out = {} if number == 3 else {"k": Path(f"{readers}_{name}.h5")}
                yield Job(Item(name, {"k": name}, task), ("k",), out)
                yield None

        results = extract.computed_together(network, print, jobs())
        kinds = [(job.item.name, result) for job, result in results]
        files = {name: Path(f"{readers}_{name}.h5").read_bytes() for name in ("loud", "silent")}
        order = [(name, type(result).__name__, str(result)[:60]) for name, result in kinds[1:2]]
        return {"files": files, "order": [name for name, _ in kinds], "failed": order}

    by_thread = made(0)
    assert by_thread["order"] == ["loud", "none", "silent", "loud"]
    assert "none.h5: expected a whole array file" in str(by_thread["failed"])
    assert made(1) == by_thread
