import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from features.cache import arrays, tables
from features.video import decode as video
from features.video import sound
from features.video.views import View
from stages import decode, index
from stages.decode import ALL_VIEWS
from stages.engine.params import Params
from stages.engine.progress import StageRun
from stages.engine.workers import Work, Workers
from tests.conftest import MakeClip, write_clip

PROJECT = Path(__file__).parents[2]
SEGMENTS = View("segments", 4, 64)


def params(*views: str) -> Params:
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    block = {"module": "vgg16", "source": "seeded"}
    raw["backbones"] = {f"b{n}": {**block, "view": view} for n, view in enumerate(views)}
    raw["experiments"] = {"e": {"head": "average", "roles": {"any": "b0/fc6"}}}
    return Params.model_validate(raw)


@pytest.mark.parametrize(
    ("read", "decoded"),
    [
        (["sound"], ["sound"]),
        (["faces"], ["segments"]),
        (["faces", "segments", "uniform"], ["segments", "uniform"]),
        (["snippets", "sound", "sound"], ["snippets", "sound"]),
    ],
)
def test_only_the_views_that_backbones_read_are_decoded(
    read: list[str], decoded: list[str]
) -> None:
    assert list(decode.wanted_views(params(*read))) == decoded


def row(sha256: str = "f00", video_id: str = "joy/a") -> dict[str, object]:
    return {"video_id": video_id, "sha256": sha256}


@pytest.mark.parametrize(("view", "failed"), [("none", False), ("sound", True)])
def test_of_features_alone_there_is_nothing_to_decode(
    in_folder: Path, view: str, failed: bool
) -> None:
    raw = params("sound").model_dump(by_alias=True, exclude_unset=True)
    block = {"module": "imported", "source": "imported", "file": "a.safetensors"}
    raw["backbones"] = {"b0": {**(raw["backbones"]["b0"] if failed else block), "view": view}}
    raw["index"]["root"] = "v.csv"
    raw["max_failed"] = 1.0
    raw["engine"]["workers"] = 1
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    rows = [
        {"video_id": f"joy/{name}", "label": "joy", "sha256": name, "status": "ok"}
        for name in ("a", "b")
    ]
    rows.append({"video_id": "joy/c", "label": "joy", "status": "failed", "reason": "no name"})
    tables.write(Path("data/index.parquet"), rows, pa.schema(list(index.COLUMNS.items())))
    decode.main()
    listed = {row["video_id"]: row for row in tables.read(Path("data/views/none.parquet"))}
    assert [listed[f"joy/{name}"]["status"] for name in "abc"] == ["ok", "ok", "failed"]
    assert listed["joy/c"]["reason"] == "no name"
    sound = {row["video_id"]: row for row in tables.read(Path("data/views/sound.parquet"))}
    reasons = {str(row["reason"]).partition(":")[0] for row in sound.values()}
    assert reasons == ({"no name", "the data set has features alone and no videos"} & reasons)
    assert bool(sound) == failed and len(reasons) == 2 * failed


def test_a_views_key_knows_the_content_the_view_and_the_seed_but_no_name() -> None:
    views = {"segments": SEGMENTS, "sound": None}
    item = decode._item(row(), Path("a.mp4"), views, 0)
    assert list(item.files) == list(decode._item(row(), Path("b.avi"), views, 0).files)
    moved = decode._item(row(video_id="fear/b"), Path("b.avi"), views, 0)
    assert list(item.files) == list(moved.files)
    assert list(moved.files.values()) == ["segments/fear/b.h5", "sound/fear/b.h5"]
    other = [
        decode._item(row("bad"), Path("a.mp4"), views, 0),
        decode._item(row(), Path("a.mp4"), views, 1),
        decode._item(row(), Path("a.mp4"), {"segments": View("segments", 5, 64)}, 0),
    ]
    for changed in other:
        assert next(iter(changed.files)) != next(iter(item.files))
    alone = decode._item(row(), Path("a.mp4"), {"sound": None}, 0)
    assert set(alone.files) < set(item.files)  # another view changes no key


def test_only_the_views_asked_for_are_written_and_say_what_they_are(make_clip: MakeClip) -> None:
    clip = make_clip(frames=20, sound_s=2.0)
    views = {"segments": SEGMENTS, "snippets": View("snippets", 2, 64, 3), "sound": None}
    item = decode._item(row(), clip, views, 0)
    keys = {path.split("/")[0]: key for key, path in item.files.items()}
    for names in (["segments", "sound"], ["snippets"], ["sound"]):
        outputs = {keys[name]: clip.with_name(f"{name}.h5") for name in names}
        counts = decode.compute(item.task, outputs)
        assert counts["frames_decoded"] == (0 if names == ["sound"] else 20)
    found, said = arrays.read(clip.with_name("segments.h5"))
    assert found["frames"].shape == (4, 48, 64, 3) and said["rows"] == 4
    assert said["key"] == keys["segments"]
    assert said["axes"]["frames"] == "T H W C"  # type: ignore[index]
    found, said = arrays.read(clip.with_name("snippets.h5"))
    assert found["frames"].shape == (2, 3, 48, 64, 3)
    assert said["axes"]["frames"] == "T L H W C"  # type: ignore[index]
    found, said = arrays.read(clip.with_name("sound.h5"))
    assert (said["sample_rate_hz"], said["start_s"]) == (16_000, 0)
    assert said["rows"] == len(found["waveform"]) and "interlaced" not in said
    assert np.abs(found["waveform"]).max() > 0.3


def test_the_index_of_a_view_says_how_many_frames_were_deinterlaced(in_folder: Path) -> None:
    write_clip(Path("raw/joy/fields.mp4"), frames=9, options={"flags": "+ildct+ilme"}, sound_s=1.0)
    write_clip(Path("raw/joy/whole.mp4"), frames=9)
    text = (PROJECT / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("root: data/sample", "root: raw"))
    rows = [
        {"video_id": f"joy/{name}", "label": "joy", "file": f"joy/{name}.mp4", "sha256": name * 8}
        | {"status": "ok", "reason": None}
        for name in ("fields", "whole")
    ]
    schema = pa.schema([(name, pa.string()) for name in rows[0]])
    tables.write(Path("data/index.parquet"), rows, schema)
    decode.main()
    segments = tables.read(Path("data/views/segments.parquet"))
    assert {r["video_id"]: r["interlaced"] for r in segments} == {"joy/fields": 9, "joy/whole": 0}
    assert "interlaced" not in tables.read(Path("data/views/sound.parquet"))[0]


def test_sound_that_cannot_be_had_costs_no_frames_and_frames_no_sound(
    make_clip: MakeClip, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip("raw/joy/a.mkv", frames=20, sound_s=2.0)
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    raw |= {"max_failed": 1.0, "engine": {**raw["engine"], "workers": 1}}
    raw["index"]["root"] = "raw"
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    index.main()
    monkeypatch.setattr(decode, "run_items", partial(run_items_here, decode.run_items))

    def run() -> dict[str, object]:
        decode.main()
        return {
            name: tables.read(Path(f"data/views/{name}.parquet"))[0]["reason"]
            for name in ("segments", "sound")
        }

    monkeypatch.setattr(sound, "MAX_SAMPLES", 10_000)
    assert run() == {"segments": None, "sound": "its sound has more than 10,000 samples"}
    assert Path("data/views/segments/joy/a.h5").is_file()
    files = {name: [f.name for f in Path("data/views", name).iterdir()] for name in ALL_VIEWS}
    assert files["sound"] == files["snippets"] == ["empty.txt"]  # no frames, no sound, no reader
    monkeypatch.setattr(sound, "MAX_SAMPLES", 1 << 20)
    monkeypatch.setattr(video, "MAX_VIEW_BYTES", 10)
    shutil.rmtree(".store")
    found = run()
    assert "too much memory" in str(found["segments"]) and found["sound"] is None


def run_items_here(
    run_items: Callable[..., object], run: StageRun, work: Work[decode.Task], out: Path
) -> object:
    """Compute in this process, where what a test has changed holds."""
    return run_items(run, replace(work, pool=Workers(0)), out)


def test_sound_is_handed_to_the_file_in_blocks(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "BLOCK", 3000)
    lengths: list[int] = []
    write = arrays.write

    def spy(path: Path, data: dict[str, arrays.Blocks], *rest: Any) -> None:
        parts = data["waveform"].parts
        counted = (lengths.append(len(part)) or part for part in parts)  # type: ignore[func-returns-value]
        write(path, {"waveform": replace(data["waveform"], parts=counted)}, *rest)

    monkeypatch.setattr(arrays, "write", spy)
    item = decode._item(row(), make_clip(frames=3, sound_s=2.0), {"sound": None}, 0)
    decode.compute(item.task, {next(iter(item.files)): tmp_path / "sound.h5"})
    assert max(lengths) == 3000 and len(lengths) > 10
