import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from affectline import work as working
from affectline.plan import Link, Plan
from affectline.work import stages_to_work_on
from affectline.work import work as work_on
from features.cache import arrays, claims, tables
from features.cache.keys import item_key
from features.cache.store import ItemStore, store_root
from features.weights.file import write_seeded
from stages import decode, extract, index
from stages.engine.items import item_path
from stages.engine.params import Params, ParamsError, load_params
from stages.engine.workers import Input, Item, Work, Workers
from tests.conftest import MakeClip

PROJECT = Path(__file__).parents[2]

FEATURES = "extract@sound"
"""The stage whose networks are stood in for by :func:`doubled`."""

RUNS = "train@e"
"""The stage whose runs are stood in for by :func:`one_run`."""


@pytest.fixture
def params(make_clip: MakeClip, in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Three videos, indexed; their sound is what is decoded, in this process."""
    for number in range(3):
        make_clip(f"raw/joy/v{number}.mkv", frames=3, sound_s=0.2 + 0.1 * number)
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    raw |= {"max_failed": 0.5, "engine": {**raw["engine"], "workers": 1}}
    raw["index"]["root"] = "raw"
    raw["backbones"] = {"sound": {"module": "vggish", "view": "sound", "source": "seeded"}}
    raw["experiments"] = {"e": {"head": "pooling", "roles": {"sound": "sound/embedding"}}}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setattr(decode, "workers", lambda engine: Workers(0))
    monkeypatch.setattr(index, "workers", lambda engine: Workers(0))
    monkeypatch.setattr(extract, "work", doubled)
    write_seeded(Path("data/weights/sound.safetensors"), "sound", 0)
    index.main()
    return load_params()


def doubled(params: Params, backbone: str, videos: Iterable[Input]) -> Work[Any]:
    """Stand in for a network: what there is of each video, by its key and its file."""
    items = [
        Item(
            video.video_id,
            {item_key({"of": video.content}): item_path(video.video_id)},
            video.file,
        )
        for video in videos
    ]
    return Work(items, read, Workers(0))


def read(file: Path, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write how long a sound is."""
    for key, path in outputs.items():
        count = len(arrays.read(file)[0]["waveform"])
        arrays.write(path, {"n": np.array([count])}, {"key": key, "pretrained": False})
    return {}


def one_run(monkeypatch: pytest.MonkeyPatch) -> list[tables.Row]:
    """Stand in for training: a run that is made of the features that are there.

    Returns:
        A list that gets the rows of their table.
    """
    rows: list[tables.Row] = []

    def plan_runs(params: Params, experiment: str, root: Path) -> list[Item[Any]]:
        rows[:] = tables.read(root / "tables.parquet")
        files = [store_root() / f"items/{r['key'][:2]}/{r['key']}.h5" for r in rows if r["key"]]  # type: ignore[index]
        key = item_key({"contents": [row["content"] for row in rows]})
        return [Item("split_00", {key: "split_00.h5"}, files)]

    def train_all(files: list[Path], outputs: Mapping[str, Path]) -> dict[str, float]:
        for path in outputs.values():
            path.write_bytes(b"".join(file.read_bytes() for file in files))
        return {}

    monkeypatch.setattr(working.train, "plan_runs", plan_runs)
    monkeypatch.setattr(working.train, "search", lambda run, plan: (plan, []))
    monkeypatch.setattr(working.train, "search", lambda run, runs: (runs, []))
    monkeypatch.setattr(working.train, "work", lambda run, runs: Work(runs, train_all, Workers(0)))
    monkeypatch.setattr(
        Plan,
        "features",
        lambda plan, view, backbone: (
            Link(view.video_id, FEATURES, Path("x"), Path("x/a.h5"), {"of": content})
            if (content := plan.content(view))
            else None
        ),
    )
    return rows


def logs(stage: str) -> dict[str, Any]:
    """Return the counts of this process's worker at a stage."""
    (log,) = Path("logs/work").glob(f"{stage}.*.json")
    counts: dict[str, Any] = json.loads(log.read_text())
    return counts


def test_the_stages_are_gone_through_in_the_order_of_the_flow(params: Params) -> None:
    assert stages_to_work_on(params, [RUNS, FEATURES, "decode"]) == ["decode", FEATURES, RUNS]
    assert stages_to_work_on(params, ["extract"]) == [FEATURES]
    assert stages_to_work_on(params, [], every=True) == ["decode", FEATURES, RUNS]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["extract@sounds"], "'extract@sounds', did you mean 'extract@sound'"),
        (["report"], "expected some of decode, extract@sound, train@e, or --all"),
        (["faces"], "no backbone of params.yaml reads faces"),
        ([], "expected the names of stages, or --all"),
    ],
)
def test_what_is_no_stage_of_a_worker_is_told(
    params: Params, asked: list[str], message: str
) -> None:
    with pytest.raises(ParamsError) as error:
        stages_to_work_on(params, asked)
    assert message in str(error.value)


def test_what_a_worker_has_made_dvc_only_links(params: Params) -> None:
    work_on(params, ["decode", FEATURES])
    assert logs("decode")["computed"] == logs(FEATURES)["computed"] == 3
    assert not Path("data/views").exists() and not Path("logs/decode.json").exists()
    decode.main()
    assert json.loads(Path("logs/decode.json").read_text())["computed"] == 0
    assert len(list(Path("data/views/sound/joy").iterdir())) == 3


def test_a_worker_does_what_is_left_and_no_more(params: Params) -> None:
    work_on(params, ["decode"])
    work_on(params, ["decode", FEATURES])
    assert logs("decode")["computed"] == 0
    assert logs(FEATURES)["computed"] == 3


def test_without_an_index_or_weights_the_command_that_makes_them_is_told(params: Params) -> None:
    Path("data/weights/sound.safetensors").unlink()
    with pytest.raises(ParamsError, match=r"extract@sound needs .*`dvc repro weights@sound`"):
        work_on(params, ["decode", FEATURES])
    assert not list(store_root().glob("items/*/*.h5"))  # told before anything is begun
    write_seeded(Path("data/weights/sound.safetensors"), "sound", 1)
    with pytest.raises(ParamsError, match=r"not the weights that params.yaml asks for"):
        work_on(params, [FEATURES])
    Path("data/index.parquet").unlink()
    with pytest.raises(ParamsError, match="`dvc repro index`"):
        work_on(params, ["decode"])


def test_a_video_that_has_changed_since_it_was_indexed_is_not_decoded_under_its_old_key(
    params: Params, make_clip: MakeClip, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip("raw/joy/v0.mkv", frames=9, sound_s=0.4)
    work_on(params, ["decode"])
    assert logs("decode")["computed"] == 2 and logs("decode")["failed"] == 1
    assert "joy/v0: its file has changed since it was indexed; `dvc repro index`" in said(capsys)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_too_many_failures_end_a_worker_as_they_end_the_stage(
    params: Params, make_clip: MakeClip, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        make_clip(f"raw/joy/v{number}.mkv", frames=9, sound_s=0.4)
    with pytest.raises(SystemExit) as end:
        work_on(params, ["decode", FEATURES])
    assert end.value.code == 1 and "2 of 3 videos failed" in said(capsys)
    assert not list(Path("logs/work").glob("extract*"))


def test_what_others_decode_meanwhile_is_waited_for_and_the_rest_is_left_out(
    params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = decode.work(params, working.tables.read(Path("data/index.parquet")))
    answers = other(whole)
    monkeypatch.setattr(working, "_somebody_works", lambda stages: next(answers))
    monkeypatch.setattr(working, "WAIT_S", 0.0)
    work_on(params, [FEATURES])
    assert logs(FEATURES)["computed"] == 2
    text = said(capsys)
    assert "waiting for decode of 3 videos, made by another" in text
    assert "1 videos are left out" in text and "`affectline work decode`" in text


def other(whole: Work[Any]) -> Iterator[bool]:
    """Stand in for another worker: tell whether it is there, and decode two videos, one a time."""
    store = ItemStore(store_root())
    yield True
    for item in whole.items[:2]:
        with store.staging() as folder:
            paths = {key: folder / f"{key}.h5" for key in item.files}
            decode.compute(item.task, paths)
            for key, path in paths.items():
                store.add(key, path)
        yield True
    yield False


def test_imported_arrays_are_no_work(params: Params) -> None:
    block = {"module": "imported", "view": "none", "source": "imported", "file": "a"}
    more = params.model_dump(by_alias=True, exclude_unset=True)
    more["backbones"]["mine"] = block
    with_import = Params.model_validate(more)
    stages = stages_to_work_on(with_import, [], every=True)
    assert stages == stages_to_work_on(params, [], every=True) == ["decode", FEATURES, RUNS]


def test_who_is_at_work_is_known_and_oneself_does_not_count(params: Params) -> None:
    folder = store_root() / "unfinished"
    with claims.scratch(folder, "next:decode next:faces"):
        assert not working._somebody_works(("decode",))
    with other_process(folder, "next:decode next:faces"):
        assert working._somebody_works(("decode",))
        assert working._somebody_works(("faces", "decode"))
        assert not working._somebody_works(("index",))


def other_process(folder: Path, title: str) -> Any:
    """Hold a scratch folder as another process does: by another name."""
    return claims.held(_titled(folder / "elsewhere-1-a.alive", title))


def _titled(mark: Path, title: str) -> Path:
    mark.write_text(title)
    return mark


def test_runs_are_trained_on_the_features_that_the_stage_would_read(
    params: Params, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = one_run(monkeypatch)
    make_clip("raw/joy/v0.mkv", frames=9, sound_s=0.4)  # it has changed since, and fails
    work_on(params, ["decode", FEATURES, RUNS])
    assert logs(RUNS)["computed"] == 1
    by_id = {str(row.pop("video_id")): row for row in rows}
    failed = by_id.pop("joy/v0")
    assert failed["status"] == "failed" and "has changed since" in str(failed["reason"])
    assert sorted(by_id) == ["joy/v1", "joy/v2"]
    for name, row in by_id.items():
        assert (row["status"], row["pretrained"], row["path"]) == ("ok", False, f"{name}.h5")
        file = ItemStore(store_root()).path(str(row["key"]), ".h5")
        assert row["content"] == arrays.content_sha256(file)


def test_without_all_features_no_run_is_trained(
    params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_run(monkeypatch)
    work_on(params, ["decode", RUNS])
    assert logs(RUNS)["items"] == 0
    assert "of 3 videos there are no features that it reads; `affectline work decode" in said(
        capsys
    )
    work_on(params, [FEATURES, RUNS])
    assert logs(RUNS)["computed"] == 1
